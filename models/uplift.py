"""Uplift: what a treatment adds, for each user, learned from users who got it and users who did not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from scipy.stats import t as student

from kernel.errors import BadInput
from kernel.randomness import derive_seed
from models.uplift_base import Trees
from models.uplift_learners import LEARNERS, SIGNED, Effects, Signs, lesson
from models.uplift_scores import AverageEffect, Together, average_effects
from models.uplift_stack import learn_stack
from models.uplift_trial import Floats, Propensity, Trial, as_trial, features

STACK = "stack"
KINDS = (*LEARNERS, STACK)


@dataclass(frozen=True, kw_only=True)
class Uplift:
    """A learner, as scikit-learn has it: `fit(X, treatment, y)`, then `predict(X)` of what that returns.

    X is a frame of feature columns (numbers or truths; missing is allowed), one row a user. Deterministic
    in `seed`.
    """

    #: `s`, `t`, `x`, `dr`, `class`, or `stack`: of all of them the one that tells most of unseen users
    kind: str = STACK
    #: label of those who got nothing
    control: str = "0"
    #: feature → 1: the effect never falls with it, -1: it never rises; `dr` and `class` only
    monotone: Mapping[str, int] = field(default_factory=dict)
    #: half-samples learned from for the intervals of single users; 0: none
    groups: int = 0
    trees: Trees = field(default_factory=Trees)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadInput(f"is not a learner; there are {', '.join(KINDS)}", field="kind", value=self.kind)
        if self.monotone and self.kind not in SIGNED:
            raise BadInput(f"cannot be promised by {self.kind}; {' and '.join(SIGNED)} can", field="monotone")
        for name, sign in self.monotone.items():
            if sign not in (-1, 0, 1):
                raise BadInput("is not -1, 0 or 1", field=f"monotone {name}", value=sign)
        if self.groups < 0 or self.groups == 1:
            raise BadInput("is neither 0 nor at least 2", field="groups", value=self.groups)

    def fit(
        self,
        users: pl.DataFrame,
        treatment: ArrayLike | pl.Series,
        y: ArrayLike | pl.Series,
        *,
        weight: ArrayLike | pl.Series | None = None,
        propensity: Propensity | None = None,
    ) -> FittedUplift:
        """Learns from all users. `propensity`: P(treatment), where assignment is known; else estimated.

        Raises BadInput for what cannot be learned from.
        """
        trial = as_trial(users, treatment, y, control=self.control, weight=weight, propensity=propensity)
        for name in self.monotone:
            if name not in trial.names:
                raise BadInput("is not a feature", field="monotone", value=name)
        signs = tuple(self.monotone.get(name, 0) for name in trial.names) if self.monotone else None
        seed = derive_seed(self.seed, "uplift", self.kind)
        given = lesson(trial, self.trees, seed, signs)
        learned = learn_stack(given) if self.kind == STACK else LEARNERS[self.kind](given)
        return FittedUplift(
            learner=self,
            features=trial.names,
            treatments=trial.treatments,
            learned=learned,
            response=given.together,
            averages=average_effects(given.scores),
            trusted=(True,) * len(trial.treatments),
            halves=self._halves(trial, signs, seed),
        )

    def _halves(self, trial: Trial, signs: Signs | None, seed: int) -> tuple[tuple[Effects, Effects], ...]:
        """Little bags: for each half of the users two learners that differ in their seed only."""
        found = []
        for group in range(self.groups):
            rng = np.random.default_rng(derive_seed(seed, "half", group))
            kept = np.zeros(len(trial), np.bool_)
            for arm in range(len(trial.treatments) + 1):
                own = rng.permutation(np.flatnonzero(trial.arm == arm))
                kept[own[: len(own) // 2]] = True
            half, bags = trial.rows(kept), []
            for bag in range(2):
                label = derive_seed(seed, "bag", group, bag)
                given = lesson(half, self.trees, label, signs, folds=2)
                bags.append(learn_stack(given) if self.kind == STACK else LEARNERS[self.kind](given))
            found.append((bags[0], bags[1]))
        return tuple(found)


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedUplift:
    """What was learned: effects for new users, treatments in `treatments`' order."""

    learner: Uplift
    features: tuple[str, ...]
    treatments: tuple[str, ...]
    learned: Effects
    #: E[y | x, arm], control first
    response: Together
    #: one a treatment, with its interval
    averages: tuple[AverageEffect, ...]
    #: one a treatment: whether the gate let it through; else everyone gets the average effect
    trusted: tuple[bool, ...]
    #: learners of half the users each
    halves: tuple[tuple[Effects, Effects], ...]

    def predict(self, users: pl.DataFrame) -> pl.DataFrame:
        """users × treatments: E[Y(treatment) − Y(control) | x], in units of the outcome a user."""
        return self._frame(self.effects(users))

    def effects(self, users: pl.DataFrame) -> Floats:
        """`predict` as an array."""
        found = self.learned.effect(features(users, self.features))
        averages = np.array([each.effect.mean for each in self.averages])
        return np.where(np.array(self.trusted), found, averages)

    def predict_response(self, users: pl.DataFrame) -> pl.DataFrame:
        """users × treatments: E[Y | x, treated], the score of a response model: a baseline for uplift."""
        x = features(users, self.features)
        return self._frame(self.response.outcomes(x)[:, 1:])

    def predict_interval(self, users: pl.DataFrame, level: float = 0.95) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Low and high ends for single users' effects.

        Spread of learners that saw half of the users each, and what seeds make of one: the bootstrap of
        little bags (Sexton and Laake 2009; Athey, Tibshirani, Wager 2019), with Student's quantile for so
        few. It tells how much the learner would move with other users, not what its shrinkage hides. Raises
        BadInput when the learner was made without `groups`.
        """
        if not self.halves:
            raise BadInput("is 0, so nothing is known of single users' intervals", field="groups")
        x = features(users, self.features)
        bags = np.array([[one.effect(x), other.effect(x)] for one, other in self.halves])
        between = bags.mean(axis=1).var(axis=0, ddof=1)
        within = bags.var(axis=1, ddof=1).mean(axis=0)
        # `between` holds half of a seed's part already; the learner itself has one seed
        error = np.sqrt(between + within / 2)
        floor = np.array([each.error for each in self.averages])
        reach = float(student.ppf((1 + level) / 2, len(bags) - 1)) * np.maximum(error, floor)
        middle = self.effects(users)
        return self._frame(middle - reach), self._frame(middle + reach)

    def trusting(self, promoted: Mapping[str, bool]) -> FittedUplift:
        """The same, giving the average effect for each treatment that was refused."""
        trusted = tuple(promoted.get(name, False) for name in self.treatments)
        return FittedUplift(**{**vars(self), "trusted": trusted})

    def _frame(self, values: Floats) -> pl.DataFrame:
        return pl.DataFrame(values, schema=list(self.treatments), orient="row")
