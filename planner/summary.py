"""The plan in numbers: what each task asked for and got."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from kernel.work import Task


def task_table(
    tasks: Sequence[Task], audiences: pl.DataFrame, candidates: pl.DataFrame, assignments: pl.DataFrame
) -> pl.DataFrame:
    """One row a task: task, its parts, audience_size, candidates, assigned, cost, gain, value.

    Money in major units, expected over the assigned; most valuable first.
    """
    frame = pl.DataFrame([task.model_dump() for task in tasks]).rename({"name": "task"})
    sizes = audiences.group_by("audience").agg(pl.col("user").n_unique().alias("audience_size"))
    wanted = candidates.group_by("task").agg(pl.len().alias("candidates"))
    got = assignments.group_by("task").agg(
        pl.len().alias("assigned"),
        pl.col("response").sum().alias("responses"),
        pl.col("cost").sum(),
        pl.col("gain").sum(),
        pl.col("value").sum(),
    )
    for part, key in ((sizes, "audience"), (wanted, "task"), (got, "task")):
        frame = frame.join(part, on=key, how="left", maintain_order="left")
    whole = pl.col("audience_size", "candidates", "assigned").fill_null(0).cast(pl.Int64)
    money = pl.col("responses", "cost", "gain", "value").fill_null(0.0)
    return frame.with_columns(whole, money).sort(["value", "task"], descending=[True, False])


def goal_table(tasks: pl.DataFrame) -> pl.DataFrame:
    """One row a goal: goal, assigned, responses, cost, gain, value."""
    return (
        tasks.group_by("goal")
        .agg(pl.col("assigned", "responses", "cost", "gain", "value").sum())
        .sort(["value", "goal"], descending=[True, False])
    )


def contested(candidates: pl.DataFrame, assignments: pl.DataFrame) -> pl.DataFrame:
    """What was fought over: of the users that a task would have been best for, how many got it.

    One row a task: task, wanted (users whose most valuable candidate it was), won, lost_to (the task
    that most of the others got instead, or `nothing`), lost (how many of them).
    """
    best = (
        candidates.sort(["value", "task"], descending=[True, False])
        .unique("user", keep="first", maintain_order=True)
        .select("user", "task")
    )
    got = assignments.select("user", pl.col("task").alias("given"))
    fate = best.join(got, on="user", how="left").with_columns(pl.col("given").fill_null("nothing"))
    # one row a user: with several tasks, the one most wanted if it is among them
    fate = fate.sort(pl.col("given") != pl.col("task"), "given").unique("user", keep="first")
    totals = fate.group_by("task").agg(
        pl.len().cast(pl.Int64).alias("wanted"),
        (pl.col("given") == pl.col("task")).sum().cast(pl.Int64).alias("won"),
    )
    losses = (
        fate.filter(pl.col("given") != pl.col("task"))
        .group_by("task", "given")
        .agg(pl.len().cast(pl.Int64).alias("lost"))
        .sort(["lost", "given"], descending=[True, False])
        .unique("task", keep="first", maintain_order=True)
        .rename({"given": "lost_to"})
    )
    frame = totals.join(losses, on="task", how="left")
    return frame.with_columns(pl.col("lost").fill_null(0)).sort(["lost", "task"], descending=[True, False])
