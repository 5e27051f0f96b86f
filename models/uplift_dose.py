"""How much of it: the effect of a dose, such as a coupon's value or the number of exposures.

Doses are levels (few, or cut into few by quantiles). Each level's doubly robust scores against none are
stacked, one row a user and level, and learned with the dose as one more feature: levels lend each other
strength, and the sign of more can be promised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from kernel.errors import BadInput
from kernel.randomness import derive_seed
from models.uplift_base import Fitted, Trees, fit_mean
from models.uplift_learners import overlap_weight
from models.uplift_scores import AverageEffect, average_effects, score
from models.uplift_trial import FEWEST, Floats, Integers, Propensity, as_trial, features

#: more different doses than this are cut by quantiles
_MOST_LEVELS = 8


@dataclass(frozen=True, kw_only=True)
class DoseUplift:
    """A learner of doses ≥ 0, where 0 is nothing; deterministic in `seed`."""

    #: 1: more never does less; -1: never more; 0: free
    more: int = 0
    trees: Trees = field(default_factory=Trees)
    seed: int = 0

    def fit(
        self,
        users: pl.DataFrame,
        dose: ArrayLike | pl.Series,
        y: ArrayLike | pl.Series,
        *,
        weight: ArrayLike | pl.Series | None = None,
        propensity: Propensity | None = None,
    ) -> FittedDose:
        """`propensity`: P(level), by the level as text, where assignment is known. Raises BadInput."""
        amounts, levels = _levels(dose, users.height)
        names = tuple(f"{level:g}" for level in levels)
        if self.more not in (-1, 0, 1):
            raise BadInput("is not -1, 0 or 1", field="more", value=self.more)
        label = pl.Series(["0", *names]).gather(amounts)
        trial = as_trial(users, label, y, control="0", weight=weight, propensity=propensity, treatments=names)
        scores = score(trial, seed=derive_seed(self.seed, "dose"), trees=self.trees)
        x = np.vstack([_with_dose(trial.x, np.full(len(trial), level), self.more) for level in levels])
        weights = [trial.weight * overlap_weight(scores, column) for column in range(len(levels))]
        signs = (*(0,) * trial.x.shape[1], self.more) if self.more else None
        model = fit_mean(
            x, scores.effect.T.ravel(), np.concatenate(weights), self.trees, self.seed, signs=signs
        )
        return FittedDose(
            more=self.more, features=trial.names, levels=levels, model=model, averages=average_effects(scores)
        )


@dataclass(frozen=True, kw_only=True)
class FittedDose:
    #: the sign that was promised
    more: int
    features: tuple[str, ...]
    #: doses that were seen, lowest first, without 0
    levels: tuple[float, ...]
    model: Fitted
    #: one a level, against none
    averages: tuple[AverageEffect, ...]

    def predict(self, users: pl.DataFrame, doses: Sequence[float]) -> pl.DataFrame:
        """users × doses: effect of each against none. Raises BadInput beyond what was seen: nothing is
        known there. A dose of 0 has the effect 0."""
        x, found = features(users, self.features), {}
        for dose in doses:
            if dose != 0 and not self.levels[0] <= dose <= self.levels[-1]:
                raise BadInput(
                    f"was never seen; doses went from {self.levels[0]:g} to {self.levels[-1]:g}",
                    field="dose",
                    value=dose,
                )
            effect = self.model.predict(_with_dose(x, np.full(len(x), float(dose)), self.more))
            found[f"{dose:g}"] = effect if dose else np.zeros(len(x))
        return pl.DataFrame(found)


def _with_dose(x: Floats, dose: Floats, more: int) -> Floats:
    """Features, dose, and features by dose for the linear part; those would break a promised sign."""
    return np.hstack([x, dose[:, None], *([] if more else [x * dose[:, None]])])


def _levels(dose: ArrayLike | pl.Series, count: int) -> tuple[Integers, tuple[float, ...]]:
    """Level of each user (0: none), and the dose of each level: the mean of what was given in it."""
    amount = np.asarray(dose, dtype=np.float64)
    if amount.shape != (count,) or not np.isfinite(amount).all():
        raise BadInput(f"needs one number for each of {count} users", field="dose")
    if amount.min() < 0:
        raise BadInput("is negative", field="dose", value=float(amount.min()))
    given = amount[amount > 0]
    if min(len(given), count - len(given)) < FEWEST:
        raise BadInput(f"needs {FEWEST} users with a dose and {FEWEST} without", field="dose")
    different = np.unique(given)
    if len(different) <= _MOST_LEVELS:
        return np.searchsorted(different, amount, side="right").astype(np.int64), tuple(different.tolist())
    edges = np.unique(np.quantile(given, np.arange(1, _MOST_LEVELS) / _MOST_LEVELS))
    place = np.where(amount > 0, np.searchsorted(edges, amount, side="left") + 1, 0)
    means = [float(amount[place == each].mean()) for each in range(1, int(place.max()) + 1)]
    return place.astype(np.int64), tuple(means)
