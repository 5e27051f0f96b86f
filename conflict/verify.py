"""Whether an allocation keeps every limit and rule, found without a solver.

It reads the frame and the limits as they were written and shares no array with the allocator, so an error
there cannot hide itself here.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from kernel.choices import Limit, Limits, Violation

#: part of a limit's bound, or of one unit if that is more, by which rounding may pass it
TOLERANCE = 1e-6


def verify(candidates: pl.DataFrame, limits: Limits, assignments: pl.DataFrame) -> list[Violation]:
    """Everything that `assignments` breaks; empty when nothing. Sums may pass a bound by 1e-6 of it.

    A limit with a penalty may be passed, so it is never broken.
    """
    pairs = assignments.select("user", "task")
    foreign = assignments.join(candidates, on=candidates.columns, how="anti", nulls_equal=True)
    broken = [Violation(rule="candidates", user=user, found=1.0, allowed=0.0) for user in foreign["user"]]
    twice = pairs.group_by("user", "task").len().filter(pl.col("len") > 1)
    broken += [
        Violation(rule="once", user=user, found=float(times), allowed=1.0)
        for user, _, times in twice.sort("user", "task").iter_rows()
    ]
    broken += _users(candidates, limits, assignments)
    for limit in limits.limits:
        if limit.penalty is None:
            broken += _limit(limit, assignments)
    return broken


def _limit(limit: Limit, assignments: pl.DataFrame) -> Iterable[Violation]:
    inside = assignments
    for column, labels in limit.where.items():
        wanted = set(labels) if isinstance(labels, tuple) else {labels}
        inside = inside.filter(pl.Series([each in wanted for each in inside[column]], dtype=pl.Boolean))
    used = float(inside.height if limit.sum is None else inside[limit.sum].cast(pl.Float64).sum())
    if limit.at_most is not None and used > limit.at_most + TOLERANCE * max(1.0, abs(limit.at_most)):
        yield Violation(rule=limit.name, user=None, found=used, allowed=limit.at_most)
    if limit.at_least is not None and used < limit.at_least - TOLERANCE * max(1.0, abs(limit.at_least)):
        yield Violation(rule=limit.name, user=None, found=used, allowed=limit.at_least)


def _users(candidates: pl.DataFrame, limits: Limits, assignments: pl.DataFrame) -> Iterable[Violation]:
    rules = limits.per_user
    yield from _more_than(assignments, "per_user.max_tasks", rules.max_tasks)
    if rules.min_tasks:
        counts = assignments.group_by("user").agg(pl.len().alias("tasks"))
        users = candidates.select("user").unique().join(counts, on="user", how="left").fill_null(0)
        for user, tasks in users.filter(pl.col("tasks") < rules.min_tasks).sort("user").iter_rows():
            yield Violation(rule="per_user.min_tasks", user=user, found=tasks, allowed=rules.min_tasks)
    for column, labels in rules.max_by.items():
        for label, most in labels.items():
            same = assignments.filter(pl.col(column).cast(pl.String) == label)
            yield from _more_than(same, f"per_user.max_by.{column}", most)
    for tasks in rules.never_together:
        either = assignments.filter(pl.Series([t in tasks for t in assignments["task"]], dtype=pl.Boolean))
        yield from _more_than(either, "per_user.never_together", 1)


def _more_than(assignments: pl.DataFrame, rule: str, most: int) -> Iterable[Violation]:
    counts = assignments.group_by("user").agg(pl.len().alias("tasks")).filter(pl.col("tasks") > most)
    for user, tasks in counts.sort("user").iter_rows():
        yield Violation(rule=rule, user=user, found=float(tasks), allowed=float(most))
