"""The learners: from a trial to effects of each treatment against control.

S, T and X after Künzel, Sekhon, Bickel, Yu, "Metalearners", 2019; DR after Kennedy, "Towards optimal
doubly robust estimation", 2023, weighted by overlap; class transformation after Jaskowski and
Jaroszewicz 2012, for any propensity by weighting, and for outcomes that are not 0 or 1 the transformed
outcome of Athey and Imbens 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.uplift_base import Fitted, Trees, fit_mean, fit_outcome
from models.uplift_scores import (
    CLIP,
    FOLDS,
    Propensities,
    Scores,
    Together,
    fit_propensities,
    fit_together,
    score,
)
from models.uplift_trial import Floats, Trial

#: 1 an effect that never falls with the feature, -1 one that never rises, 0 free; one a feature
Signs = tuple[int, ...]


class Effects(Protocol):
    """What a learner returns."""

    def effect(self, x: Floats) -> Floats:
        """n × treatments, each against control."""
        ...


@dataclass(frozen=True, kw_only=True)
class ByArm:
    """T: a model an arm, and their difference."""

    arms: tuple[Fitted, ...]

    def effect(self, x: Floats) -> Floats:
        found = np.column_stack([each.predict(x) for each in self.arms])
        return np.asarray(found[:, 1:] - found[:, :1])


@dataclass(frozen=True, kw_only=True)
class Asked:
    """S: one model of users and arms, asked once for each arm."""

    together: Together

    def effect(self, x: Floats) -> Floats:
        found = self.together.outcomes(x)
        return np.asarray(found[:, 1:] - found[:, :1])


@dataclass(frozen=True, kw_only=True)
class Direct:
    """A model of the effect itself for each treatment."""

    models: tuple[Fitted, ...]
    #: effect = factor × model + shift
    factor: float = 1.0
    shift: float = 0.0

    def effect(self, x: Floats) -> Floats:
        return np.column_stack([self.factor * each.predict(x) + self.shift for each in self.models])


@dataclass(frozen=True, kw_only=True)
class Crossed:
    """X: effects learned from the treated and from control, each where the other arm was the larger."""

    treated: tuple[Fitted, ...]
    control: tuple[Fitted, ...]
    propensities: Propensities

    def effect(self, x: Floats) -> Floats:
        chance = np.maximum(self.propensities.predict(x), CLIP)
        part = chance[:, 1:] / (chance[:, 1:] + chance[:, :1])
        on_treated = np.column_stack([each.predict(x) for each in self.treated])
        on_control = np.column_stack([each.predict(x) for each in self.control])
        return np.asarray(part * on_control + (1 - part) * on_treated)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """What learners share."""

    trial: Trial
    #: cross-fitted
    scores: Scores
    #: of all users
    together: Together
    propensities: Propensities
    trees: Trees
    seed: int
    signs: Signs | None = None


def lesson(
    trial: Trial, trees: Trees, seed: int, signs: Signs | None = None, *, folds: int = FOLDS
) -> Lesson:
    return Lesson(
        trial=trial,
        scores=score(trial, seed=seed, trees=trees, folds=folds),
        together=fit_together(trial, trees, seed),
        propensities=fit_propensities(trial, trees, seed),
        trees=trees,
        seed=seed,
        signs=signs,
    )


def learn_s(given: Lesson) -> Asked:
    return Asked(together=given.together)


def learn_t(given: Lesson) -> ByArm:
    trial, models = given.trial, []
    for arm in range(len(trial.treatments) + 1):
        own = trial.rows(trial.arm == arm)
        models.append(fit_outcome(own.x, own.y, own.weight, trial.binary, given.trees, given.seed + arm))
    return ByArm(arms=tuple(models))


def learn_x(given: Lesson) -> Crossed:
    trial, outcome = given.trial, given.scores.outcome
    on_treated: list[Fitted] = []
    on_control: list[Fitted] = []
    control = trial.arm == 0
    for arm in range(1, len(trial.treatments) + 1):
        for kept, effect, found in (
            (trial.arm == arm, trial.y - outcome[:, 0], on_treated),
            (control, outcome[:, arm] - trial.y, on_control),
        ):
            part, seed = trial.rows(kept), given.seed + 2 * arm + len(found)
            found.append(fit_mean(part.x, effect[kept], part.weight, given.trees, seed))
    return Crossed(treated=tuple(on_treated), control=tuple(on_control), propensities=given.propensities)


def learn_dr(given: Lesson) -> Direct:
    trial, scores, models = given.trial, given.scores, []
    for column in range(len(trial.treatments)):
        weight = trial.weight * overlap_weight(scores, column)
        models.append(
            fit_mean(
                trial.x, scores.effect[:, column], weight, given.trees, given.seed + column, signs=given.signs
            )
        )
    return Direct(models=tuple(models))


def learn_class(given: Lesson) -> Direct:
    """P(treated and responded, or neither) is (1 + effect) / 2 where both arms weigh alike."""
    trial, models = given.trial, []
    for arm in range(1, len(trial.treatments) + 1):
        pair = (trial.arm == 0) | (trial.arm == arm)
        part, treated = trial.rows(pair), (trial.arm[pair] == arm).astype(np.float64)
        chance = given.scores.propensity[pair][:, (0, arm)]
        inverse = treated / chance[:, 1] + (1 - treated) / chance[:, 0]
        # where nobody overlaps, nothing is learned
        alike = given.scores.overlap[pair, arm - 1]
        target, weight = part.y * treated + (1 - part.y) * (1 - treated), part.weight * inverse * alike
        if not trial.binary:
            target, weight = (2 * treated - 1) * inverse * part.y, part.weight * alike
        kept = weight > 0
        models.append(
            fit_mean(
                part.x[kept], target[kept], weight[kept], given.trees, given.seed + arm, signs=given.signs
            )
        )
    return (
        Direct(models=tuple(models), factor=2.0, shift=-1.0) if trial.binary else Direct(models=tuple(models))
    )


def overlap_weight(scores: Scores, column: int) -> Floats:
    """e₀ e₁ / (e₀ + e₁)²: how much the user can tell of the effect; 1/4 at even odds."""
    control, treated = scores.propensity[:, 0], scores.propensity[:, column + 1]
    return np.asarray(control * treated / (control + treated) ** 2 * scores.overlap[:, column])


#: name → learner
LEARNERS: Mapping[str, Callable[[Lesson], Effects]] = {
    "s": learn_s,
    "t": learn_t,
    "x": learn_x,
    "dr": learn_dr,
    "class": learn_class,
}
#: those that can promise the sign of a feature's influence on the effect
SIGNED = ("dr", "class")
