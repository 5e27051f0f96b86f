"""What a policy would have earned, from the log of another: IPS, SNIPS, DM, DR.

Dudík, Langford, Li, Doubly Robust Policy Evaluation and Learning, 2011 (IPS, DM, DR). Swaminathan,
Joachims, The Self-Normalized Estimator for Counterfactual Learning, 2015 (SNIPS). Chernozhukov and
others, Double/Debiased Machine Learning, 2018 (cross-fitting in DR). Stefanski, Boos, The Calculus of
M-Estimation, 2002 (standard error of DM). Kish, Survey Sampling, 1965 (effective sample size).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from kernel.errors import BadInput
from kernel.learning import Interval

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: below this part of the log, or this many decisions, in effect, the intervals are not to be trusted
_THIN_SHARE, _THIN_COUNT = 0.05, 100


@dataclass(frozen=True, kw_only=True, eq=False)
class LoggedChoices:
    """n logged decisions among k actions (columns; an action that was not offered has target 0)."""

    #: n rewards, in major units
    rewards: Floats
    #: n columns of the actions chosen, 0 … k − 1
    chosen: Integers
    #: n propensities of the choices under the logging policy, in (0, 1]
    propensities: Floats
    #: n × k probabilities under the policy that is judged; rows sum to one
    target: Floats
    #: n × d finite features of the contexts, for the reward model
    contexts: Floats

    def __post_init__(self) -> None:
        count = len(self.rewards)
        if count < 2:
            raise BadInput("is too few to judge from; needs 2", where="log", field="decisions", value=count)
        for name in ("chosen", "propensities", "target", "contexts"):
            if len(getattr(self, name)) != count:
                raise BadInput(
                    f"has {len(getattr(self, name))} rows for {count} rewards", where="log", field=name
                )
        for name in ("rewards", "propensities", "target", "contexts"):
            if not np.isfinite(getattr(self, name)).all():
                raise BadInput("has a value that is not a finite number", where="log", field=name)
        if self.propensities.min() <= 0 or self.propensities.max() > 1:
            raise BadInput("has one that is not within 0 (excluded) and 1", where="log", field="propensities")
        if self.chosen.min() < 0 or self.chosen.max() >= self.target.shape[1]:
            raise BadInput(f"is none of {self.target.shape[1]} columns", where="log", field="chosen")
        if self.target.min() < 0 or np.abs(self.target.sum(axis=1) - 1).max() > 1e-6:
            raise BadInput("has a row that is no distribution", where="log", field="target")


@dataclass(frozen=True, kw_only=True)
class OffPolicy:
    """A target policy's mean reward a decision, estimated in four ways, with what to make of them."""

    #: inverse propensity scores: unbiased, noisy
    ips: Interval
    #: the same over its own weights: steadier, biased by the order of 1/n
    snips: Interval
    #: ridge regression of the reward, one an action: biased where the reward is not linear
    dm: Interval
    #: that regression, cross-fitted, corrected by weighted residuals: the one to act on
    dr: Interval
    #: decisions in the log
    decisions: int
    #: (Σ w)² / Σ w²: as many decisions of the target policy itself would say as much
    effective: float
    #: why the intervals are not to be trusted; empty when they are
    warning: str


def evaluate(log: LoggedChoices, *, level: float = 0.95, ridge: float = 1.0) -> OffPolicy:
    """Normal intervals at `level`. DM's covers the noise of its regression, not the bias of its form."""
    if not 0 < level < 1:
        raise BadInput("is not within 0 and 1", field="level", value=level)
    if not (math.isfinite(ridge) and ridge > 0):
        raise BadInput("is not above 0", field="ridge", value=ridge)
    rows = np.arange(len(log.rewards))
    weights = log.target[rows, log.chosen] / log.propensities
    direct, direct_scores = _direct(log, ridge)
    return OffPolicy(
        ips=_interval(*_mean(weights * log.rewards), level),
        snips=_interval(*_self_normalised(weights, log.rewards), level),
        dm=_interval(direct, _spread(direct_scores), level),
        dr=_interval(*_mean(_doubly_robust(log, weights, ridge)), level),
        decisions=len(rows),
        effective=_effective(weights),
        warning=_overlap(weights),
    )


def _interval(mean: float, error: float, level: float) -> Interval:
    reach = NormalDist().inv_cdf((1 + level) / 2) * error
    return Interval(mean=mean, low=mean - reach, high=mean + reach, level=level)


def _spread(scores: Floats) -> float:
    """Standard error of the mean of independent scores."""
    return float(scores.std(ddof=1) / math.sqrt(len(scores)))


def _mean(scores: Floats) -> tuple[float, float]:
    return float(scores.mean()), _spread(scores)


def _self_normalised(weights: Floats, rewards: Floats) -> tuple[float, float]:
    """Σ w r / Σ w; its error by linearising the ratio. Without any weight nothing is known: NaN."""
    if not weights.any():
        return math.nan, math.nan
    value = float(weights @ rewards / weights.sum())
    return value, _spread(weights * (rewards - value)) / float(weights.mean())


def _design(contexts: Floats) -> Floats:
    return np.column_stack([np.ones(len(contexts)), contexts])


def _fit(design: Floats, rewards: Floats, ridge: float) -> tuple[Floats, Floats]:
    """Ridge coefficients and the inverse of the penalised Gram matrix; the intercept is penalised too."""
    gram = design.T @ design + ridge * np.eye(design.shape[1])
    inverse = np.linalg.inv(gram).astype(np.float64)
    return inverse @ design.T @ rewards, inverse


def _direct(log: LoggedChoices, ridge: float) -> tuple[float, Floats]:
    """DM and its influence scores: the contexts' part plus that of each action's coefficients."""
    design = _design(log.contexts)
    predicted = np.zeros_like(log.target)
    correction = np.zeros(len(design))
    for action in range(log.target.shape[1]):
        taken = log.chosen == action
        coefficients, inverse = _fit(design[taken], log.rewards[taken], ridge)
        predicted[:, action] = design @ coefficients
        sensitivity = log.target[:, action] @ design @ inverse
        residuals = log.rewards[taken] - predicted[taken, action]
        correction[taken] = (design[taken] @ sensitivity) * residuals
    expected = (log.target * predicted).sum(axis=1)
    return float(expected.mean()), expected + correction


def _doubly_robust(log: LoggedChoices, weights: Floats, ridge: float) -> Floats:
    """One score a decision, its reward model fitted on the other half (even and odd rows)."""
    design = _design(log.contexts)
    rows = np.arange(len(design))
    predicted = np.zeros_like(log.target)
    for half in (0, 1):
        here = rows % 2 == half
        for action in range(log.target.shape[1]):
            there = ~here & (log.chosen == action)
            coefficients, _ = _fit(design[there], log.rewards[there], ridge)
            predicted[here, action] = design[here] @ coefficients
    residuals = log.rewards - predicted[rows, log.chosen]
    scores: Floats = (log.target * predicted).sum(axis=1) + weights * residuals
    return scores


def _effective(weights: Floats) -> float:
    return float(weights.sum() ** 2 / (weights**2).sum()) if weights.any() else 0.0


def _overlap(weights: Floats) -> str:
    """Weights average one where the log covers what the target does: far from it, it does not."""
    count, effective = len(weights), _effective(weights)
    mean, error = _mean(weights)
    if abs(mean - 1) > max(4 * error, 1e-6):
        return f"the log does not cover what the policy would do: weights average {mean:.2f}, not 1"
    if effective < max(_THIN_COUNT, _THIN_SHARE * count):
        return f"the policies differ so much that {count} decisions say as much as {effective:.0f}"
    return ""
