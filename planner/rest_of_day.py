"""What is left of a day's limits and of each user's rules, once some of it is given."""

from __future__ import annotations

import polars as pl

from kernel.choices import Limit, Limits, PerUser
from planner.limits import present, slice_of


def rest_of_day(candidates: pl.DataFrame, limits: Limits, given: pl.DataFrame) -> tuple[pl.DataFrame, Limits]:
    """The candidates that may still be chosen beside what is `given`, and the limits that remain.

    `given` has the columns of candidates. A ceiling is lowered by what is used of it, to no less than
    nothing, and a floor by what is done of it. A task is given to a user once. Who has something already
    keeps as many of the most valuable candidates as the rules for every user leave room for: fewer than an
    allocation over the whole day might find, and never more than the rules allow. Limits and rules about
    none of the candidates that are left go. Raises BadInput for a floor that nobody is left for.
    """
    if given.is_empty():
        return candidates, limits
    rows = candidates.with_row_index("_row").with_columns(_key())
    given = given.with_columns(_key())
    rows = rows.join(given.select("_user", "task"), on=["_user", "task"], how="anti")
    rows = _apart(rows, given, limits.per_user)
    for column, labels in sorted(limits.per_user.max_by.items()):
        for label, most in sorted(labels.items()):
            rows = _roomy(rows, given, pl.col(column).cast(pl.String) == label, most)
    rows = _roomy(rows, given, pl.lit(value=True), limits.per_user.max_tasks)
    kept = candidates[rows["_row"].sort()]
    left = limits.model_copy(update={"limits": tuple(_left(each, given) for each in limits.limits)})
    return kept, present(left, kept)


def _key() -> pl.Expr:
    return pl.col("user").cast(pl.String).alias("_user")


def _apart(rows: pl.DataFrame, given: pl.DataFrame, rules: PerUser) -> pl.DataFrame:
    for group in rules.never_together:
        together = pl.col("task").cast(pl.String).is_in([str(task) for task in group])
        having = given.filter(together).select("_user")
        theirs = rows.filter(together).join(having, on="_user", how="semi")
        rows = rows.join(theirs.select("_row"), on="_row", how="anti")
    return rows


def _roomy(rows: pl.DataFrame, given: pl.DataFrame, which: pl.Expr, most: int) -> pl.DataFrame:
    """Without those candidates of a slice that a user who has some of it has no room for."""
    used = given.filter(which).group_by("_user").agg(pl.len().alias("_used"))
    theirs = rows.filter(which).join(used, on="_user")
    turn = pl.struct(-pl.col("value"), "_row").rank("ordinal").over("_user")
    beyond = theirs.filter(turn > (most - pl.col("_used").cast(pl.Int64)).clip(0))
    return rows.join(beyond.select("_row"), on="_row", how="anti")


def _left(limit: Limit, given: pl.DataFrame) -> Limit:
    chosen = given.filter(slice_of(limit, given.columns))
    used = float(chosen.height if limit.sum is None else chosen[limit.sum].sum())
    return limit.model_copy(
        update={
            "at_most": None if limit.at_most is None else max(0.0, limit.at_most - used),
            "at_least": None if limit.at_least is None else max(0.0, limit.at_least - used),
        }
    )
