"""The price of a touch through the day: dearer when more is spent than is due, cheaper when less.

Dual mirror descent with the entropy as regulariser (Balseiro, Lu, Mirrokni, The Best of Many Worlds,
Operations Research, 2023), followed lazily: the price depends on sums only, so whoever asks in whichever
order gets the same one.
"""

from __future__ import annotations

import math

from kernel.errors import BadInput

#: a touch is twice as dear when this part of the budget was spent too early
_DOUBLES = 0.025
#: the price moves between these parts and multiples of the one that was planned
_FARTHEST = 4096.0


def price_now(planned: float, *, spent: float, share: float, budget: float) -> float:
    """Of one touch, in units of `planned`, when `spent` of a day's `budget` of touches is spent and `share`
    of it is due (0 … 1). Infinite when nothing is left. Raises BadInput for values that are none."""
    for field, value in (("planned", planned), ("spent", spent), ("budget", budget)):
        if not 0 <= value < math.inf:
            raise BadInput("is not a number from 0 on", where="pacing", field=field, value=value)
    if not 0 <= share <= 1:
        raise BadInput("is not within 0 and 1", where="pacing", field="share", value=share)
    if spent >= budget:
        return math.inf
    ahead = (spent - share * budget) / budget
    reach = math.log(_FARTHEST)
    return planned * math.exp(min(reach, max(-reach, ahead * math.log(2.0) / _DOUBLES)))
