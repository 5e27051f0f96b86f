"""What users are like as shoppers, in units that a person understands.

Shares and rates of users with few purchases are drawn toward everybody's, so that one basket does not
make a character. Money is summed as whole ten-thousandths: exact, and the same in any order of rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import polars as pl

from kernel.errors import BadInput

#: baskets' worth of the average that is mixed into everybody's shares and rates
PRIOR_BASKETS = 3
#: categories that are told apart: the largest by spend, each at least this part of it
MOST_CATEGORIES, LEAST_SHARE = 12, 0.01
#: trade abbreviations as people say them
_SPOKEN = {
    "pckgd": "packaged", "pkgd": "packaged", "pkg": "packaged", "frzn": "frozen", "frz": "frozen",
    "gm": "general goods", "misc": "miscellaneous", "bev": "beverages", "veg": "vegetables",
    "hh": "household", "acc": "accessories", "elec": "electronics", "prod": "products",
}  # fmt: skip
_ADJECTIVES = {"packaged", "frozen", "fresh", "organic", "canned", "chilled"}
_SCALE = 10_000


@dataclass(frozen=True, kw_only=True)
class Usual:
    """What everybody does together, toward which those of whom little is known are drawn."""

    #: sums over all baskets: baskets, amount, discount, weekend, evening
    totals: Mapping[str, float]
    #: gaps between baskets, and the weeks that they took
    gaps: float
    weeks: float
    #: spend where the category is known
    spent: float
    #: largest category → spend
    categories: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Traits:
    """One row a buyer, sorted by user, and which columns there are."""

    #: user, baskets, basket (mean money), per_week, weekend, evening, discount (share of gross), places,
    #: and a share of spend per category; columns without data are absent
    frame: pl.DataFrame
    #: column → label, in order of spend
    categories: dict[str, str]
    usual: Usual


def readable(category: str) -> str:
    """A category's code as a person says it: `MEAT-PCKGD` → `packaged meat`."""
    words = [_SPOKEN.get(word, word) for word in re.split(r"[^\w&'%]+|_", category.lower()) if word]
    if len(words) > 1 and words[-1] in _ADJECTIVES:
        words = [words[-1], *words[:-1]]
    return " ".join(words) or category


def derive_traits(
    *, purchases: pl.DataFrame, as_of: datetime, zone: ZoneInfo, usual: Usual | None = None
) -> Traits:
    """Traits of everyone who bought by `as_of`. `usual`: that of everybody, where `purchases` are those of
    some; else it is learnt from them. Raises BadInput for an amount that is no number."""
    lines = _lines(purchases, as_of)
    baskets = _baskets(lines, zone)
    frame = baskets.group_by("user").agg(
        pl.len().cast(pl.Int64).alias("baskets"),
        pl.col("amount").sum(),
        pl.col("discount").sum(),
        pl.col("weekend").sum(),
        pl.col("evening").sum(),
        (pl.col("at").max() - pl.col("at").min()).dt.total_microseconds().alias("span"),
    )
    spent = _spent(lines) if "category" in purchases.columns else None
    usual = usual or _usual(frame, spent)
    total = usual.totals
    count = max(total["baskets"], 1.0)
    usual_basket = total["amount"] / count
    # a user with n baskets shows n − 1 gaps in the span between the first and the last
    weeks, gaps = pl.col("span") / (7 * 86_400_000_000), pl.col("baskets") - 1
    pace = usual.gaps / usual.weeks if usual.weeks > 0 and usual.gaps > 0 else 1.0
    prior, n = PRIOR_BASKETS, pl.col("baskets")
    exprs = [
        ((pl.col("amount") + prior * usual_basket) / (n + prior) / _SCALE).alias("basket"),
        ((gaps + prior) / (weeks + prior / pace)).alias("per_week"),
        *(((pl.col(x) + prior * total[x] / count) / (n + prior)).alias(x) for x in ("weekend", "evening")),
    ]
    if total["discount"] > 0:
        gross = pl.col("amount").clip(0) + pl.col("discount")
        whole = (max(total["amount"], 0.0) + total["discount"]) / count
        drawn = (pl.col("discount") + prior * total["discount"] / count) / (gross + prior * whole)
        exprs.append(drawn.alias("discount"))
    frame = frame.select("user", "baskets", *exprs)
    if "place" in purchases.columns:
        places = lines.group_by("user").agg(
            pl.col("place").drop_nulls().n_unique().cast(pl.Float64).alias("places")
        )
        frame = frame.join(places, on="user", how="left")
    if spent is not None and usual.spent:
        frame = frame.join(_mix(spent, usual, count), on="user", how="left")
    categories = {f"mix:{category}": readable(category) for category in usual.categories}
    return Traits(frame=frame.sort("user"), categories=categories, usual=usual)


def _usual(frame: pl.DataFrame, spent: pl.DataFrame | None) -> Usual:
    names = ("baskets", "amount", "discount", "weekend", "evening")
    total = {name: float(frame[name].sum()) for name in names}
    everything, categories = 0.0, dict[str, int]()
    if spent is not None:
        totals = spent.group_by("category").agg(pl.col("amount").sum())
        everything = float(totals["amount"].sum())
        largest = totals.filter(pl.col("amount") >= LEAST_SHARE * everything).sort(
            ["amount", "category"], descending=[True, False]
        )
        categories = dict(largest.head(MOST_CATEGORIES).select("category", "amount").iter_rows())
    return Usual(
        totals=total,
        gaps=float(max(total["baskets"], 1.0) - frame.height),
        weeks=float(frame["span"].sum() / (7 * 86_400_000_000)),
        spent=everything,
        categories=categories if everything else {},
    )


def _lines(purchases: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Purchases by `as_of` with money as whole numbers."""
    lines = purchases.filter(pl.col("at") <= as_of)
    for column in ("amount", "discount"):
        if column in lines.columns:
            money = lines[column]
            if not money.dtype.is_numeric():
                raise BadInput("is not a number", where="purchases", field=column, value=str(money.dtype))
            wrong = ~money.cast(pl.Float64).is_finite()
            if (column == "amount" and money.null_count()) or wrong.any():
                raise BadInput("has a line that is no amount of money", where="purchases", field=column)
            whole = (pl.col(column).cast(pl.Float64) * _SCALE).round().cast(pl.Int64)
            lines = lines.with_columns(whole if column == "amount" else whole.fill_null(0).clip(0))
    return lines if "discount" in lines.columns else lines.with_columns(discount=pl.lit(0, pl.Int64))


def _baskets(lines: pl.DataFrame, zone: ZoneInfo) -> pl.DataFrame:
    local = pl.col("at").dt.convert_time_zone(str(zone))
    return (
        lines.group_by("user", "event_id")
        .agg(pl.col("at").min(), pl.col("amount").sum(), pl.col("discount").sum())
        .with_columns(weekend=local.dt.weekday() >= 6, evening=local.dt.hour() >= 17)
    )


def _spent(lines: pl.DataFrame) -> pl.DataFrame:
    """user, category, amount: spend of each user in each category that is known."""
    return (
        lines.filter(pl.col("category").is_not_null() & (pl.col("amount") > 0))
        .with_columns(category=pl.col("category").cast(pl.String))
        .group_by("user", "category")
        .agg(pl.col("amount").sum())
    )


def _mix(spent: pl.DataFrame, usual: Usual, baskets: float) -> pl.DataFrame:
    """user and a share of spend for each of the largest categories."""
    drawn = PRIOR_BASKETS * usual.spent / baskets
    wide = spent.group_by("user").agg(
        pl.col("amount").sum().alias("all"),
        *(
            pl.col("amount").filter(pl.col("category") == category).sum().alias(f"mix:{category}")
            for category in usual.categories
        ),
    )
    shares = [
        ((pl.col(f"mix:{category}") + drawn * amount / usual.spent) / (pl.col("all") + drawn)).alias(
            f"mix:{category}"
        )
        for category, amount in usual.categories.items()
    ]
    return wide.select("user", *shares)
