"""Trials among those who promise most: who is asked, and who of them stays drawn."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from engine.exploration import Explored
from kernel.work import Task

WAYS = (("big", "sms"), ("small", "sms"))


def made(promising: list[bool], given: list[str | None]) -> Explored:
    names = [f"explore.some.trials.{benefit}.{touchpoint}" for benefit, touchpoint in WAYS]
    tasks = tuple(
        Task(
            name=name, goal="grow", audience=name, benefit=benefit, touchpoint=touchpoint, channel=touchpoint,
            content="hello", rule=name,
        )
        for name, (benefit, touchpoint) in zip(names, WAYS, strict=True)
    )  # fmt: skip
    drawn = pl.DataFrame(
        {
            "user": range(len(given)),
            "benefit": given,
            "touchpoint": ["sms" if each else None for each in given],
            "if_promising": promising,
        },
        schema_overrides={"benefit": pl.String, "touchpoint": pl.String},
    )
    return Explored(
        drawn=drawn.with_columns(exploration=pl.lit("some.trials")),
        resting=drawn.select("user").clear(),
        tasks=tasks,
        of=dict.fromkeys(names, "some.trials"),
        worth=dict.fromkeys(names, 5.0),
    )


def test_a_tenth_of_those_asked_stays_by_the_best_of_all_ways_whatever_chance_said() -> None:
    given = [None if user % 3 == 0 else "big" for user in range(43)]
    explored = made([user >= 3 for user in range(43)], given)
    asked = explored.asked
    # everyone of whom it counts, about every way, also who is drawn for nothing
    assert sorted(asked.rows()) == sorted((user, name) for user in range(3, 43) for name in explored.of)
    candidates = asked.rename({"audience": "task"}).with_columns(
        value=pl.when(pl.col("task").str.contains("small"))
        .then(pl.col("user") % 10)
        .otherwise(-pl.col("user"))
        .cast(pl.Float64)
    )
    # who is worth nothing by any way has no candidate
    stay = explored.settled(candidates.filter(pl.col("user") != 9)).drawn
    assert stay["user"].to_list() == [0, 1, 2, 8, 19, 29, 39]
    assert stay.filter(pl.col("user") == 39)["benefit"].to_list() == [None]
    audiences = made([False] * 3, ["big", None, "small"]).audiences
    assert audiences.rows() == [(0, "explore.some.trials.big.sms"), (2, "explore.some.trials.small.sms")]


def test_where_nobody_is_asked_everyone_drawn_stays() -> None:
    explored = made([False, False], ["big", None])
    assert explored.asked.is_empty()
    nothing = pl.DataFrame(schema={"user": pl.Int64, "task": pl.String, "value": pl.Float64})
    assert explored.settled(nothing).drawn.equals(explored.drawn)


@pytest.mark.parametrize("count", [1, 9, 10, 11])
def test_of_few_at_least_one_stays(count: int) -> None:
    explored = made([True] * count, ["big"] * count)
    candidates = explored.asked.rename({"audience": "task"}).with_columns(value=pl.lit(1.0))
    assert explored.settled(candidates).drawn.height == -(-count // 10)


def test_whom_two_explorations_would_keep_the_first_keeps() -> None:
    explored = made([True] * 10, ["big"] * 10)
    twice = pl.concat([explored.drawn, explored.drawn.with_columns(exploration=pl.lit("other"))])
    tasks = {f"explore.{name}.big.sms": name for name in ("some.trials", "other")}
    both = replace(explored, drawn=twice, of=tasks)
    candidates = both.asked.rename({"audience": "task"}).with_columns(value=pl.col("user").cast(pl.Float64))
    assert both.settled(candidates).drawn.select("user", "exploration").rows() == [(9, "some.trials")]


def test_made_again_a_plan_keeps_those_whom_it_drew() -> None:
    before = made([True, False], ["big", None]).drawn.drop("if_promising")
    again = made([True] * 3, ["small"] * 3).as_before(
        before.select("exploration", "touchpoint", "benefit", "user")
    )
    assert again.drawn.drop("if_promising").equals(before)
    assert again.asked.is_empty()
