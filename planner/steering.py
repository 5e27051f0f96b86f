"""Who may be touched today and what a touch is worth beside the first one, as a frequency decided it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

#: of the money, as candidates are rounded
_DIGITS = 9


@dataclass(frozen=True, kw_only=True)
class Steered:
    """What one frequency says of its users; who is not in `users` is not its business."""

    #: of the frequency
    name: str
    channels: tuple[str, ...]
    #: None: all
    goals: tuple[str, ...] | None
    #: user, factor (≥ 0: worth of the next touch in units of the first; 0: none today), reason (of a 0)
    users: pl.DataFrame


def steer(rows: pl.DataFrame, steered: Sequence[Steered]) -> tuple[pl.DataFrame, dict[str, int]]:
    """`rows` (user, channel, goal, …) with the product of their factors as `factor`, less those of factor 0;
    and reason → how many those were."""
    rows = rows.with_columns(factor=pl.lit(1.0))
    pruned: dict[str, int] = {}
    for each in steered:
        mine = pl.col("channel").is_in(list(each.channels))
        if each.goals is not None:
            mine = mine & pl.col("goal").is_in(list(each.goals))
        told = each.users.select("user", pl.col("factor").alias("_factor"), pl.col("reason").alias("_reason"))
        rows = rows.join(told, on="user", how="left", maintain_order="left")
        rows = rows.with_columns(_factor=pl.when(mine).then(pl.col("_factor")).fill_null(1.0))
        gone = rows.filter(pl.col("_factor") <= 0)
        for reason, many in gone.group_by("_reason", maintain_order=True).len().iter_rows():
            pruned[f"frequency {each.name}: {reason}"] = many
        rows = rows.filter(pl.col("_factor") > 0)
        rows = rows.with_columns(pl.col("factor") * pl.col("_factor")).drop("_factor", "_reason")
    return rows, pruned


def weighed(valued: pl.DataFrame) -> pl.DataFrame:
    """Response, gain, cost and value by `factor`; it is 1 where nothing steers."""
    scaled = [name for name in ("response", "gain", "gain_low", "gain_high") if name in valued.columns]
    valued = valued.with_columns((pl.col(each) * pl.col("factor")).round(_DIGITS) for each in scaled)
    cost = (pl.col("per_touch") + pl.col("response") * pl.col("per_response")).round(_DIGITS)
    return valued.with_columns(cost=cost).with_columns(value=(pl.col("gain") - pl.col("cost")).round(_DIGITS))
