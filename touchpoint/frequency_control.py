"""Who gets today's touches: the next one goes where it is worth most, at a price with two sides.

The ceiling's price is what the best touch that was not made would have added. Users whose curve still rises
get at least `floor` touches while theirs are expected to add anything; what that costs is the floor's price.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernel.errors import BadInput
from kernel.randomness import unit
from touchpoint.hazard import Floats

Truths = NDArray[np.bool_]
#: P(a user whose number of touches is drawn is touched on a day before that number is reached)
DRAWN_RATE = 0.9
#: exposures of drawn users, of each segment, that ground its curve well enough
_ENOUGH = 1000
#: of the users that are declared to be drawn, the part that stays drawn: so that a change is noticed
_STAYS = 0.25
#: how far the price that is looked ahead with moves towards the day's
_FOLLOWS = 0.25


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """Of each user whether she is touched, and the two prices of that, in major units a touch."""

    touched: Truths
    #: what one touch more in the budget would have added; 0 when the budget was not used up
    ceiling: float
    #: what one touch fewer in the floor would have added; 0 when the floor did not bind
    floor: float


def choose(gain: Floats, rising: Truths, *, budget: int, floor: int = 0) -> Chosen:
    """`gain` of each user, −inf for who must not be touched; `rising`: whose curve still rises. Nobody is
    touched whose gain is not above 0. Of equals, the first in order. Raises BadInput for a floor above the
    budget."""
    if not 0 <= floor <= budget:
        raise BadInput(f"is not within 0 and the budget {budget}", field="floor", value=floor)
    order = np.flatnonzero(gain > 0)
    order = order[np.argsort(-gain[order], kind="stable")]
    touched = np.zeros(len(gain), bool)
    free = order[:budget]
    reached = order[rising[order]]
    lacking = min(floor, len(reached)) - int(rising[free].sum())
    if lacking <= 0:
        touched[free] = True
        ceiling = float(gain[order[budget]]) if len(order) > budget else 0.0
        return Chosen(touched=touched, ceiling=ceiling, floor=0.0)
    must = reached[: min(floor, len(reached))]
    others = order[~rising[order]][: budget - len(must)]
    touched[must] = True
    touched[others] = True
    left = gain[order[~touched[order]]]
    ceiling = float(left.max()) if len(left) and touched.sum() >= budget else 0.0
    return Chosen(touched=touched, ceiling=ceiling, floor=max(0.0, ceiling - float(gain[must[-1]])))


def first_then(gain: Floats, curious: Floats) -> Floats:
    """`gain` where it is above 0; else `curious`, so small that whoever has it comes after all others."""
    return np.asarray(np.where((gain > 0) | (curious <= 0), gain, 1e-9 * curious), float)


def follow(price: float, ceiling: float) -> float:
    """The price to look ahead with tomorrow."""
    return price + _FOLLOWS * (ceiling - price)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A user whose number of touches is drawn, not chosen."""

    #: touches until an outcome, or until counting begins anew
    target: int
    #: P(this target): every number from 0 to `at_most` alike
    propensity: float
    #: uniform on [0, 1); on a day she is touched when it is below `DRAWN_RATE` and the target is not reached
    coin: float

    def touched(self, k: int) -> bool:
        return k < self.target and self.coin < DRAWN_RATE


def first_share(declared: float, *, users: int, segments: int, at_most: int) -> float:
    """Part of the users whose number of touches is drawn at first: as declared, and no more than are needed
    for enough exposures, at `at_most` / 2 each."""
    return min(declared, _ENOUGH * segments / max(users * at_most / 2, 1.0))


def drawn_share(declared: float, before: float, *, seen: float, segments: int) -> float:
    """The same on a later day: smaller from day to day once those who are drawn have had enough exposures. It
    does not rise again: who was let go is steered, and nothing that she saw since was drawn.

    `before`: the last day's. `seen`: exposures of those who were drawn then."""
    fewer = before * min(1.0, _ENOUGH * segments / max(seen, 1.0))
    return max(min(_STAYS * declared, before), fewer)


def is_drawn(user: object, name: str, share: float) -> bool:
    """Whether a user belongs to the randomised part of the frequency `name`; whoever belongs to a smaller one
    belongs to a larger one too."""
    return unit(user, f"frequency {name}") < share


def draw(user: object, name: str, at_most: int, day: int, window: int) -> Drawn:
    """Her target, the same for `window` days on end, and the day's coin. Nothing that is known of a user
    moves either."""
    term = unit(user, f"frequency {name} target {day // window}")
    return Drawn(
        target=min(int(term * (at_most + 1)), at_most),
        propensity=1.0 / (at_most + 1),
        coin=unit(user, f"frequency {name} coin {day}"),
    )
