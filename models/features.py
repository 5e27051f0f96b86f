"""Point-in-time features of users and of user × offer: nothing after `as_of` reaches one.

Sums over a window are stated per week of the part of it that the records cover, and tenure as a share
of the records' length: otherwise a year's sum would grow with the calendar while the records are young,
and a model would learn the date instead of the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl

from kernel.clock import parse_window
from kernel.events import OFFER
from models.history import History

_DAY = 86_400_000_000
#: sums differ in their last digits with the order in which threads meet; a model must not see that
STEADY = pl.col(pl.Float64).round_sig_figs(12)


def _days(column: str, as_of: datetime) -> pl.Expr:
    return (pl.lit(as_of) - pl.col(column)).dt.total_microseconds() / _DAY


def user_features(history: History, as_of: datetime, windows: Sequence[str]) -> pl.DataFrame:
    """One row a user who bought by `as_of`: user, then features (days, money, counts, shares)."""
    key = ("user", as_of, tuple(windows))
    return history.remember(key, lambda: _user_features(history, as_of, windows))


def _user_features(history: History, as_of: datetime, windows: Sequence[str]) -> pl.DataFrame:
    lines = history.purchases.lazy().filter(pl.col("at") <= as_of).with_columns(age=_days("at", as_of))
    covered = max((as_of - history.begin) / timedelta(days=1), 1.0)
    frame = (
        lines.group_by("user").agg(_sums(history, windows, covered)).with_columns(_ratios(history, windows))
    )
    frame = frame.join(_rhythm(lines), on="user", how="left")
    for name in ("treatments", "responses"):
        events: pl.DataFrame | None = getattr(history, name)
        if events is not None:
            frame = frame.join(_contacts(events, name, as_of), on="user", how="left")
    if history.treatments is not None and history.responses is not None:
        counts = ("treatments_offers", "responses_offers", "responses_count")
        # one pseudo-offer at a tenth of a response: a young record is close to the average one
        share = (pl.col("responses_offers") + 0.1) / (pl.col("treatments_offers") + 1)
        frame = frame.with_columns(pl.col(counts).fill_null(0)).with_columns(responses_share=share)
    return frame.sort("user").with_columns(STEADY).collect()


def _sums(history: History, windows: Sequence[str], covered: float) -> list[pl.Expr]:
    exprs = [
        pl.col("age").min().alias("recency_days"),
        (pl.col("age").max() / covered).alias("tenure_share"),
        (pl.col("event_id").n_unique() / (pl.col("age").max().clip(7) / 7)).alias("purchases_lived"),
    ]
    for label in ("item", "place", "category"):
        if label in history.purchases.columns:
            exprs.append(pl.col(label).n_unique().alias(f"{label}_distinct"))
    for window in windows:
        length = parse_window(window) / timedelta(days=1)
        inside, weeks = pl.col("age") < length, min(length, covered) / 7
        purchases = pl.col("event_id").filter(inside).n_unique()
        exprs.append((purchases / weeks).alias(f"purchases_{window}"))
        for number in history.numbers:
            exprs.append((pl.col(number).filter(inside).sum() / weeks).alias(f"{number}_{window}"))
            if number != "amount":
                lines = (pl.col(number).filter(inside) > 0).sum()
                exprs.append((lines / weeks).alias(f"{number}_lines_{window}"))
    return exprs


def _ratios(history: History, windows: Sequence[str]) -> list[pl.Expr]:
    exprs = []
    for window in windows:
        amount = pl.col(f"amount_{window}")
        exprs.append((amount / pl.col(f"purchases_{window}")).fill_nan(None).alias(f"basket_{window}"))
        for number in history.numbers[1:]:
            share = pl.col(f"{number}_{window}") / (amount + pl.col(f"{number}_{window}") + 0.1)
            exprs.append(share.alias(f"{number}_share_{window}"))
    if len(windows) > 1:
        recent, usual = pl.col(f"amount_{windows[0]}"), pl.col(f"amount_{windows[-1]}")
        exprs.append(((recent + 0.1) / (usual + 0.1)).log().alias("amount_trend"))
    return exprs


def _rhythm(lines: pl.LazyFrame) -> pl.LazyFrame:
    """Gaps between purchase days: their mean and spread, and how late the user is by them."""
    days = lines.select("user", pl.col("age").floor().alias("day")).unique().sort("user", "day")
    gaps = days.with_columns(gap=pl.col("day").diff().over("user"))
    rhythm = gaps.group_by("user").agg(
        pl.col("gap").mean().alias("gap_mean_days"),
        pl.col("gap").std().alias("gap_spread_days"),
        pl.col("day").min().alias("_recency"),
    )
    late = pl.col("_recency") / pl.col("gap_mean_days").clip(1)
    return rhythm.with_columns(late.alias("lateness")).drop("_recency")


def _contacts(events: pl.DataFrame, name: str, as_of: datetime) -> pl.LazyFrame:
    """Earlier offers or responses, strictly before `as_of`: an offer does not foretell itself."""
    return (
        events.lazy()
        .filter(pl.col("at") < as_of)
        .with_columns(age=_days("at", as_of))
        .group_by("user")
        .agg(
            pl.col(OFFER).n_unique().alias(f"{name}_offers"),
            pl.len().alias(f"{name}_count"),
            pl.col("age").min().alias(f"{name}_recency_days"),
        )
    )


def offer_features(history: History, offers: Sequence[object], as_of: datetime, window: str) -> pl.DataFrame:
    """How close each offer is to what each user buys: one row a user × offer with any item in common.

    user, offer, affinity_amount, affinity_purchases, affinity_items; absent rows mean zero.
    """
    columns = {"affinity_amount": pl.Float64, "affinity_purchases": pl.Int64, "affinity_items": pl.Int64}
    user = history.purchases.schema["user"]
    if history.offer_items is None or "item" not in history.purchases.columns:
        kind = pl.Int64 if history.treatments is None else history.treatments.schema[OFFER]
        return pl.DataFrame(schema={"user": user, OFFER: kind, **columns})
    bought = history.remember(("items", as_of, window), lambda: _items(history, as_of, window))
    wanted = history.offer_items.filter(pl.col(OFFER).is_in(list(offers))).unique()
    return (
        bought.join(wanted, on="item")
        .group_by("user", OFFER)
        .agg(
            pl.col("amount").sum().alias("affinity_amount"),
            pl.col("purchases").sum().cast(pl.Int64).alias("affinity_purchases"),
            pl.len().cast(pl.Int64).alias("affinity_items"),
        )
        .with_columns(STEADY)
        .sort("user", OFFER)
    )


def _items(history: History, as_of: datetime, window: str) -> pl.DataFrame:
    since = as_of - parse_window(window)
    return (
        history.purchases.lazy()
        .filter((pl.col("at") <= as_of) & (pl.col("at") > since))
        .group_by("user", "item")
        .agg(pl.col("amount").sum().cast(pl.Float64), pl.col("event_id").n_unique().alias("purchases"))
        .collect()
    )
