"""Who went where between two days: cells, or one side of them, against each other."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from insight.cell_drift import SIDES
from kernel.errors import BadInput, NotFound

#: where users come from who were not there before, and where those go who are no longer there
NEW, GONE = "(new)", "(gone)"


@dataclass(frozen=True, kw_only=True)
class Migration:
    """Two days, user by user."""

    #: what users are followed by, one of SIDES
    by: str
    #: users on both days, and of these the part that stayed where they were, 0 to 1
    users: int
    stayed: float
    #: users of the second day only, and of the first only
    new: int
    gone: int
    #: from, to, users, share (of those who were in `from`; NULL from `(new)`), largest first
    flows: pl.DataFrame
    #: one row a place: place, before, after, stayed (users), share_stayed (of before; NULL for none)
    places: pl.DataFrame


def derive_migration(
    before: pl.DataFrame | pl.LazyFrame, after: pl.DataFrame | pl.LazyFrame, by: str
) -> Migration:
    """`before`, `after`: kernel.people.Cells of two days, also as lazy scans. Raises NotFound, BadInput."""
    if by not in SIDES:
        raise NotFound("side", by, SIDES, field="by")
    frames = [frame.lazy().select("user", pl.col(by).cast(pl.String)) for frame in (before, after)]
    kinds = [frame.collect_schema()["user"] for frame in frames]
    if kinds[0] != kinds[1]:
        problem = "are of another type on the second day; these are not the same people"
        raise BadInput(problem, where="cells", field="user", value=f"{kinds[0]}, {kinds[1]}")
    joined = frames[0].join(frames[1].rename({by: "to"}), on="user", how="full", coalesce=True)
    counted = (
        joined.select(pl.col(by).fill_null(NEW).alias("from"), pl.col("to").fill_null(GONE))
        .group_by("from", "to")
        .agg(pl.len().cast(pl.Int64).alias("users"))
        .collect(engine="streaming")
        .with_columns(share=pl.col("users") / pl.col("users").sum().over("from"))
        .with_columns(share=pl.when(pl.col("from") != NEW).then("share"))
        .sort(["users", "from", "to"], descending=[True, False, False])
    )
    known = counted.filter((pl.col("from") != NEW) & (pl.col("to") != GONE))
    users, same = int(known["users"].sum()), known.filter(pl.col("from") == pl.col("to"))
    return Migration(
        by=by,
        users=users,
        stayed=float(same["users"].sum() / users) if users else 0.0,
        new=int(counted.filter(pl.col("from") == NEW)["users"].sum()),
        gone=int(counted.filter(pl.col("to") == GONE)["users"].sum()),
        flows=counted,
        places=_places(counted, same),
    )


def _places(counted: pl.DataFrame, same: pl.DataFrame) -> pl.DataFrame:
    before = counted.group_by(place="from").agg(before=pl.col("users").sum())
    after = counted.group_by(place="to").agg(after=pl.col("users").sum())
    stayed = same.select(pl.col("from").alias("place"), pl.col("users").alias("stayed"))
    return (
        before.join(after, on="place", how="full", coalesce=True)
        .join(stayed, on="place", how="left")
        .filter(~pl.col("place").is_in([NEW, GONE]))
        .with_columns(pl.col("before", "after", "stayed").fill_null(0))
        .with_columns(share_stayed=pl.when(pl.col("before") > 0).then(pl.col("stayed") / pl.col("before")))
        .sort(["after", "before", "place"], descending=[True, True, False])
    )
