"""Silence: how long until a user buys again, and how long is long for this user."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from kernel.learning import ModelRecipe
from models.history import History

#: no silence shorter than this is a lapse, days: a week may always pass
SHORTEST = 7.0
#: gaps of the average user that stand beside a user's own: few gaps say little
_PRIOR = 2.0


def usual_gaps(history: History, at: object) -> pl.DataFrame:
    """user, gap (usual days between purchase days), silent (days since the last), for buyers by `at`.

    The usual gap is the mean of the user's own and of two gaps of the average user's length: a user with
    one purchase is expected at everyone's pace.
    """
    days = (
        history.purchases.lazy()
        .filter(pl.col("at") <= pl.lit(at))
        .select("user", ((pl.lit(at) - pl.col("at")).dt.total_microseconds() / 86_400_000_000).alias("age"))
        .group_by("user")
        .agg(
            pl.col("age").floor().n_unique().alias("days"),
            pl.col("age").max().alias("first"),
            pl.col("age").min().alias("silent"),
        )
        .with_columns(span=pl.col("first") - pl.col("silent"), gaps=pl.col("days") - 1)
        .collect()
    )
    spans, gaps = days["span"].sum(), days["gaps"].sum()
    everyone = float(spans) / max(int(gaps), 1) if gaps else 28.0
    gap = (pl.col("span") + _PRIOR * everyone) / (pl.col("gaps") + _PRIOR)
    return days.select("user", gap.clip(1.0).round_sig_figs(12).alias("gap"), "silent").sort("user")


def next_purchases(history: History, at: datetime, horizon: timedelta) -> pl.DataFrame:
    """user, days until the first purchase in (at, at + horizon]; users without one are absent."""
    return (
        history.purchases.lazy()
        .filter((pl.col("at") > at) & (pl.col("at") <= at + horizon))
        .group_by("user")
        .agg(((pl.col("at").min() - at).dt.total_microseconds() / 86_400_000_000).alias("days"))
        .collect()
    )


def silence_labels(history: History, rows: pl.DataFrame, recipe: ModelRecipe) -> pl.DataFrame:
    """`rows` (user, at, …) with `label` by the user's silence after `at`.

    `next_purchase`: days until the next purchase, at most the window. `lapse`: 1 when there is none for
    `silence` times the user's usual gap as it was known at `at`; at least a week, at most the window.
    """
    most = recipe.horizon / timedelta(days=1)
    parts = []
    for (at,), part in rows.group_by("at", maintain_order=True):
        assert isinstance(at, datetime)  # noqa: S101 (the column is one of instants)
        after = next_purchases(history, at, recipe.horizon)
        part = part.drop("label", strict=False).join(after, on="user", how="left", maintain_order="left")
        if recipe.predicts == "next_purchase":
            label = pl.col("days").fill_null(most)
        else:
            usual = usual_gaps(history, at).select("user", "gap")
            part = part.join(usual, on="user", how="left", maintain_order="left")
            allowed = (recipe.silence * pl.col("gap")).clip(SHORTEST, most).fill_null(most)
            label = (pl.col("days").is_null() | (pl.col("days") > allowed)).cast(pl.Float64)
        parts.append(part.with_columns(label=label).drop("days", "gap", strict=False))
    return pl.concat(parts)
