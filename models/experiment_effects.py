"""The effect of a variant against the holdout: difference of means or ratios, explained by what was before.

Every metric becomes one number a user whose mean is the variant's figure: the value itself, or for a ratio Σ
a / Σ b its linear part R + (a − R b) / mean(b) (delta method: Deng, Knoblich & Lu 2018). Covariates of
before the experiment then explain part of it by a regression in each variant (Lin 2013; with one covariate
this is CUPED, Deng et al. 2013, whose variance it never exceeds in large samples). Standard errors are those
of the influence function for users drawn at random: what is left over in each variant, and how differently
the two respond to the covariates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernel.errors import BadInput
from models.sequential import FEWEST, INFORMATIVE

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What one variant's users did."""

    #: n values, or numerators of a ratio
    values: Floats
    #: n denominators of a ratio
    per: Floats | None = None
    #: n × k covariates from before the experiment
    covariates: Floats | None = None

    @property
    def figure(self) -> float:
        """Mean, or ratio of sums; NaN where it is not defined."""
        below = len(self.values) if self.per is None else float(self.per.sum())
        return float(self.values.sum()) / below if below else float("nan")

    @property
    def linear(self) -> Floats:
        """One number a user with `figure` as mean."""
        if self.per is None:
            return self.values
        ratio = self.figure
        return np.asarray(ratio + (self.values - ratio * self.per) / self.per.mean())

    @property
    def silent(self) -> bool:
        """Whether there is too little to say anything: users, or users unlike the most frequent value."""
        if len(self.values) < FEWEST or not np.isfinite(self.figure):
            return True
        _, counts = np.unique(self.linear, return_counts=True)
        return bool(len(self.values) - counts.max() < INFORMATIVE)


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Variant − holdout, a user, in the metric's unit."""

    #: figures of the two, as observed
    variant: float
    holdout: float
    #: difference after what was there before is accounted for
    effect: float
    #: its standard error
    error: float
    #: part of the difference's variance that the covariates took away; 0 without them
    explained: float
    #: users of both
    users: int


def effect(variant: Arm, holdout: Arm) -> Effect | None:
    """None when there is too little to say (see `Arm.silent`). Raises BadInput for what is no number."""
    arms = (variant, holdout)
    for arm in arms:
        for part in (arm.values, arm.per, arm.covariates):
            if part is not None and not np.isfinite(part).all():
                raise BadInput("is not a number for some users", field="outcomes")
    if any(arm.silent for arm in arms):
        return None
    plain = _squared_error(*(arm.linear for arm in arms))
    raw = variant.figure - holdout.figure
    estimate, squared = raw, plain
    if variant.covariates is not None and holdout.covariates is not None:
        estimate, squared = _adjusted(variant, holdout)
    return Effect(
        variant=variant.figure,
        holdout=holdout.figure,
        effect=estimate,
        error=float(np.sqrt(squared)),
        explained=1 - squared / plain if plain > 0 else 0.0,
        users=sum(len(arm.values) for arm in arms),
    )


def _squared_error(*values: Floats) -> float:
    return float(sum(each.var(ddof=1) / len(each) for each in values))


def _adjusted(variant: Arm, holdout: Arm) -> tuple[float, float]:
    """Effect and its squared standard error with a regression in each arm, about the common mean."""
    covariates = [arm.covariates for arm in (variant, holdout) if arm.covariates is not None]
    both = np.vstack(covariates)
    spread = both.std(axis=0)
    used = spread > 1e-12 * np.maximum(np.abs(both.mean(axis=0)), 1.0)
    scaled = [(each[:, used] - both[:, used].mean(axis=0)) / spread[used] for each in covariates]
    means, slopes, squared = [], [], 0.0
    for arm, x in zip((variant, holdout), scaled, strict=True):
        y = arm.linear
        # least squares of minimum norm: covariates that say the same share what they say
        slope = np.linalg.lstsq(x - x.mean(axis=0), y - y.mean(), rcond=1e-9)[0]
        means.append(float(y.mean() - x.mean(axis=0) @ slope))
        slopes.append(slope)
        left = y - y.mean() - (x - x.mean(axis=0)) @ slope
        squared += float(left @ left) / max(len(y) - x.shape[1] - 1, 1) / len(y)
    apart = np.vstack(scaled) @ (slopes[0] - slopes[1])
    return means[0] - means[1], squared + float(apart @ apart) / len(apart) ** 2
