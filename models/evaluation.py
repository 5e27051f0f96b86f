"""How good is it? Held-out figures with bootstrap intervals, beside a trivial baseline's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from kernel.learning import Interval

Floats = NDArray[np.float64]
Metric = Callable[[Floats, Floats], float]


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
    "auc": lambda y, p: float(roc_auc_score(y, p)) if 0 < y.mean() < 1 else float("nan"),
    "log_loss": lambda y, p: float(log_loss(y, np.clip(p, 1e-6, 1 - 1e-6), labels=[0, 1])),
    "brier": lambda y, p: float(brier_score_loss(y, p, pos_label=1)),
    "calibration_error": calibration_error,
    "lift_20": lift,
}
MONEY: dict[str, Metric] = {
    "mae": lambda y, p: float(np.abs(y - p).mean()),
    "rmse": lambda y, p: float(np.sqrt(np.square(y - p).mean())),
    "bias": lambda y, p: float((p - y).mean()),
    "gini": gini,
}


def readout(
    y: Floats, predicted: Floats, metrics: dict[str, Metric], *, seed: int, resamples: int = 200
) -> dict[str, Interval]:
    """Every metric with a percentile bootstrap interval over rows (Efron & Tibshirani 1993)."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(y), size=(resamples, len(y)))
    found = {}
    for name, metric in metrics.items():
        spread = np.array([metric(y[draw], predicted[draw]) for draw in draws])
        low, high = np.nanpercentile(spread, [2.5, 97.5])
        found[name] = Interval(mean=metric(y, predicted), low=float(low), high=float(high))
    return found


def reliability(y: Floats, p: Floats, bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean predicted, mean outcome, count) by bin of equal count."""
    parts = _bins(p, bins)
    return [(float(p[part].mean()), float(y[part].mean()), len(part)) for part in parts if len(part)]
