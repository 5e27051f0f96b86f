"""How many users an experiment needs, what it can see with those it gets, and how long that takes.

Normal approximation with unpooled variances, as the readout computes them. An always-valid reading is planned
as if it were looked at once, at the planned number of users; earlier looks only add to its power, so the true
power is above what is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scipy.optimize import brentq
from scipy.stats import norm

from kernel.errors import BadInput
from models.sequential import reach

Reading = Literal["fixed", "always_valid"]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What the metric is without treatment: a proportion's rate, or a mean with its standard deviation."""

    mean: float
    #: of single users; absent: `mean` is a proportion
    deviation: float | None = None
    #: part of the variance that covariates from before explain (squared correlation; CUPED)
    explained: float = 0.0

    def __post_init__(self) -> None:
        if self.deviation is None and not 0 < self.mean < 1:
            raise BadInput("is not a proportion between 0 and 1", field="mean", value=self.mean)
        if self.deviation is not None and not self.deviation > 0:
            raise BadInput("is not above 0", field="deviation", value=self.deviation)
        if not 0 <= self.explained < 1:
            raise BadInput("is not a part of one", field="explained", value=self.explained)

    def variance(self, effect: float) -> float:
        """Of a user, with the effect added to the mean."""
        if self.deviation is not None:
            return self.deviation**2 * (1 - self.explained)
        rate = self.mean + effect
        return rate * (1 - rate) * (1 - self.explained)


@dataclass(frozen=True, kw_only=True)
class Design:
    """How it is split and read."""

    #: the treated variant's share of the users that it and the holdout have together
    share: float = 0.5
    #: treated variants; α is divided among them (Bonferroni)
    variants: int = 1
    alpha: float = 0.05
    power: float = 0.8
    reading: Reading = "fixed"

    def __post_init__(self) -> None:
        for field in ("share", "alpha", "power"):
            if not 0 < getattr(self, field) < 1:
                raise BadInput("is not between 0 and 1", field=field, value=getattr(self, field))
        if self.variants < 1:
            raise BadInput("is not at least 1", field="variants", value=self.variants)
        if self.power <= self.alpha:
            raise BadInput("is not above alpha", field="power", value=self.power)

    @property
    def edge(self) -> float:
        """Standard errors that a finding must be away from zero at the planned number of users."""
        alpha = self.alpha / self.variants
        if self.reading == "always_valid":
            return float(reach(1.0, 1.0, alpha))
        return float(norm.ppf(1 - alpha / 2))

    def squared_error(self, baseline: Baseline, effect: float, users: float) -> float:
        """Of the difference, with `users` in variant and holdout together."""
        treated, untreated = baseline.variance(effect), baseline.variance(0.0)
        return (treated / self.share + untreated / (1 - self.share)) / users


@dataclass(frozen=True, kw_only=True)
class SampleSize:
    """What it takes, and what it brings."""

    #: of one variant and of the holdout
    variant: int
    holdout: int
    #: of all variants and the holdout
    total: int
    #: smallest effect, in the metric's unit, that is found with the wished power
    effect: float
    #: the same as part of the mean; None for a mean of zero
    relative: float | None
    #: P(the effect is found)
    power: float


def sample_size(baseline: Baseline, effect: float, design: Design) -> SampleSize:
    """Users that it takes to find `effect` (the metric's unit). Raises BadInput for an effect of none, or
    that leaves no proportion."""
    if not (math.isfinite(effect) and effect):
        raise BadInput("is no effect to look for", field="effect", value=effect)
    if baseline.deviation is None and not 0 < baseline.mean + effect < 1:
        raise BadInput(f"takes a rate of {baseline.mean:g} out of 0 … 1", field="effect", value=effect)
    wished = design.edge + float(norm.ppf(design.power))
    both = math.ceil(design.squared_error(baseline, effect, 1.0) * (wished / effect) ** 2)
    return _sized(baseline, effect, design, both)


def smallest_effect(baseline: Baseline, users: int, design: Design, *, fall: bool = False) -> SampleSize:
    """Smallest rise (`fall`: fall) that `users` in all variants and the holdout together find with the
    wished power. Raises BadInput when no proportion could show it."""
    if users < 2:
        raise BadInput("is fewer than 2", field="users", value=users)
    both = users / (1 + (design.variants - 1) * design.share)
    wished = design.edge + float(norm.ppf(design.power))
    sign = -1.0 if fall else 1.0

    def short(size: float) -> float:
        return size - wished * math.sqrt(max(design.squared_error(baseline, sign * size, both), 0.0))

    if baseline.deviation is not None:
        return _sized(baseline, -sign * short(0.0), design, int(both))
    room = (baseline.mean if fall else 1 - baseline.mean) * (1 - 1e-9)
    if short(room) < 0:
        raise BadInput("are too few to find any effect on this rate", field="users", value=users)
    return _sized(baseline, sign * float(brentq(short, 0.0, room)), design, int(both))


def days_needed(size: SampleSize, users_a_day: float, within_days: float) -> int:
    """Days from the first user to the last one's complete window: `users_a_day` new ones enter each day."""
    if not users_a_day > 0:
        raise BadInput("is not above 0", field="users_a_day", value=users_a_day)
    if not within_days >= 0:
        raise BadInput("is below 0", field="within_days", value=within_days)
    return math.ceil(size.total / users_a_day) + math.ceil(within_days)


def _sized(baseline: Baseline, effect: float, design: Design, both: int) -> SampleSize:
    variant = max(math.ceil(both * design.share), 1)
    holdout = max(math.ceil(both * (1 - design.share)), 1)
    error = math.sqrt(design.squared_error(baseline, effect, both))
    return SampleSize(
        variant=variant,
        holdout=holdout,
        total=variant * design.variants + holdout,
        effect=effect,
        relative=effect / baseline.mean if baseline.mean else None,
        power=float(norm.cdf(abs(effect) / error - design.edge)),
    )
