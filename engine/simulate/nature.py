"""What is planted: how simulated users answer a touch, by what can be seen of them, and how that drifts.

Three kinds of users, with soft edges: hunters, who pay far below the shelf price and come for a coupon;
the settled, who come anyway and take the coupon with them (sure things); and the touchy, full-price
regulars whom a message puts off (sleeping dogs). Whoever bought a moment ago needs nothing more; whoever is
due is won over most easily. In the middle of the days the hunters' taste turns from the big coupon to the
small one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]

BENEFITS = ("big", "small")
TOUCHPOINTS = ("sms", "push")


@dataclass(frozen=True, kw_only=True)
class Nature:
    """Constants of the world; money in major units."""

    #: what a coupon takes off a basket, by benefit
    face: tuple[float, ...] = (5.0, 2.0)
    #: P(a touch is seen), and what one costs, by touchpoint
    reach: tuple[float, ...] = (0.9, 0.45)
    price: tuple[float, ...] = (0.06, 0.004)
    #: profit in one unit of spend, before coupons and touches
    margin: float = 0.3
    #: days for which a coupon is valid and a touch works
    life: int = 3
    #: P(a purchase that would have been made anyway takes the coupon along)
    taken_along: float = 0.85
    #: how fast exposures are forgotten, days, and how much one recent exposure takes of the next one's effect
    forgets: float = 7.0
    fatigue: float = 0.5
    #: P(a seen touch makes a user opt out), and what that costs
    opt_out: float = 0.002
    opt_out_cost: float = 4.0
    #: P(the touchy leave out a purchase while a message is fresh)
    puts_off: float = 0.3
    #: part of users who come a day, and who leave for ever
    arrive: float = 0.003
    leave: float = 0.001

    def wins(self, deal: Floats, due: Floats, drifted: bool) -> Floats:
        """users × benefits: P(one purchase more | seen, rested). `deal`: rank among all by part of the
        shelf price not paid, 0 … 1; `due`: days since the last purchase in usual gaps."""
        hunters, middling = expit(10 * (deal - 0.5)), np.exp(-np.square((deal - 0.4) / 0.15))
        big, small = (0.15, 0.40) if drifted else (0.50, 0.16)
        found = np.stack([big * hunters + 0.08 * middling, small * hunters + 0.14 * middling], axis=1)
        return np.asarray(found * _ready(due)[:, None])

    def touchy(self, deal: Floats, due: Floats) -> Floats:
        """P(the user is put off): full-price regulars who are not overdue."""
        return np.asarray(expit(-18 * (deal - 0.25)) * expit(4 * (1.5 - due)))

    def tired(self, load: Floats) -> Floats:
        """What recent exposures leave of an effect."""
        return np.exp(-self.fatigue * load)

    def leaves(self, touchy: Floats, load: Floats) -> Floats:
        """P(opts out | seen)."""
        return np.clip(self.opt_out * (1 + load) * (1 + 5 * touchy), 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Means:
    """What every policy may use of a day, alike."""

    #: money that a day's touches may be expected to cost
    budget: float
    #: most touches a user in seven days
    cap: int = 1
    #: most touches a day, by touchpoint
    capacity: tuple[int, ...] = ()
    #: part of the users that the engine tries something on a day, and of the tenth that promises most
    trials: float = 0.005
    promising: float = 0.1
    #: days of trials that it learns from, and after which one counts half
    recent: int = 35
    forgets: int = 10
    #: money that the engine asks of a touch at least
    least: float = 0.5


def _ready(due: Floats) -> Floats:
    """0 just after a purchase, 1 from about one usual gap on, and less for the long gone."""
    return np.asarray(np.clip((due - 0.2) / 0.6, 0.05, 1.0) * (1 - 0.6 * np.clip((due - 4) / 4, 0.0, 1.0)))
