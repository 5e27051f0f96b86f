"""What one purchase of a user comes to: the user's own average, as far as so few tell it from everybody's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from models.history import History


@dataclass(frozen=True, kw_only=True)
class Baskets:
    """Expected amounts of the next purchase, in the currency of the purchases."""

    #: user, basket: of those who bought
    users: pl.DataFrame
    #: of everyone else; 0 where nobody bought
    mean: float


def expected_baskets(history: History, as_of: datetime, within: timedelta) -> Baskets:
    """(n · own mean + k · overall mean) / (n + k), of the purchases in (as_of − within, as_of].

    k is the variance of one user's purchases over that between users, so that whoever bought once is
    believed little and a regular much: credibility of Bühlmann and Straub 1970.
    """
    inside = (pl.col("at") > as_of - within) & (pl.col("at") <= as_of)
    amount = pl.col("amount").cast(pl.Float64)
    baskets = history.purchases.lazy().filter(inside).group_by("user", "event_id").agg(amount.sum())
    users = (
        baskets.group_by("user")
        .agg(
            pl.len().cast(pl.Float64).alias("n"),
            pl.col("amount").mean().alias("own"),
            ((pl.col("amount") - pl.col("amount").mean()) ** 2).sum().alias("squares"),
        )
        .sort("user")
        .collect()
    )
    if users.is_empty():
        return Baskets(users=users.select("user", pl.lit(0.0).alias("basket")), mean=0.0)
    n, own = users["n"], users["own"]
    count = float(n.sum())
    mean = float((n * own).sum()) / count
    # variance of one user's purchases, and that of users' means beyond what it makes of them
    inner = float(users["squares"].sum()) / max(count - users.height, 1.0)
    spread = float((n * (own - mean) ** 2).sum()) - (users.height - 1) * inner
    size = count - float((n**2).sum()) / count
    between = spread / size if size > 0 else 0.0
    if between <= 0:
        return Baskets(users=users.select("user", pl.lit(mean).alias("basket")), mean=mean)
    k = inner / between
    told = ((pl.col("n") * pl.col("own") + k * mean) / (pl.col("n") + k)).round_sig_figs(12)
    return Baskets(users=users.select("user", told.alias("basket")), mean=mean)
