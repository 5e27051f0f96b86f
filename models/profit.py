"""A score in money: profit against the share of users treated."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernel.errors import BadInput
from kernel.learning import Interval
from models.uplift_scores import mean_error

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ProfitCurve:
    """Money a user of the whole population, in the unit of `value` and `cost`."""

    #: share treated, profit, low, high; the best-scored first, users of one score shared out evenly
    points: pl.DataFrame
    #: treating those whose foreseen profit is above 0
    policy: Interval
    #: share of users that this treats
    share: float
    #: treating everyone
    everyone: Interval
    #: `policy` less the better of treating everyone and nobody, as the average effect foresees it
    over_average: Interval


def profit_curve(
    effect: Floats,
    scores: Floats,
    *,
    value: float | Floats,
    cost: float | Floats,
    average: float,
    seed: int,
    weight: Floats | None = None,
    steps: int = 20,
    resamples: int = 200,
    level: float = 0.95,
) -> ProfitCurve:
    """n held-out users: `effect` as foreseen, doubly robust `scores`, what a unit of outcome is worth and
    what treating a user costs (one number, or one a user), and the `average` effect known beforehand.

    Intervals of the curve are percentiles of the bootstrap, point by point; of policies, normal.
    """
    count = len(effect)
    worth, price = _each(value, "value", count), _each(cost, "cost", count)
    weight = np.ones(count) if weight is None else weight
    if scores.shape != (count,) or weight.shape != (count,):
        raise BadInput(f"needs one number for each of {count} users", where="profit curve", field="scores")
    foreseen, found = worth * effect - price, worth * scores - price
    shares = np.linspace(0.0, 1.0, steps + 1)
    rng = np.random.default_rng(seed)
    order = np.argsort(-foreseen, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(foreseen[order])), count - 1)
    ordered, weights = found[order], weight[order]
    drawn = []
    for _ in range(resamples):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        drawn.append(_along(ordered, weights * times, ends, shares))
    low, high = np.quantile(np.array(drawn), [(1 - level) / 2, (1 + level) / 2], axis=0)
    treat = foreseen > 0
    plain = found if float(weight @ (worth * average - price)) > 0 else np.zeros(count)
    profit = _along(ordered, weights, ends, shares)
    return ProfitCurve(
        points=pl.DataFrame({"share": shares, "profit": profit, "low": low, "high": high}),
        policy=_mean(found * treat, weight, level),
        share=float(weight @ treat / weight.sum()),
        everyone=_mean(found, weight, level),
        over_average=_mean(found * treat - plain, weight, level),
    )


def _along(found: Floats, weight: Floats, ends: NDArray[np.int64], shares: Floats) -> Floats:
    """Profit a user at each share; between the steps of the score straight."""
    treated = np.append(0.0, np.cumsum(weight)[ends]) / weight.sum()
    profit = np.append(0.0, np.cumsum(weight * found)[ends]) / weight.sum()
    return np.asarray(np.interp(shares, treated, profit))


def _mean(values: Floats, weight: Floats, level: float) -> Interval:
    mean, error = mean_error(values, weight)
    reach = NormalDist().inv_cdf((1 + level) / 2) * error
    return Interval(mean=mean, low=mean - reach, high=mean + reach, level=level)


def _each(amount: float | Floats, field: str, count: int) -> Floats:
    found = np.asarray(amount, dtype=np.float64)
    if found.shape not in ((), (count,)) or not np.isfinite(found).all():
        raise BadInput(f"is neither an amount nor one for each of {count} users", field=field)
    return np.broadcast_to(found, (count,))
