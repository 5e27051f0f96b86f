"""Do predictions still come true? Observed less predicted by day, and an alarm when it stays on one side.

Each day is a standard score: the sum of what was observed less what was predicted, in its standard errors.
Two cumulative sums (Page 1954), one a side, add up what exceeds half a standard error a day, so that a small
lasting deviation is found and a bad day is not. The alarm's level is such that within `horizon` days without
drift one of them is reached with probability `alpha`: computed exactly for normal scores on a grid (Brook &
Evans 1972).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from kernel.errors import BadInput

Floats = NDArray[np.float64]
#: standard errors a day that are let pass; deviations of twice that are found soonest
ALLOWANCE = 0.5
_GRID = 200
#: rows of a day below which it says nothing
FEWEST = 30


@dataclass(frozen=True, kw_only=True)
class CalibrationDrift:
    """Observed against predicted, day by day."""

    #: day, rows, predicted and observed (means), difference and its 95 % interval `low`, `high`, z, and the
    #: two sums `above` (more than predicted) and `below`, alarm
    days: pl.DataFrame
    #: level of the sums that is an alarm
    level: float
    #: P(an alarm within `horizon` days without drift)
    alpha: float
    horizon: int

    @property
    def alarm(self) -> bool:
        return bool(self.days["alarm"].any())

    @property
    def since(self) -> object | None:
        """The day on which the deviation that first raised the alarm is likely to have begun."""
        first = self.days.with_row_index("i").filter("alarm").head(1)
        if first.is_empty():
            return None
        i = int(first["i"][0])
        side = "above" if first["above"][0] >= first["below"][0] else "below"
        sums = self.days[side].to_numpy()[: i + 1]
        quiet = np.flatnonzero(sums[:i] == 0)
        day: object = self.days["day"][int(quiet[-1]) + 1 if len(quiet) else 0]
        return day

    def as_json(self) -> dict[str, Any]:
        return {
            "alarm": self.alarm,
            "since": None if self.since is None else str(self.since),
            "level": self.level,
            "alpha": self.alpha,
            "horizon": self.horizon,
            "days": self.days.with_columns(pl.col("day").cast(pl.String)).to_dicts(),
        }


def calibration_drift(
    rows: pl.DataFrame,
    *,
    alpha: float = 0.05,
    horizon: int = 365,
    probability: bool = True,
    widen: float = 1.0,
) -> CalibrationDrift:
    """`rows`: day, predicted, observed, one row a prediction whose outcome is final.

    `probability`: predictions are chances, and a day's variance is what they themselves say; otherwise
    (money) it is estimated from the day's rows; `widen` multiplies its root, where days are known to differ
    by more than their rows. Days with fewer than `FEWEST` rows are left out.

    Raises BadInput for missing columns or values, chances outside 0 … 1, or when no day is left.
    """
    _check(rows, ("day", "predicted", "observed"))
    if probability and not rows["predicted"].is_between(0, 1).all():
        raise BadInput("is no probability in some rows", where="rows", field="predicted")
    left = (pl.col("observed") - pl.col("predicted")).cast(pl.Float64)
    spread = (pl.col("predicted") * (1 - pl.col("predicted"))).sum() if probability else left.var() * pl.len()
    days = (
        rows.group_by("day")
        .agg(
            pl.len().alias("rows"),
            pl.col("predicted").mean(),
            pl.col("observed").cast(pl.Float64).mean(),
            left.mean().alias("difference"),
            (widen * spread.sqrt() / pl.len()).alias("error"),
        )
        .filter(pl.col("rows") >= FEWEST)
    )
    return _summed(days, alpha, horizon)


def effect_drift(days: pl.DataFrame, *, alpha: float = 0.05, horizon: int = 365) -> CalibrationDrift:
    """The same for uplift, which no single user shows: `days` has day, rows, predicted (mean predicted
    uplift), observed (that day's effect against the holdout) and error (its standard error)."""
    _check(days, ("day", "rows", "predicted", "observed", "error"))
    if not (days["error"] > 0).all():
        raise BadInput("is not above 0 in some rows", where="days", field="error")
    return _summed(days.with_columns(difference=pl.col("observed") - pl.col("predicted")), alpha, horizon)


@lru_cache(maxsize=32)
def alarm_level(alpha: float, horizon: int) -> float:
    """Level that one of the two sums reaches within `horizon` days with probability `alpha` at most."""
    if not 0 < alpha < 1:
        raise BadInput("is not between 0 and 1", field="alpha", value=alpha)
    if not 1 <= horizon <= 10_000:
        raise BadInput("is not 1 … 10,000 days", field="horizon", value=horizon)
    return float(brentq(lambda level: _reached(level, horizon) - alpha / 2, 0.01, 40.0, xtol=1e-6))


def _reached(level: float, horizon: int) -> float:
    """P(a sum of standard normal scores reaches `level` within so many days): a Markov chain on its value."""
    width = 2 * level / (2 * _GRID - 1)
    middles = np.arange(_GRID) * width
    to_edge = middles[None, :] + width / 2 - middles[:, None] + ALLOWANCE
    below = norm.cdf(to_edge)
    step = np.diff(below, axis=1, prepend=0.0)
    stays = np.linalg.matrix_power(step, horizon)
    return float(1 - stays[0].sum())


def _check(rows: pl.DataFrame, columns: tuple[str, ...]) -> None:
    for name in columns:
        if name not in rows.columns:
            raise BadInput("is missing", where="rows", field=name)
        kind = rows.schema[name]
        if name != "day" and not (kind.is_numeric() or kind == pl.Boolean):
            raise BadInput("is not a number", where="rows", field=name, value=str(kind))
        if rows[name].null_count() or (name != "day" and not rows[name].cast(pl.Float64).is_finite().all()):
            raise BadInput("is missing or no number in some rows", where="rows", field=name)


def _summed(days: pl.DataFrame, alpha: float, horizon: int) -> CalibrationDrift:
    if days.is_empty():
        raise BadInput(f"holds no day with {FEWEST} rows", field="rows")
    level = alarm_level(alpha, horizon)
    days = days.sort("day").with_columns(
        # nothing was uncertain: what was foretold for sure either came, or could not have been so sure
        z=pl.when(pl.col("error") > 0)
        .then(pl.col("difference") / pl.col("error"))
        .otherwise(pl.when(pl.col("difference") == 0).then(0.0).otherwise(pl.col("difference").sign() * 40)),
        low=pl.col("difference") - norm.ppf(0.975) * pl.col("error"),
        high=pl.col("difference") + norm.ppf(0.975) * pl.col("error"),
    )
    above, below, sums = 0.0, 0.0, []
    for z in days["z"].to_list():
        above, below = max(0.0, above + z - ALLOWANCE), max(0.0, below - z - ALLOWANCE)
        sums.append((above, below))
    days = days.with_columns(
        above=pl.Series([each for each, _ in sums], dtype=pl.Float64),
        below=pl.Series([each for _, each in sums], dtype=pl.Float64),
    ).with_columns(alarm=(pl.col("above") >= level) | (pl.col("below") >= level))
    return CalibrationDrift(days=days.drop("error"), level=level, alpha=alpha, horizon=horizon)
