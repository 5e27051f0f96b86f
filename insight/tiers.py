"""Value tiers by predicted spend."""

from __future__ import annotations

import math
from collections.abc import Mapping

import polars as pl

from kernel.errors import BadInput
from kernel.people import Tier

_TIERS = pl.Enum([str(tier) for tier in Tier])


def derive_tiers(
    *, users: pl.DataFrame, buyers: pl.DataFrame, spend: pl.DataFrame, shares: Mapping[Tier, float]
) -> pl.DataFrame:
    """One row a user of `users`, sorted: user, spend (predicted; NULL for who never bought), tier.

    `shares` of `buyers` by falling spend, top first; equal spends share one tier, that of their middle.
    Who never bought is `low`. Raises BadInput for shares that do not sum to one, for a buyer without
    a prediction or with two, and for a prediction that is no number.
    """
    _check_shares(shares)
    predicted = _predicted(buyers, spend)
    count = max(predicted.height, 1)
    # the middle rank of equals, from the top, as a part of all
    place = (pl.col("spend").rank("average", descending=True) - 0.5) / count
    edge, tier = 0.0, pl.lit(str(Tier.LOW))
    edges = []
    for each in Tier:
        edge += shares.get(each, 0.0)
        edges.append((edge, each))
    for edge, each in reversed(edges[:-1]):
        tier = pl.when(place <= edge + 1e-12).then(pl.lit(str(each))).otherwise(tier)
    return (
        users.select("user")
        .join(predicted.with_columns(tier=tier), on="user", how="left")
        .with_columns(pl.col("tier").fill_null(str(Tier.LOW)).cast(_TIERS))
        .sort("user")
    )


def _check_shares(shares: Mapping[Tier, float]) -> None:
    for tier, share in shares.items():
        if not share >= 0:
            raise BadInput("is negative", where="cells", field=f"tiers.{tier}", value=share)
    total = sum(shares.values())
    if not math.isclose(total, 1.0, abs_tol=1e-6):
        raise BadInput("sum to something else than one", where="cells", field="tiers", value=round(total, 6))


def _predicted(buyers: pl.DataFrame, spend: pl.DataFrame) -> pl.DataFrame:
    if not spend["spend"].dtype.is_numeric():
        raise BadInput("is not a number", where="spend", field="spend", value=str(spend["spend"].dtype))
    predicted = buyers.select("user").join(
        spend.select("user", pl.col("spend").cast(pl.Float64)), on="user", how="left"
    )
    if predicted.height > buyers.height:
        twice = predicted.filter(pl.col("user").is_duplicated())["user"].sort()[0]
        raise BadInput("has two predictions", where="spend", field="user", value=twice)
    wrong = predicted.filter(pl.col("spend").is_null() | ~pl.col("spend").is_finite())
    if wrong.height:
        raise BadInput(
            f"has bought and has no predicted spend that is a number, one of {wrong.height} such users",
            where="spend",
            field="user",
            value=wrong["user"].sort()[0],
        )
    return predicted
