"""What every uplift learner is built of: a shrunken linear model, and small trees on what it leaves.

Effects are small beside the noise: few leaves, many users a leaf, and a ridge whose strength the data
choose. The linear part works on normal scores, so that no skewed column rules it. Its algebra takes one
thread: it is small, and threads that wait for each other on a busy machine cost many times what they save.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import lightgbm as lgb
import numpy as np
from scipy.optimize import lsq_linear
from scipy.special import expit, logit, ndtri
from threadpoolctl import ThreadpoolController

from models.uplift_trial import Floats

#: penalties per row among which generalised cross-validation chooses
_PENALTIES = np.geomspace(1e-4, 1e2, 25)
#: of logistic slopes per standard deviation, in users
_SLOPE_PENALTY = 10.0


@dataclass(frozen=True, kw_only=True)
class Trees:
    """How much the trees may say."""

    rounds: int = 60
    leaves: int = 7
    #: fewest users a leaf, where there are many; never more than a twentieth
    leaf_users: int = 200
    rate: float = 0.05
    l2: float = 10.0
    #: boosters averaged, each on its own draws of users and features
    bags: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Scale:
    """Each column as the normal score of its rank among those learned from, mean 0 and deviation 1."""

    #: for each column, values and their scores
    knots: tuple[tuple[Floats, Floats], ...]
    #: for each column, the score of a missing value
    missing: Floats

    @classmethod
    def fit(cls, x: Floats, weight: Floats) -> Scale:
        found, grid = [], np.linspace(0.0, 1.0, 101)
        for column in x.T:
            known = column[~np.isnan(column)]
            values = np.quantile(known, grid) if len(known) else np.zeros(1)
            steps, place = np.unique(values, return_inverse=True)
            rank = np.bincount(place, grid[: len(values)]) / np.bincount(place)
            scores = ndtri(np.clip(rank, 0.005, 0.995))
            raw = np.interp(np.where(np.isnan(column), np.median(values), column), steps, scores)
            mean = float(np.average(raw, weights=weight))
            spread = float(np.sqrt(np.average(np.square(raw - mean), weights=weight)))
            # a constant column says nothing
            found.append((steps, (scores - mean) / spread if spread > 1e-12 else np.zeros(len(steps))))
        middle = [float(np.median(scores)) for _, scores in found]
        return cls(knots=tuple(found), missing=np.array(middle))

    def __call__(self, x: Floats) -> Floats:
        columns = []
        for column, (steps, scores), missing in zip(x.T, self.knots, self.missing, strict=True):
            columns.append(np.where(np.isnan(column), missing, np.interp(column, steps, scores)))
        return np.column_stack(columns)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """Linear model plus boosters; log-odds when `probability`."""

    scale: Scale
    intercept: float
    slopes: Floats
    boosters: tuple[lgb.Booster, ...]
    probability: bool

    def predict(self, x: Floats, by: Floats | None = None) -> Floats:
        """One number a row: a probability, or a mean. `by`: n × groups, if learned with it."""
        raw = self.intercept + linear_part(self.scale(x), by) @ self.slopes
        if self.boosters:
            seen = x if by is None else np.hstack([x, by])
            raw = raw + np.mean([each.predict(seen, raw_score=True) for each in self.boosters], axis=0)
        return np.asarray(expit(raw) if self.probability else raw)


def linear_part(z: Floats, by: Floats | None) -> Floats:
    """Scaled features, groups, and features by group, so that slopes may differ between groups."""
    if by is None:
        return z
    return np.hstack([z, by, *(z * by[:, each : each + 1] for each in range(by.shape[1]))])


def fit_chance(
    x: Floats, y: Floats, weight: Floats, trees: Trees, seed: int, by: Floats | None = None
) -> Fitted:
    """P(y = 1 | x); y of both kinds."""
    scale = Scale.fit(x, weight)
    z = linear_part(scale(x), by)
    with _threads().limit(limits=1):
        intercept, slopes = logistic(z, y, weight)
    boosters = _boost(x, by, y, weight, intercept + z @ slopes, trees, seed, "binary", None)
    return Fitted(scale=scale, intercept=intercept, slopes=slopes, boosters=boosters, probability=True)


def fit_mean(
    x: Floats,
    y: Floats,
    weight: Floats,
    trees: Trees,
    seed: int,
    *,
    signs: tuple[int, ...] | None = None,
    by: Floats | None = None,
) -> Fitted:
    """E[y | x] by least squares. `signs`: one a feature, 1 never falls, -1 never rises, 0 free."""
    scale = Scale.fit(x, weight)
    z = linear_part(scale(x), by)
    with _threads().limit(limits=1):
        intercept, slopes = ridge(z, y, weight, signs)
    boosters = _boost(x, by, y, weight, intercept + z @ slopes, trees, seed, "regression", signs)
    return Fitted(scale=scale, intercept=intercept, slopes=slopes, boosters=boosters, probability=False)


def fit_outcome(
    x: Floats, y: Floats, weight: Floats, binary: bool, trees: Trees, seed: int, by: Floats | None = None
) -> Fitted:
    """E[y | x]: a probability where the outcome is 0 or 1 and both occur."""
    if binary and y.min() < y.max():
        return fit_chance(x, y, weight, trees, seed, by)
    return fit_mean(x, y, weight, trees, seed, by=by)


def logistic(z: Floats, y: Floats, weight: Floats) -> tuple[float, Floats]:
    """Intercept and slopes by Newton's method, with a penalty of ten users' worth on the slopes."""
    a = np.hstack([np.ones((len(z), 1)), z])
    share = np.clip(np.average(y, weights=weight), 1e-6, 1 - 1e-6)
    found = np.zeros(a.shape[1])
    found[0] = logit(share)
    penalty = np.full(a.shape[1], _SLOPE_PENALTY)
    penalty[0] = 1e-6

    def loss(at: Floats) -> float:
        raw = a @ at
        return float(weight @ (np.logaddexp(0.0, raw) - y * raw) + penalty @ np.square(at) / 2)

    before = loss(found)
    for _ in range(30):
        p = expit(a @ found)
        slope = a.T @ (weight * (p - y)) + penalty * found
        bend = (a * (weight * p * (1 - p))[:, None]).T @ a + np.diag(penalty)
        step = np.linalg.solve(bend, slope)
        size = 1.0
        while (after := loss(found - size * step)) > before and size > 1e-4:
            size /= 2
        if after > before - 1e-9 * abs(before):
            break
        found, before = found - size * step, after
    return float(found[0]), found[1:]


def ridge(z: Floats, y: Floats, weight: Floats, signs: tuple[int, ...] | None = None) -> tuple[float, Floats]:
    """Intercept and slopes; penalty by generalised cross-validation (Golub, Heath, Wahba 1979)."""
    share = weight / weight.sum()
    middle, level = share @ z, float(share @ y)
    root = np.sqrt(share)[:, None]
    a, b = root * (z - middle), root[:, 0] * (y - level)
    values, vectors = np.linalg.eigh(a.T @ a)
    values, along = np.maximum(values, 0.0), vectors.T @ (a.T @ b)
    errors = []
    for penalty in _PENALTIES:
        found = along / (values + penalty)
        left = b @ b - 2 * found @ along + (values * found) @ found
        errors.append(left / (1 - ((values / (values + penalty)).sum() + 1) / len(z)) ** 2)
    penalty = _PENALTIES[int(np.argmin(errors))]
    slopes = vectors @ (along / (values + penalty))
    if signs is not None and any(signs):
        # the same objective within bounds, as least squares in the root of its matrix
        root_values = np.sqrt(values + penalty)
        low = [0.0 if sign > 0 else -np.inf for sign in signs]
        high = [0.0 if sign < 0 else np.inf for sign in signs]
        slopes = lsq_linear(root_values[:, None] * vectors.T, along / root_values, (low, high)).x
    return level - float(middle @ slopes), np.asarray(slopes)


def _boost(
    x: Floats,
    by: Floats | None,
    y: Floats,
    weight: Floats,
    start: Floats,
    trees: Trees,
    seed: int,
    objective: str,
    signs: tuple[int, ...] | None,
) -> tuple[lgb.Booster, ...]:
    settings = {
        "objective": objective,
        "num_leaves": trees.leaves,
        "learning_rate": trees.rate,
        "min_data_in_leaf": max(5, min(trees.leaf_users, len(x) // 20)),
        "lambda_l2": trees.l2,
        "bagging_fraction": 0.6,
        "bagging_freq": 1,
        "feature_fraction": 0.7,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }
    if signs is not None and any(signs):
        settings["monotone_constraints"] = list(signs)
    boosters, seen = [], x if by is None else np.hstack([x, by])
    for bag in range(trees.bags if trees.rounds else 0):
        data = lgb.Dataset(seen, y, weight=weight, init_score=start, free_raw_data=False)
        boosters.append(lgb.train({**settings, "seed": (seed + bag) % 2**30}, data, trees.rounds))
    return tuple(boosters)


@cache
def _threads() -> Any:
    """Looked up once: finding the libraries takes longer than most of the algebra."""
    return ThreadpoolController()
