"""How well a score orders users by effect: Qini and AUUC, defined once.

Definitions are scikit-uplift's, extended to weights. Users in order of their score, best first; users of
one score are one step. Of the users so far let Nₜ, N꜀ be treated and control, Yₜ, Y꜀ their outcomes:

- Qini curve (Radcliffe 2007): Yₜ − Y꜀ · Nₜ / N꜀
- uplift curve: (Yₜ / Nₜ − Y꜀ / N꜀) · (Nₜ + N꜀)

each beginning at (0, 0); a part without users is 0. A coefficient is (area − area of the straight line to
the curve's end) ÷ (area of the best order − the same). The best order puts treated responders first and
control responders last; for AUUC it is the one of Devriendt, Guns and Verbeke 2020. 0 is no order, 1 the
best; both need outcomes of 0 and 1, and treatment given at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernel.errors import BadInput
from kernel.learning import Interval
from kernel.randomness import derive_seed

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Points from no users to all."""

    #: users so far, or their weight
    users: Floats
    #: what treating them added
    gain: Floats

    @property
    def area(self) -> float:
        return float(np.trapezoid(self.gain, self.users))

    @property
    def over_random(self) -> float:
        """Area above the straight line."""
        return self.area - float(self.users[-1] * self.gain[-1] / 2)


def qini_curve(y: ArrayLike, score: ArrayLike, treated: ArrayLike, weight: ArrayLike | None = None) -> Curve:
    """Of outcomes 0 or 1, any scores, and treated 0 or 1. Raises BadInput for anything else."""
    y_, score_, treated_, weight_ = _checked(y, score, treated, weight)
    return _qini(_sums(y_, score_, treated_, weight_))


def uplift_curve(
    y: ArrayLike, score: ArrayLike, treated: ArrayLike, weight: ArrayLike | None = None
) -> Curve:
    """As `qini_curve`."""
    y_, score_, treated_, weight_ = _checked(y, score, treated, weight)
    return _uplift(_sums(y_, score_, treated_, weight_))


def qini(y: ArrayLike, score: ArrayLike, treated: ArrayLike, weight: ArrayLike | None = None) -> float:
    """The Qini coefficient, as `sklift.metrics.qini_auc_score` with negative effects."""
    return _qini_of(*_checked(y, score, treated, weight))


def auuc(y: ArrayLike, score: ArrayLike, treated: ArrayLike, weight: ArrayLike | None = None) -> float:
    """The normalised area under the uplift curve, as `sklift.metrics.uplift_auc_score`."""
    return _auuc_of(*_checked(y, score, treated, weight))


#: name → coefficient of (y, score, treated, weight)
COEFFICIENTS = {"qini": qini, "auuc": auuc}


def coefficient_intervals(
    y: ArrayLike,
    scores: Mapping[str, ArrayLike],
    treated: ArrayLike,
    *,
    seed: int,
    weight: ArrayLike | None = None,
    resamples: int = 200,
    level: float = 0.95,
) -> dict[str, dict[str, Interval]]:
    """score → coefficient → percentile bootstrap interval. Treated and control are drawn anew each; every
    score is asked about the same draws, so that differences can be taken draw by draw."""
    found: dict[str, dict[str, Interval]] = {}
    for name, score in scores.items():
        drawn = _drawn(*_checked(y, score, treated, weight), seed=seed, resamples=resamples)
        found[name] = {}
        for kind, values in drawn.items():
            low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
            mean = COEFFICIENTS[kind](y, score, treated, weight)
            found[name][kind] = Interval(mean=mean, low=float(low), high=float(high), level=level)
    return found


def segment_intervals(
    y: ArrayLike,
    score: ArrayLike,
    treated: ArrayLike,
    segment: ArrayLike,
    *,
    seed: int,
    weight: ArrayLike | None = None,
    resamples: int = 200,
    fewest: int = 100,
) -> dict[str, dict[str, Interval]]:
    """segment → coefficient → interval, for segments with at least `fewest` users in each arm."""
    y_, score_, treated_, weight_ = _checked(y, score, treated, weight)
    label = np.asarray(segment).astype(str)
    if label.shape != y_.shape:
        raise BadInput("needs one label for each user", field="segment", value=label.shape)
    found = {}
    for each in np.unique(label):
        own = label == each
        part = y_[own], score_[own], treated_[own], weight_[own]
        if min(part[2].sum(), (1 - part[2]).sum()) >= fewest and part[0].min() < part[0].max():
            intervals = coefficient_intervals(
                part[0],
                {"": part[1]},
                part[2],
                weight=part[3],
                seed=derive_seed(seed, each),
                resamples=resamples,
            )
            found[str(each)] = intervals[""]
    return found


def _drawn(
    y: Floats, score: Floats, treated: Floats, weight: Floats, *, seed: int, resamples: int
) -> dict[str, Floats]:
    """A draw with replacement is a weight for each user: nothing is sorted twice."""
    rng, arms = np.random.default_rng(seed), [np.flatnonzero(treated == arm) for arm in (0, 1)]
    found: dict[str, list[float]] = {"qini": [], "auuc": []}
    for _ in range(resamples):
        times = np.zeros(len(y))
        for rows in arms:
            times[rows] = np.bincount(rng.integers(0, len(rows), len(rows)), minlength=len(rows))
        found["qini"].append(_qini_of(y, score, treated, weight * times))
        found["auuc"].append(_auuc_of(y, score, treated, weight * times))
    return {kind: np.array(values) for kind, values in found.items()}


def _sums(y: Floats, score: Floats, treated: Floats, weight: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Nₜ, N꜀, Yₜ, Y꜀ at each step of the score."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(y) - 1)
    w, t, o = weight[order], treated[order], y[order]
    treated_w, control_w = w * t, w * (1 - t)
    columns = (treated_w, control_w, treated_w * o, control_w * o)
    n_t, n_c, y_t, y_c = (np.cumsum(column)[ends] for column in columns)
    return n_t, n_c, y_t, y_c


def _qini(sums: tuple[Floats, Floats, Floats, Floats]) -> Curve:
    n_t, n_c, y_t, y_c = sums
    return _curve(n_t + n_c, y_t - y_c * _part(n_t, n_c))


def _uplift(sums: tuple[Floats, Floats, Floats, Floats]) -> Curve:
    n_t, n_c, y_t, y_c = sums
    return _curve(n_t + n_c, (_part(y_t, n_t) - _part(y_c, n_c)) * (n_t + n_c))


def _curve(users: Floats, gain: Floats) -> Curve:
    return Curve(users=np.append(0.0, users), gain=np.append(0.0, gain))


def _part(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _qini_of(y: Floats, score: Floats, treated: Floats, weight: Floats) -> float:
    best = _qini(_sums(y, y * treated - y * (1 - treated), treated, weight)).over_random
    return _qini(_sums(y, score, treated, weight)).over_random / best if best > 0 else float("nan")


def _auuc_of(y: Floats, score: Floats, treated: Floats, weight: Floats) -> float:
    more = (weight * y * (1 - treated)).sum() > (weight * (1 - y) * treated).sum()
    order = 2 * (y == treated) + (y if more else treated)
    best = _uplift(_sums(y, order, treated, weight)).over_random
    return _uplift(_sums(y, score, treated, weight)).over_random / best if best > 0 else float("nan")


def _checked(
    y: ArrayLike, score: ArrayLike, treated: ArrayLike, weight: ArrayLike | None
) -> tuple[Floats, Floats, Floats, Floats]:
    given = {"y": y, "score": score, "treated": treated}
    columns = {name: np.asarray(value, dtype=np.float64) for name, value in given.items()}
    columns["weight"] = np.ones(columns["y"].shape) if weight is None else np.asarray(weight, np.float64)
    for name, column in columns.items():
        if column.ndim != 1 or len(column) != len(columns["y"]) or not len(column):
            raise BadInput("needs one number for each user", field=name, value=column.shape)
        if not np.isfinite(column).all():
            raise BadInput("is missing or infinite for some users", field=name)
    for name in ("y", "treated"):
        if not np.isin(columns[name], (0.0, 1.0)).all():
            raise BadInput("is not 0 or 1 for every user", field=name)
    if columns["treated"].min() == columns["treated"].max():
        raise BadInput("is the same for every user: there is nothing to compare", field="treated")
    if columns["weight"].min() < 0 or columns["weight"].sum() <= 0:
        raise BadInput("is negative for some users, or nothing", field="weight")
    return columns["y"], columns["score"], columns["treated"], columns["weight"]
