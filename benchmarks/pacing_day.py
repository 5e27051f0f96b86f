"""A made-up day of decisions, each among offers whose worth is known, that use up three budgets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from conflict.api import Gap, allocate
from kernel.choices import Allocation, Limit, Limits

Floats = NDArray[np.float64]
#: of each offer, what it uses, and how many units of each there are for a decision
RESOURCES = ("coupons", "coupons", "gifts", "mails", "mails")
SUPPLY = {"coupons": 0.2, "gifts": 0.03, "mails": 0.3}
#: traffic by hour, and how the worth of coupons and of mails drifts
_TRAFFIC = np.array([2, 1, 1, 1, 1, 2, 4, 6, 7, 7, 7, 8, 9, 8, 7, 7, 8, 9, 11, 13, 14, 12, 8, 4], float)
_HOURS = np.arange(24.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Day:
    """n decisions in order."""

    #: n: share of the day that is over
    times: Floats
    #: n × offers: gain if shown, major units
    gains: Floats

    @property
    def size(self) -> int:
        return len(self.times)


def day(size: int, seed: int, *, drifting: bool) -> Day:
    """`drifting`: traffic and gains change by the hour, on every day a little otherwise, and there are up
    to a fifth more or fewer decisions than `size`. Else all decisions are drawn alike."""
    rng = np.random.default_rng(seed)
    traffic, level = np.ones(24), np.ones((24, len(RESOURCES)))
    if drifting:
        size = round(size * rng.uniform(0.8, 1.2))
        traffic = _TRAFFIC * rng.lognormal(0, 0.15, 24)
        evening = 1 + 1.2 * np.exp(-(((_HOURS - 20) / 3) ** 2))
        morning = 1 + 0.8 * np.exp(-(((_HOURS - 8) / 3) ** 2))
        level[:, :2], level[:, 3:] = evening[:, None], morning[:, None]
        level *= rng.lognormal(0, 0.1, level.shape)
    hours = np.sort(rng.choice(24, size=size, p=traffic / traffic.sum()))
    times = np.sort((hours + rng.random(size)) / 24)
    scale = np.array([1.0, 1.3, 3.0, 0.5, 0.6])
    gains = rng.lognormal(-0.5, 0.9, (size, len(RESOURCES))) * scale * level[hours] - 0.3
    return Day(times=times, gains=gains)


def budgets(size: int) -> dict[str, float]:
    """Units of each resource for a day of about `size` decisions."""
    return {name: float(max(1, round(each * size))) for name, each in SUPPLY.items()}


def hindsight(of: Day, most: dict[str, float], seconds: float) -> Allocation:
    """The best that could have been done; its `bound` is proven."""
    kept = of.gains > 0
    users, offers = np.nonzero(kept)
    frame = pl.DataFrame(
        {
            "user": users,
            "task": offers,
            "value": of.gains[kept],
            "resource": np.array(RESOURCES)[offers],
        }
    )
    limits = Limits(
        limits=tuple(Limit(name=name, where={"resource": name}, at_most=each) for name, each in most.items())
    )
    return allocate(frame, limits, time_limit=seconds, stops=(Gap(1e-5),))
