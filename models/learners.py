"""Learners: LightGBM, warm-started from a regularised linear model where examples are few.

Each is `fit(x, y, names, seed)` → something with `predict(x)`; `x` is rows × features with NaN for missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

Floats = NDArray[np.float64]

#: small regularised trees: data sets of some thousand users reward no others (Hillstrom, LESSONS)
_TREES = {
    "num_leaves": 7,
    "learning_rate": 0.04,
    "min_data_in_leaf": 40,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "feature_fraction": 0.5,
    "lambda_l2": 10.0,
    # a few thousand rows need no second thread, which would compete for a busy machine
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
_ROUNDS = 120
#: boosters averaged, each with its own seed: halves the noise of bagging
_BAGS = 4


class Learned(Protocol):
    """What a learner returns."""

    def predict(self, x: Floats) -> Floats: ...

    def contributions(self, x: Floats) -> Floats: ...


@dataclass(frozen=True, kw_only=True)
class Boosted:
    """Boosters on top of a linear model's raw score."""

    linear: Pipeline
    boosters: tuple[lgb.Booster, ...]
    #: raw scores are log-odds
    probability: bool

    def raw(self, x: Floats) -> Floats:
        trees = np.mean([booster.predict(x, raw_score=True) for booster in self.boosters], axis=0)
        return np.asarray(_linear_raw(self.linear, x) + trees)

    def predict(self, x: Floats) -> Floats:
        """Probability, or money (never negative)."""
        raw = self.raw(x)
        return np.asarray(expit(raw) if self.probability else np.square(np.maximum(raw, 0.0)))

    def contributions(self, x: Floats) -> Floats:
        """Mean |contribution| to the raw score by feature: TreeSHAP of the trees plus the linear part's.

        Lundberg et al., "Consistent individualized feature attribution for tree ensembles", 2018.
        """
        trees = np.mean([booster.predict(x, pred_contrib=True)[:, :-1] for booster in self.boosters], axis=0)
        return np.asarray(np.abs(trees + _linear_parts(self.linear, x)).mean(axis=0))


def fit_probability(x: Floats, y: Floats, names: Sequence[str], seed: int) -> Boosted:
    """P(y = 1): logistic regression on normal scores, then LightGBM on what it leaves."""
    linear = _pipeline(LogisticRegression(C=0.01, max_iter=2000), len(x)).fit(x, y)
    return _boost(linear, x, y, names, seed, {"objective": "binary"}, probability=True)


def fit_amount(x: Floats, y: Floats, names: Sequence[str], seed: int) -> Boosted:
    """Money in the window. Learned on square roots: money is skewed, and zero is common."""
    root = np.sqrt(np.maximum(y, 0.0))
    linear = _pipeline(Ridge(alpha=10.0), len(x)).fit(x, root)
    return _boost(linear, x, root, names, seed, {"objective": "regression"}, probability=False)


def _boost(
    linear: Pipeline,
    x: Floats,
    y: Floats,
    names: Sequence[str],
    seed: int,
    objective: dict[str, str],
    *,
    probability: bool,
) -> Boosted:
    start = _linear_raw(linear, x)
    boosters = []
    for bag in range(_BAGS):
        data = lgb.Dataset(x, y, init_score=start, feature_name=list(names), free_raw_data=False)
        boosters.append(lgb.train({**_TREES, **objective, "seed": seed % 2**30 + bag}, data, _ROUNDS))
    return Boosted(linear=linear, boosters=tuple(boosters), probability=probability)


def _pipeline(model: LogisticRegression | Ridge, rows: int) -> Pipeline:
    normal = QuantileTransformer(
        output_distribution="normal", n_quantiles=min(200, rows), random_state=0, subsample=None
    )
    fill = SimpleImputer(strategy="median", keep_empty_features=True)
    return Pipeline([("fill", fill), ("normal", normal), ("scale", StandardScaler()), ("model", model)])


def _linear_raw(linear: Pipeline, x: Floats) -> Floats:
    model = linear.named_steps["model"]
    raw = linear.decision_function(x) if isinstance(model, LogisticRegression) else linear.predict(x)
    return np.asarray(raw, dtype=np.float64)


def _linear_parts(linear: Pipeline, x: Floats) -> Floats:
    return np.asarray(linear[:-1].transform(x) * np.ravel(linear.named_steps["model"].coef_))
