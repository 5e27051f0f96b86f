"""Habits of real users, to draw simulated ones from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernel.errors import BadInput

Floats = NDArray[np.float64]
#: most baskets a day that a habit has
_MOST = 0.8
#: fewest purchases that say something of a basket
_FEWEST = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Households:
    """One row a household: how it buys."""

    #: purchases a day
    rate: Floats
    #: mean and deviation of the logarithm of a basket
    log_mean: Floats
    log_deviation: Floats
    #: part of the shelf price that it does not pay
    discount: Floats

    def __len__(self) -> int:
        return len(self.rate)

    def take(self, rows: NDArray[np.int64]) -> Households:
        return Households(**{name: each[rows] for name, each in vars(self).items()})


def households_of(purchases: pl.DataFrame) -> Households:
    """`purchases`: user, at, event_id, amount, maybe discount; lines or baskets. Users with at least three
    purchases count. Raises BadInput where there are fewer than 30."""
    if "discount" not in purchases.columns:
        purchases = purchases.with_columns(discount=pl.lit(0.0))
    lines = purchases.with_columns(pl.col("amount", "discount").cast(pl.Float64).fill_null(0.0))
    baskets = lines.group_by("user", "event_id").agg(
        pl.col("at").min(), pl.col("amount").sum(), pl.col("discount").sum()
    )
    end = baskets.get_column("at").max()
    habits = (
        baskets.filter(pl.col("amount") > 0)
        .group_by("user")
        .agg(
            pl.len().alias("count"),
            ((pl.lit(end) - pl.col("at").min()) / timedelta(days=1)).clip(28.0).alias("days"),
            pl.col("amount").log().mean().alias("log_mean"),
            pl.col("amount").log().std().fill_null(0.5).clip(0.1, 1.5).alias("log_deviation"),
            (pl.col("discount").sum() / (pl.col("amount") + pl.col("discount")).sum()).alias("discount"),
        )
        .filter(pl.col("count") >= _FEWEST)
        .sort("user")
    )
    if habits.height < 30:
        raise BadInput("are too few users with three purchases to draw habits from", field="purchases",
                       value=habits.height)  # fmt: skip
    return Households(
        rate=(habits["count"] / habits["days"]).clip(0.005, _MOST).to_numpy(),
        log_mean=habits["log_mean"].to_numpy(),
        log_deviation=habits["log_deviation"].to_numpy(),
        discount=habits["discount"].fill_nan(0.0).to_numpy(),
    )


def made_up(count: int, seed: int) -> Households:
    """Where there are no real ones: skewed rates, log-normal baskets."""
    rng = np.random.default_rng([seed, 41])
    return Households(
        rate=np.clip(rng.gamma(1.2, 0.12, count), 0.005, _MOST),
        log_mean=rng.normal(3.0, 0.6, count),
        log_deviation=np.clip(rng.normal(0.85, 0.2, count), 0.1, 1.5),
        discount=np.clip(rng.beta(5.0, 28.0, count), 0.0, 0.7),
    )
