"""What each user would get at the plan's prices: of those who get it, and of those held out, alike."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from kernel.choices import Limits
from planner.limits import slice_of

#: what is told of an intention
COLUMNS = ("user", "task", "goal", "benefit", "touchpoint", "channel", "value", "gain", "cost", "worth")


def intended(candidates: pl.DataFrame, limits: Limits, prices: Mapping[str, float]) -> pl.DataFrame:
    """[user, task, …, worth]: of each user the candidate that is worth most after it has paid its prices,
    if that is more than nothing. `worth`: value − Σ price × usage, money.

    It is the user's own reply to the prices, so it says nothing of whether the user was held out: of the
    users with one intention, those who got it and those who were kept from it are alike.
    """
    paid = pl.lit(0.0)
    for limit in limits.limits:
        price = prices.get(limit.name, 0.0)
        if price:
            usage = pl.lit(1.0) if limit.sum is None else pl.col(limit.sum).cast(pl.Float64)
            inside = slice_of(limit, candidates.columns)
            paid = paid + pl.when(inside).then(usage * price).otherwise(0.0)
    # a billionth: prices are known no better, and who is on the edge must not hang on the last digit
    worth = (pl.col("value") - paid).round(9).alias("worth")
    return (
        candidates.with_columns(worth)
        .filter(pl.col("worth") > 0)
        .sort(["user", "worth", "task"], descending=[False, True, False])
        .unique("user", keep="first", maintain_order=True)
        .select(COLUMNS)
    )
