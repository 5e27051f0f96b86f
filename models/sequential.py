"""Reading an experiment at every look: intervals and p-values that hold at all of them at once.

Robbins' normal mixture (1970), which is the mixture SPRT of Johari, Pekelis & Walsh (2022), on an effect that
is asymptotically normal with an estimated standard error: the asymptotic confidence sequence of Waudby-Smith,
Arbour, Sinha, Kennedy & Ramdas (2021). With n users so far and m = n ρ², the effect lies within

    effect ± se √( (1 + 1/m) · ln((1 + m) / α²) )

at every n at once with probability 1 − α. ρ² is fixed before the first look, so that the interval is as
narrow as it can be at the planned number of users; elsewhere it holds too, and is wider. At the planned
number it is 1.55 times as wide as the interval of a single look (α = 0.05). It is asymptotic: with fewer
than `FEWEST` users a variant, or fewer than `INFORMATIVE` of them that differ from the usual value, nothing
is said at all, and leaving out looks harms no guarantee (a delayed start: Bibaut, Kallus & Lindon 2022).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernel.errors import BadInput

Floats = NDArray[np.float64]
#: users of a variant, and users whose value is not the most frequent one, before anything is said
FEWEST, INFORMATIVE = 100, 10


def mixture(planned: float, alpha: float) -> float:
    """ρ² per user: the one with the narrowest interval at `planned` users. Raises BadInput for bad ones."""
    if not planned > 0:
        raise BadInput("is not above 0", field="planned", value=planned)
    if not 0 < alpha < 1:
        raise BadInput("is not between 0 and 1", field="alpha", value=alpha)
    # m that makes (1 + 1/m) ln((1 + m)/α²) least solves m = ln((1 + m)/α²); a contraction, since m > 1
    m = -2 * math.log(alpha) + 1
    for _ in range(60):
        m = math.log((1 + m) / alpha**2)
    return m / planned


def reach(users: ArrayLike, planned: float, alpha: float) -> Any:
    """Standard errors that the interval extends to each side at `users` users so far, element by element."""
    m = np.asarray(users, np.float64) * mixture(planned, alpha)
    return np.sqrt((1 + 1 / m) * np.log((1 + m) / alpha**2))


def always_valid_p(z: ArrayLike, users: ArrayLike, planned: float, alpha: float) -> Any:
    """P-value at this look, in (0, 1]: at most α exactly when the interval at α leaves out zero.

    `z`: effect / standard error. With `alpha` fixed, P(ever ≤ p) ≤ p for every p under no effect.
    """
    m = np.asarray(users, np.float64) * mixture(planned, alpha)
    log_odds = np.asarray(z, np.float64) ** 2 * m / (2 * (1 + m)) - np.log1p(m) / 2
    return np.exp(-np.maximum(log_odds, 0.0))
