"""The linear model on normal scores that trees start from, feature by feature: users, tasks and pairs add up.

scikit-learn's own transformations (median for what is missing, quantiles, normal scores, scale) as one
function a feature, so that nothing is worked out for a user once a task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.pipeline import Pipeline

Floats = NDArray[np.float64]
#: scikit-learn's BOUNDS_THRESHOLD: how near to an end of what was seen a value is at it
_EDGE = 1e-7
_LOWEST = float(norm.ppf(_EDGE - np.spacing(1)))
_HIGHEST = float(norm.ppf(1 - (_EDGE - np.spacing(1))))


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Its parts, in the order of the features."""

    intercept: float
    #: what a missing value is taken for
    fill: Floats
    #: features × knots, and the share below each knot
    quantiles: Floats
    shares: Floats
    mean: Floats
    #: weight in the raw score of one standard deviation, over that deviation
    weight: Floats

    def add(self, features: Sequence[int], values: Floats, out: Floats) -> None:
        """Adds to `out` (rows) what these features say; `values`: features × rows."""
        at = np.asarray(features, np.int64)
        if len(at):
            _add(at, values, self.fill, self.quantiles, self.shares, self.mean, self.weight, out)


def linear_of(pipeline: Pipeline) -> Linear:
    """Of a fitted pipeline of `models.learners`."""
    fill, normal, scale, model = (pipeline.named_steps[name] for name in ("fill", "normal", "scale", "model"))
    return Linear(
        intercept=float(np.ravel(model.intercept_)[0]),
        fill=np.where(np.isnan(fill.statistics_), 0.0, fill.statistics_).astype(np.float64),
        quantiles=np.ascontiguousarray(normal.quantiles_.T),
        shares=np.asarray(normal.references_, np.float64),
        mean=np.asarray(scale.mean_, np.float64),
        weight=np.ravel(model.coef_) / scale.scale_,
    )


def _normal_python(p: float) -> float:
    """Quantile of the standard normal (Wichura, algorithm AS 241, PPND16, 1988), to a part in 1e16."""
    q = p - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        above = ((((((2509.0809287301226727 * r + 33430.575583588128105) * r + 67265.770927008700853) * r
                + 45921.953931549871457) * r + 13731.693765509461125) * r + 1971.5909503065514427) * r
                + 133.14166789178437745) * r + 3.387132872796366608  # fmt: skip
        below = ((((((5226.495278852545925 * r + 28729.085735721942674) * r + 39307.89580009271061) * r
                + 21213.794301586595867) * r + 5394.1960214247511077) * r + 687.1870074920579083) * r
                + 42.313330701600911252) * r + 1.0  # fmt: skip
        return q * above / below
    r = np.sqrt(-np.log(p if q < 0 else 1.0 - p))
    if r <= 5.0:
        r -= 1.6
        above = ((((((7.7454501427834140764e-4 * r + 0.0227238449892691845833) * r
                + 0.24178072517745061177) * r + 1.27045825245236838258) * r + 3.64784832476320460504) * r
                + 5.7694972214606914055) * r + 4.6303378461565452959) * r + 1.4234371107496836  # fmt: skip
        below = ((((((1.05075007164441684324e-9 * r + 5.475938084995344946e-4) * r
                + 0.0151986665636164571966) * r + 0.14810397642748007459) * r + 0.68976733498510000455) * r
                + 1.6763848301838038494) * r + 2.05319162663775882187) * r + 1.0  # fmt: skip
    else:
        r -= 5.0
        above = ((((((2.01033439929228813265e-7 * r + 2.71155556874348757815e-5) * r
                + 0.0012426609473880784386) * r + 0.026532189526576123093) * r + 0.29656057182850489123) * r
                + 1.7848265399172913358) * r + 5.4637849111641143699) * r + 6.6579046435011037772  # fmt: skip
        below = ((((((2.04426310338993978564e-15 * r + 1.4215117583164458887e-7) * r
                + 1.8463183175100546818e-5) * r + 7.868691311456132591e-4) * r + 0.0148753612908506148525) * r
                + 0.13692988092273580531) * r + 0.59983220655588793769) * r + 1.0  # fmt: skip
    return float(-above / below if q < 0 else above / below)


_normal: Callable[..., Any] = numba.njit(nogil=True, inline="never")(_normal_python)


def _score_of_python(x: float, knots: Any, shares: Any) -> float:
    """Normal score of a value, clipped as scikit-learn clips it."""
    last = len(knots) - 1
    if x - _EDGE < knots[0]:
        return _LOWEST
    if x + _EDGE > knots[last]:
        return _HIGHEST
    above = np.searchsorted(knots, x, side="right")  # first knot beyond x
    below = np.searchsorted(knots, x, side="left")  # first knot not before it
    if below < above:
        share = 0.5 * (shares[below] + shares[above - 1])  # on knots: the middle of those that tie
    else:
        span = knots[above] - knots[above - 1]
        share = shares[above - 1] + (shares[above] - shares[above - 1]) * ((x - knots[above - 1]) / span)
    if share <= 0.0:
        return _LOWEST
    if share >= 1.0:
        return _HIGHEST
    return float(min(max(_normal(share), _LOWEST), _HIGHEST))


_score_of: Callable[..., Any] = numba.njit(nogil=True)(_score_of_python)


def _add_python(
    features: Any, values: Any, fill: Any, quantiles: Any, shares: Any, mean: Any, weight: Any, out: Any
) -> None:
    for at in range(len(features)):
        feature = features[at]
        if weight[feature] == 0.0:
            continue
        for row in range(len(out)):
            x = values[at, row]
            if np.isnan(x):
                x = fill[feature]
            score = _score_of(x, quantiles[feature], shares)
            out[row] += (score - mean[feature]) * weight[feature]


_add: Callable[..., None] = numba.njit(nogil=True, cache=True)(_add_python)
