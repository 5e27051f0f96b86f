"""Learners: LightGBM, warm-started from a regularised linear model where examples are few.

Each is `fit(x, y, names, seed, …)` → something with `predict(x)`; `x` is rows × features, NaN for missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from threadpoolctl import threadpool_limits

from kernel.errors import BadInput

Floats = NDArray[np.float64]

_TREES = {
    "bagging_freq": 1,
    # a few thousand rows need no second thread, which would compete for a busy machine
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
#: boosters averaged, each with its own seed: halves the noise of bagging
_BAGS = 4


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What a search may change. Small regularised trees: data sets of some thousand users reward no others
    (Hillstrom, LESSONS)."""

    leaves: int = 7
    rate: float = 0.04
    rounds: int = 120
    #: fewest rows of a leaf
    in_leaf: int = 40
    #: L2 penalty of a leaf's value
    l2: float = 10.0
    #: part of the rows, and of the features, that a tree sees
    rows: float = 0.7
    columns: float = 0.5
    #: strength of the linear model that the trees start from: C of the logistic regression, 0.1 / alpha of
    #: the ridge; normal scores make it mean the same everywhere
    linear: float = 0.01
    bags: int = _BAGS

    def as_lightgbm(self) -> dict[str, float | int]:
        return {
            "num_leaves": self.leaves,
            "learning_rate": self.rate,
            "min_data_in_leaf": self.in_leaf,
            "lambda_l2": self.l2,
            "bagging_fraction": self.rows,
            "feature_fraction": self.columns,
        }


DEFAULT = Parameters()


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a learner is told to learn."""

    parameters: Parameters = DEFAULT
    #: +1, −1 or 0 a feature: the prediction may only rise, only fall, or both; empty: all both
    signs: tuple[int, ...] = ()

    def fewer(self, bags: int = 1) -> Setting:
        """The same with fewer boosters: one is enough to tell learners apart, two to calibrate."""
        return replace(self, parameters=replace(self.parameters, bags=min(bags, self.parameters.bags)))


PLAIN = Setting()


class Learned(Protocol):
    """What a learner returns."""

    def predict(self, x: Floats) -> Floats:
        """One number a row."""
        ...

    def explain(self, x: Floats) -> Floats:
        """Rows × features: contributions to the raw score."""
        ...


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

    def explain(self, x: Floats) -> Floats:
        """TreeSHAP of the trees plus the linear part's own shares.

        Lundberg et al., "Consistent individualized feature attribution for tree ensembles", 2018.
        """
        trees = np.mean([booster.predict(x, pred_contrib=True)[:, :-1] for booster in self.boosters], axis=0)
        return np.asarray(trees + _linear_parts(self.linear, x))


@dataclass(frozen=True, kw_only=True)
class TwoPart:
    """Money as P(any) × money given any (Duan, Manning, Morris, Newhouse 1983)."""

    some: Boosted
    amount: Boosted

    def predict(self, x: Floats) -> Floats:
        return np.asarray(self.some.predict(x) * self.amount.predict(x))

    def explain(self, x: Floats) -> Floats:
        """Shares of the prediction's logarithm: d ln(p·a) = (1 − p) d logit p + 2 d√a / √a."""
        p = self.some.predict(x)[:, None]
        root = np.maximum(self.amount.raw(x), 1e-3)[:, None]
        return np.asarray((1 - p) * self.some.explain(x) + 2 * self.amount.explain(x) / root)


def fit_probability(
    x: Floats, y: Floats, names: Sequence[str], seed: int, setting: Setting = PLAIN
) -> Boosted:
    """P(y = 1): logistic regression on normal scores, then LightGBM on what it leaves."""
    linear = _linear(LogisticRegression(C=setting.parameters.linear, max_iter=2000), x, y, setting)
    return _boost(linear, x, y, names, seed, {"objective": "binary"}, setting, probability=True)


def fit_amount(x: Floats, y: Floats, names: Sequence[str], seed: int, setting: Setting = PLAIN) -> Boosted:
    """Money in the window. Learned on square roots: money is skewed, and zero is common."""
    return _fit_root(x, y, names, seed, setting, {"objective": "regression"})


def fit_median(x: Floats, y: Floats, names: Sequence[str], seed: int, setting: Setting = PLAIN) -> Boosted:
    """The middle of the money in the window: the root's median is the median's root.

    Raises BadInput for signs: LightGBM does not keep them here.
    """
    if any(setting.signs):
        raise BadInput("cannot be held to signs", where="learner median", field="monotone")
    return fit_quantile(x, y, names, seed, 0.5, setting)


def fit_quantile(
    x: Floats, y: Floats, names: Sequence[str], seed: int, part: float, setting: Setting = PLAIN
) -> Boosted:
    """What `part` of the rows stay below; signs are not kept."""
    free = replace(setting, signs=())
    return _fit_root(x, y, names, seed, free, {"objective": "quantile", "alpha": part})


def fit_two_part(x: Floats, y: Floats, names: Sequence[str], seed: int, setting: Setting = PLAIN) -> Learned:
    """Whether there will be any, and how much then. Where nearly everyone or nobody spends, in one part."""
    some = y > 0
    if min(some.sum(), (~some).sum()) < 50:
        return fit_amount(x, y, names, seed, setting)
    return TwoPart(
        some=fit_probability(x, some.astype(np.float64), names, seed, setting),
        amount=fit_amount(x[some], y[some], names, seed + 1, setting),
    )


def _fit_root(
    x: Floats, y: Floats, names: Sequence[str], seed: int, setting: Setting, objective: dict[str, str | float]
) -> Boosted:
    root = np.sqrt(np.maximum(y, 0.0))
    linear = _linear(Ridge(alpha=0.1 / setting.parameters.linear), x, root, setting)
    return _boost(linear, x, root, names, seed, objective, setting, probability=False)


def _boost(
    linear: Pipeline,
    x: Floats,
    y: Floats,
    names: Sequence[str],
    seed: int,
    objective: dict[str, str | float],
    setting: Setting,
    *,
    probability: bool,
) -> Boosted:
    told: dict[str, object] = {**_TREES, **setting.parameters.as_lightgbm(), **objective}
    if any(setting.signs):
        # the finer methods were seen to break their promise beside missing values
        told |= {"monotone_constraints": list(setting.signs), "monotone_constraints_method": "basic"}
    start, rounds, boosters = _linear_raw(linear, x), setting.parameters.rounds, []
    for bag in range(setting.parameters.bags):
        data = lgb.Dataset(x, y, init_score=start, feature_name=list(names), free_raw_data=False)
        boosters.append(lgb.train({**told, "seed": seed % 2**30 + bag}, data, rounds))
    return Boosted(linear=linear, boosters=tuple(boosters), probability=probability)


def _linear(model: LogisticRegression | Ridge, x: Floats, y: Floats, setting: Setting) -> Pipeline:
    """On normal scores. A weight against the feature's sign is set to nothing, and the others learn again."""
    normal = QuantileTransformer(
        output_distribution="normal", n_quantiles=min(200, len(x)), random_state=0, subsample=None
    )
    fill = SimpleImputer(strategy="median", keep_empty_features=True)
    pipeline = Pipeline([("fill", fill), ("normal", normal), ("scale", StandardScaler()), ("model", model)])
    # matrices so small lose by threads, and sums would depend on their number
    with threadpool_limits(1, "blas"):
        pipeline.fit(x, y)
        return _held_to(setting, pipeline, model, x, y)


def _held_to(
    setting: Setting, pipeline: Pipeline, model: LogisticRegression | Ridge, x: Floats, y: Floats
) -> Pipeline:
    signs = np.array(setting.signs or [0] * x.shape[1])
    out = np.zeros(x.shape[1], dtype=bool)
    scores = pipeline[:-1].transform(x) if signs.any() else x
    while (wrong := ~out & (np.ravel(model.coef_) * signs < 0)).any():
        out |= wrong
        # what is zero for every row has no weight, whatever the penalty
        model.fit(np.where(out, 0.0, scores), y)
    if out.any():
        model.coef_ = np.where(out, 0.0, model.coef_)
    return pipeline


def _linear_raw(linear: Pipeline, x: Floats) -> Floats:
    model = linear.named_steps["model"]
    raw = linear.decision_function(x) if isinstance(model, LogisticRegression) else linear.predict(x)
    return np.asarray(raw, dtype=np.float64)


def _linear_parts(linear: Pipeline, x: Floats) -> Floats:
    return np.asarray(linear[:-1].transform(x) * np.ravel(linear.named_steps["model"].coef_))
