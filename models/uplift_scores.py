"""Doubly robust scores: a number a user and treatment whose mean is the effect, whatever is asked of it.

Robins, Rotnitzky, Zhao 1994; cross-fitted as in Chernozhukov and others, "Double/debiased machine
learning", 2018: no user's score uses a model that saw the user.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from kernel.learning import Interval
from kernel.randomness import derive_seed
from models.uplift_base import Fitted, Trees, fit_chance, fit_outcome
from models.uplift_trial import Floats, Integers, Trial

#: estimated propensities are kept this far from 0; users nearer to it have nobody to be compared with
CLIP = 0.05
#: share of users without overlap above which it is warned of
_MANY_ALONE = 0.05
FOLDS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """n users by treatments."""

    #: n × treatments
    effect: Floats
    #: n × arms: E[y | x, arm]
    outcome: Floats
    #: n × arms, clipped
    propensity: Floats
    #: n × treatments: both arms could have happened to the user
    overlap: NDArray[np.bool_]
    #: n weights of users
    weight: Floats
    #: a sentence where many users have no overlap; else empty
    warning: str


@dataclass(frozen=True, kw_only=True)
class AverageEffect:
    """Of a treatment against control, among users with overlap."""

    effect: Interval
    #: of one standard error
    error: float
    #: part of the users that it speaks of; the others are always, or never, treated
    share: float
    #: a sentence where that part is small; else empty
    warning: str


@dataclass(frozen=True, kw_only=True)
class Propensities:
    """P(arm | x) for new users: constant shares, or one model an arm (of two arms, the treated one's)."""

    shares: Floats
    models: tuple[Fitted, ...] = ()

    def predict(self, x: Floats) -> Floats:
        """n × arms, not clipped; rows sum to one."""
        if not self.models:
            return np.tile(self.shares, (len(x), 1))
        found = np.column_stack([each.predict(x) for each in self.models])
        if len(self.models) == 1:
            return np.column_stack([1 - found, found])
        return np.asarray(found / found.sum(axis=1, keepdims=True))


def fit_propensities(trial: Trial, trees: Trees, seed: int) -> Propensities:
    """One against the rest for each arm; where constant shares are known, those."""
    arms = range(len(trial.treatments) + 1)
    if trial.propensity is not None and np.ptp(trial.propensity, axis=0).max() < 1e-12:
        return Propensities(shares=trial.propensity[0])
    models = tuple(
        fit_chance(trial.x, (trial.arm == arm).astype(np.float64), trial.weight, trees, seed + arm)
        for arm in (arms[1:] if len(arms) == 2 else arms)
    )
    shares = np.bincount(trial.arm, minlength=len(arms)) / len(trial)
    return Propensities(shares=shares, models=models)


def folds_of(arm: Integers, count: int, seed: int) -> Integers:
    """A fold for each user, every arm spread evenly."""
    rng, fold = np.random.default_rng(seed), np.empty(len(arm), np.int64)
    for each in np.unique(arm):
        rows = rng.permutation(np.flatnonzero(arm == each))
        fold[rows] = np.arange(len(rows)) % count
    return fold


@dataclass(frozen=True, kw_only=True)
class Together:
    """E[y | x, arm] by one model of all users: what arms share is learned once."""

    model: Fitted
    #: share of users in each arm
    shares: Floats

    def outcomes(self, x: Floats) -> Floats:
        """n × arms."""
        arms = [np.full(len(x), arm) for arm in range(len(self.shares))]
        return np.column_stack([self.model.predict(x, _is_arm(arm, self.shares)) for arm in arms])


def fit_together(trial: Trial, trees: Trees, seed: int) -> Together:
    shares = np.bincount(trial.arm, minlength=len(trial.treatments) + 1) / len(trial)
    by = _is_arm(trial.arm, shares)
    model = fit_outcome(trial.x, trial.y, trial.weight, trial.binary, trees, seed, by)
    return Together(model=model, shares=shares)


def _is_arm(arm: Integers, shares: Floats) -> Floats:
    """n × treatments: 1 in it, 0 not, less its share."""
    columns = [arm == each for each in range(1, len(shares))]
    return np.asarray(np.column_stack(columns).astype(np.float64) - shares[1:])


def score(trial: Trial, *, seed: int, trees: Trees | None = None, folds: int = FOLDS) -> Scores:
    """Cross-fitted. Known propensities are taken as they are, unless they are below a hundredth."""
    trees = trees or Trees()
    fold = folds_of(trial.arm, folds, derive_seed(seed, "folds"))
    arms = len(trial.treatments) + 1
    outcome, raw = np.empty((len(trial), arms)), np.empty((len(trial), arms))
    for each in range(folds):
        rest, here = trial.rows(fold != each), fold == each
        x, label = trial.x[here], derive_seed(seed, "fold", each)
        outcome[here] = fit_together(rest, trees, label).outcomes(x)
        if trial.propensity is None:
            raw[here] = fit_propensities(rest, trees, label).predict(x)
    clip = CLIP if trial.propensity is None else 0.01
    raw = raw if trial.propensity is None else trial.propensity
    chance = np.maximum(raw, clip)
    alike = (raw[:, 1:] >= clip) & (raw[:, :1] >= clip)
    # what happened less what was expected, as often as it was rare
    surprise = np.zeros((len(trial), arms))
    rows = np.arange(len(trial))
    surprise[rows, trial.arm] = (trial.y - outcome[rows, trial.arm]) / chance[rows, trial.arm]
    found = outcome + surprise
    alone = float(1 - alike.mean(axis=0).min())
    warning = (
        f"{alone:.0%} of the users are nearly always or nearly never treated: their effect is not known"
        if alone > _MANY_ALONE
        else ""
    )
    return Scores(
        effect=found[:, 1:] - found[:, :1],
        outcome=outcome,
        propensity=chance,
        overlap=alike,
        weight=trial.weight,
        warning=warning,
    )


def average_effects(scores: Scores, level: float = 0.95) -> tuple[AverageEffect, ...]:
    """One a treatment: mean score with its normal interval, the influence function's."""
    found = []
    for column in range(scores.effect.shape[1]):
        kept = scores.overlap[:, column]
        mean, error = mean_error(scores.effect[kept, column], scores.weight[kept])
        reach = NormalDist().inv_cdf((1 + level) / 2) * error
        interval = Interval(mean=mean, low=mean - reach, high=mean + reach, level=level)
        found.append(
            AverageEffect(effect=interval, error=error, share=float(kept.mean()), warning=scores.warning)
        )
    return tuple(found)


def mean_error(values: Floats, weight: Floats) -> tuple[float, float]:
    """Weighted mean and its standard error; NaN without users."""
    if len(values) < 2:
        return float("nan"), float("nan")
    share = weight / weight.sum()
    mean = float(share @ values)
    return mean, float(np.sqrt(np.square(share * (values - mean)).sum()))
