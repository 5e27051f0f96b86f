"""How good is it? Held-out figures with bootstrap intervals, beside a trivial baseline's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from kernel.learning import Interval

Floats = NDArray[np.float64]
Metric = Callable[[Floats, Floats], float]
_Group = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def auc(y: Floats, score: Floats) -> float:
    """P(a positive is scored above a negative), ties count half (Mann–Whitney)."""
    positive = y.sum()
    pairs = positive * (len(y) - positive)
    if pairs == 0:
        return float("nan")
    return float((rankdata(score) @ y - positive * (positive + 1) / 2) / pairs)


def lift(y: Floats, score: Floats, share: float = 0.2) -> float:
    """Mean outcome of the best-scored `share` over the mean of all; ties share the edge evenly."""
    if y.mean() == 0:
        return float("nan")
    seats = share * len(y)
    order = rankdata(-score, method="min") - 1
    sizes = np.bincount(order.astype(int), minlength=len(y) + 1)
    taken = np.clip((seats - order) / sizes[order.astype(int)], 0.0, 1.0)
    return float((taken * y).sum() / taken.sum() / y.mean())


def calibration_error(y: Floats, p: Floats, bins: int = 10) -> float:
    """Expected calibration error over bins of equal count (Naeini et al. 2015)."""
    parts = _bins(p, bins)
    return float(
        sum(len(part) * abs(y[part].mean() - p[part].mean()) for part in parts if len(part)) / len(y)
    )


def gini(y: Floats, score: Floats) -> float:
    """Ranking of money: 1 is the order of the truth, 0 is none (Lorenz curve of y by score)."""

    if not y.any():
        return float("nan")

    def area(by: Floats) -> float:
        return float((y * (len(y) + 1 - rankdata(-by))).sum() / y.sum() - (len(y) + 1) / 2)

    worst = area(y)
    return area(score) / worst if worst else float("nan")


def _bins(p: Floats, bins: int) -> list[NDArray[np.int64]]:
    """Rows by bin of about equal count; rows that tie share a bin."""
    place = np.minimum((rankdata(p) - 0.5) * bins // len(p), bins - 1)
    return [np.flatnonzero(place == each) for each in np.unique(place)]


PROBABILITY: dict[str, Metric] = {
    "auc": auc,
    "log_loss": lambda y, p: float(losses(y, p, probability=True).mean()),
    "brier": lambda y, p: float(np.square(y - p).mean()),
    "calibration_error": calibration_error,
    "lift_20": lift,
}
MONEY: dict[str, Metric] = {
    "mae": lambda y, p: float(np.abs(y - p).mean()),
    "rmse": lambda y, p: float(np.sqrt(np.square(y - p).mean())),
    "bias": lambda y, p: float((p - y).mean()),
    "gini": gini,
}
#: of days: no order of merit, only error
AMOUNT: dict[str, Metric] = {name: MONEY[name] for name in ("mae", "rmse", "bias")}


def readout(
    y: Floats,
    predicted: Floats,
    metrics: dict[str, Metric],
    *,
    seed: int,
    users: NDArray[np.generic] | None = None,
    resamples: int = 200,
) -> dict[str, Interval]:
    """Every metric with a percentile bootstrap interval (Efron & Tibshirani 1993).

    With `users` (one a row) whole users are drawn, with all their rows: rows of one user are no
    independent witnesses.
    """
    group = None if users is None else _grouped(users)
    draws = [_draw(each, group, len(y)) for each in np.random.default_rng(seed).spawn(resamples)]
    found = {}
    for name, metric in metrics.items():
        spread = np.array([metric(y[draw], predicted[draw]) for draw in draws])
        known = spread[~np.isnan(spread)]
        low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
        found[name] = Interval(mean=metric(y, predicted), low=float(low), high=float(high))
    return found


def _draw(rng: np.random.Generator, group: _Group | None, rows: int) -> NDArray[np.int64]:
    if group is None:
        return rng.integers(0, rows, rows)
    order, first, size = group
    drawn = rng.integers(0, len(first), len(first))
    ends = np.cumsum(size[drawn])
    within = np.arange(ends[-1]) - np.repeat(ends - size[drawn], size[drawn])
    return np.asarray(order[np.repeat(first[drawn], size[drawn]) + within])


def _grouped(users: NDArray[np.generic]) -> _Group:
    """Rows ordered by user, where each user's begin, and how many there are."""
    place = np.unique(users, return_inverse=True)[1]
    size = np.bincount(place)
    return np.argsort(place, kind="stable"), np.cumsum(size) - size, size


def mean_by_user(values: Floats, users: NDArray[np.generic]) -> tuple[float, float]:
    """Mean of the rows and its standard error, robust to rows of one user being alike.

    Liang & Zeger, "Longitudinal data analysis using generalized linear models", 1986.
    """
    place = np.unique(users, return_inverse=True)[1]
    sums = np.bincount(place, values - values.mean())
    if len(sums) < 2:
        return float(values.mean()), float("inf")
    error = np.sqrt(np.square(sums).sum() * len(sums) / (len(sums) - 1)) / len(values)
    return float(values.mean()), float(error)


def losses(y: Floats, predicted: Floats, *, probability: bool) -> Floats:
    """What a row is judged by: log loss of a probability, absolute error of an amount."""
    if not probability:
        return np.asarray(np.abs(y - predicted))
    p = np.clip(predicted, 1e-6, 1 - 1e-6)
    return np.asarray(-(y * np.log(p) + (1 - y) * np.log(1 - p)))


def gains(y: Floats, score: Floats, steps: int = 20) -> list[tuple[float, float]]:
    """(share of rows chosen, share of all outcomes among them), the best-scored first; ties share evenly."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(y) - 1)
    shares = np.append(0.0, (ends + 1) / len(y))
    total = y.sum()
    found = np.append(0.0, np.cumsum(y[order])[ends]) / (total if total else 1.0)
    grid = np.linspace(0, 1, steps + 1)
    return list(zip(grid.tolist(), np.interp(grid, shares, found).tolist(), strict=True))


def reliability(y: Floats, p: Floats, bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean predicted, mean outcome, count) by bin of equal count."""
    parts = _bins(p, bins)
    return [(float(p[part].mean()), float(y[part].mean()), len(part)) for part in parts if len(part)]
