"""What a policy would have earned, from the log of another: IPS, SNIPS, DM, DR, SwitchDR.

Dudík, Langford, Li, Doubly Robust Policy Evaluation and Learning, 2011 (IPS, DM, DR). Swaminathan,
Joachims, The Self-Normalized Estimator for Counterfactual Learning, 2015 (SNIPS). Wang, Agarwal, Dudík,
Optimal and Adaptive Off-policy Evaluation in Contextual Bandits, 2017 (SwitchDR). Lepski, On a Problem
of Adaptive Estimation in Gaussian White Noise, 1990 (where it switches: the steadiest estimate that does
not contradict the unbiased one). Armstrong, Kolesár, Optimal Inference in a Class of Regression Models,
2018 (intervals that reach out by the bias). Chernozhukov and others, Double/Debiased Machine Learning,
2018 (cross-fitting). Stefanski, Boos, The Calculus of M-Estimation, 2002 (standard error of DM). Efron,
Tibshirani, An Introduction to the Bootstrap, 1993. Kish, Survey Sampling, 1965 (effective sample size).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from kernel.errors import BadInput
from kernel.learning import Interval
from kernel.randomness import derive_seed
from realtime.reward_model import Floats, Integers, RewardModel, fit

__all__ = ["ESTIMATORS", "Floats", "Integers", "LoggedChoices", "OffPolicy", "Scores", "evaluate", "scores"]

#: every estimator, by its field of OffPolicy
ESTIMATORS = ("ips", "snips", "dm", "dr", "switch")
#: below this part of the log, or this many decisions, in effect, the intervals are not to be trusted
_THIN_SHARE, _THIN_COUNT = 0.05, 100
#: penalties of what sets an action apart, in decisions; the log itself says which
_RIDGES = (3.0, 30.0, 300.0, 3000.0)
#: weights beyond which SwitchDR may trust the reward model alone, the lowest first
_SWITCHES = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)


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
    """A target policy's mean reward a decision, estimated in five ways, with what to make of them."""

    #: inverse propensity scores: unbiased, noisy
    ips: Interval
    #: the same over its own weights: steadier, biased by the order of 1/n
    snips: Interval
    #: ridge regression of the reward: biased where the reward is not linear
    dm: Interval
    #: that regression, cross-fitted, corrected by weighted residuals: the one to act on
    dr: Interval
    #: the same, corrected only where the weight is at most `switch_at`; its interval reaches out by what
    #: the left-out corrections sum to, which is the bias as far as the log shows it
    switch: Interval
    #: infinite: SwitchDR is DR; 0: it is the cross-fitted regression alone
    switch_at: float
    #: penalty of what sets an action apart in the reward model, in decisions
    ridge: float
    #: decisions in the log
    decisions: int
    #: (Σ w)² / Σ w²: as many decisions of the target policy itself would say as much
    effective: float
    #: the largest weight
    largest: float
    #: why the intervals are not to be trusted; empty when they are
    warning: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """Per decision what the estimators average: n each."""

    #: target probability / logging propensity of what was chosen
    weights: Floats
    ips: Floats
    #: means to SNIPS; each centred term is divided by the mean weight
    snips: Floats
    dm: Floats
    dr: Floats
    switch: Floats
    switch_at: float
    #: mean of the corrections that SwitchDR leaves out: its bias, as far as the log shows it
    left_out: float
    ridge: float


def evaluate(
    log: LoggedChoices, *, level: float = 0.95, ridge: float | None = None, resamples: int = 0, seed: int = 1
) -> OffPolicy:
    """Normal intervals at `level`; with `resamples`, percentiles of as many bootstrapped means instead.

    `ridge`: decisions of an action that weigh as much as those of all others; None: what foretells best.
    DM's interval covers the noise of its regression, not the bias of its form. The bootstrap draws
    decisions anew, and leaves the reward model and the point of switching as they are.
    """
    if not 0 < level < 1:
        raise BadInput("is not within 0 and 1", field="level", value=level)
    if resamples and resamples < 100:
        raise BadInput("is not 0, or at least 100", field="resamples", value=resamples)
    found = scores(log, ridge=ridge)
    reach = _bootstrap(resamples, seed, level) if resamples else _normal(level)
    known = bool(found.weights.any())
    return OffPolicy(
        ips=reach(found.ips),
        # without any weight nothing is known
        snips=reach(found.snips)
        if known
        else Interval(mean=math.nan, low=math.nan, high=math.nan, level=level),
        dm=reach(found.dm),
        dr=reach(found.dr),
        switch=_widened(reach(found.switch), abs(found.left_out)),
        switch_at=found.switch_at,
        ridge=found.ridge,
        decisions=len(found.weights),
        effective=_effective(found.weights),
        largest=float(found.weights.max()),
        warning=_overlap(found.weights),
    )


def scores(log: LoggedChoices, *, ridge: float | None = None) -> Scores:
    """What `evaluate` averages; of two policies on one log their difference can be taken row by row."""
    if ridge is None:
        ridge = _steadiest(log)
    if not (math.isfinite(ridge) and ridge > 0):
        raise BadInput("is not above 0", field="ridge", value=ridge)
    rows = np.arange(len(log.rewards))
    weights = log.target[rows, log.chosen] / log.propensities
    ips = weights * log.rewards
    snips = float(ips.sum() / weights.sum()) if weights.any() else math.nan
    direct, corrections = _cross_fitted(log, weights, ridge)
    model = fit(log.contexts, log.chosen, log.rewards, log.target.shape[1], ridge)
    predicted = model.predict(log.contexts)
    residuals = log.rewards - predicted[rows, log.chosen]
    switch_at = _switch(weights, corrections)
    kept = weights <= switch_at
    return Scores(
        weights=weights,
        ips=ips,
        snips=snips + weights * (log.rewards - snips) / (weights.mean() if weights.any() else 1.0),
        dm=(log.target * predicted).sum(axis=1) + _noise(model, log, np.zeros(len(rows)), residuals),
        dr=direct + corrections,
        switch=direct
        + kept * corrections
        + (0 if kept.all() else _noise(model, log, kept * weights, residuals)),
        switch_at=switch_at,
        left_out=float((~kept * corrections).mean()),
        ridge=ridge,
    )


def _noise(model: RewardModel, log: LoggedChoices, corrected: Floats, residuals: Floats) -> Floats:
    """What each row's residual moves through the model, where its choice is `corrected` by so much.

    A ridge's residuals, so weighted, do not sum to zero: what is left is its bias, and taken off.
    """
    asked = log.target.copy()
    asked[np.arange(len(asked)), log.chosen] -= corrected
    noise: Floats = model.influence(log.contexts, log.chosen, asked) * residuals
    return np.asarray(noise - noise.mean())


def _steadiest(log: LoggedChoices) -> float:
    """The penalty under which each half of the log foretells the other best."""
    return min(_RIDGES, key=lambda ridge: float(((log.rewards - _foretold(log, ridge)) ** 2).sum()))


def _foretold(log: LoggedChoices, ridge: float) -> Floats:
    rows = np.arange(len(log.rewards))
    return np.asarray(_other_half(log, ridge)[rows, log.chosen])


def _cross_fitted(log: LoggedChoices, weights: Floats, ridge: float) -> tuple[Floats, Floats]:
    """For each decision the model's expectation under the target and the weighted residual."""
    predicted = _other_half(log, ridge)
    residuals = log.rewards - predicted[np.arange(len(weights)), log.chosen]
    return np.asarray((log.target * predicted).sum(axis=1)), np.asarray(weights * residuals)


def _other_half(log: LoggedChoices, ridge: float) -> Floats:
    """n × k predictions, each by the model of the other half (even and odd rows)."""
    odd = np.arange(len(log.rewards)) % 2 == 1
    predicted = np.zeros_like(log.target)
    for here in (odd, ~odd):
        there = ~here
        model = fit(log.contexts[there], log.chosen[there], log.rewards[there], log.target.shape[1], ridge)
        predicted[here] = model.predict(log.contexts[here])
    return predicted


def _switch(weights: Floats, corrections: Floats) -> float:
    """The lowest point at which what is left out is no more than its own standard error."""
    for point in _SWITCHES:
        left_out = np.where(weights > point, corrections, 0.0)
        if left_out.any() and abs(left_out.mean()) <= _spread(left_out):
            return point
    return math.inf


def _spread(scored: Floats) -> float:
    """Standard error of the mean of independent scores."""
    return float(scored.std(ddof=1) / math.sqrt(len(scored)))


def _normal(level: float) -> Callable[[Floats], Interval]:
    def reach(scored: Floats) -> Interval:
        mean, wide = float(scored.mean()), NormalDist().inv_cdf((1 + level) / 2) * _spread(scored)
        return Interval(mean=mean, low=mean - wide, high=mean + wide, level=level)

    return reach


def _widened(interval: Interval, by: float) -> Interval:
    return replace(interval, low=interval.low - by, high=interval.high + by)


def _bootstrap(resamples: int, seed: int, level: float) -> Callable[[Floats], Interval]:
    def reach(scored: Floats) -> Interval:
        rng = np.random.default_rng(derive_seed(seed, "bootstrap"))
        count = len(scored)
        means = [float(scored[rng.integers(0, count, count)].mean()) for _ in range(resamples)]
        low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
        return Interval(mean=float(scored.mean()), low=float(low), high=float(high), level=level)

    return reach


def _effective(weights: Floats) -> float:
    return float(weights.sum() ** 2 / (weights**2).sum()) if weights.any() else 0.0


def _overlap(weights: Floats) -> str:
    """Weights average one where the log covers what the target does: far from it, it does not."""
    count, effective = len(weights), _effective(weights)
    mean, error = float(weights.mean()), _spread(weights)
    if abs(mean - 1) > max(4 * error, 1e-6):
        return f"the log does not cover what the policy would do: weights average {mean:.2f}, not 1"
    if effective < max(_THIN_COUNT, _THIN_SHARE * count):
        return f"the policies differ so much that {count} decisions say as much as {effective:.0f}"
    return ""
