"""The plan in numbers: every task is in the table, and who lost to whom is counted in users."""

from __future__ import annotations

import polars as pl
import pytest

from kernel.work import Task
from planner.api import contested, goal_table, task_table


def task(name: str, goal: str, audience: str) -> Task:
    return Task(
        name=name,
        goal=goal,
        audience=audience,
        benefit="coupon",
        touchpoint="letter",
        channel="mail",
        content="hello",
    )


TASKS = [task("a", "raise", "all"), task("b", "retain", "all"), task("c", "raise", "few")]
AUDIENCES = pl.DataFrame({"user": [1, 2, 3, 3, 1], "audience": ["all", "all", "all", "all", "few"]})
CANDIDATES = pl.DataFrame(
    {
        "user": [1, 1, 2, 2, 3],
        "task": ["a", "b", "a", "b", "a"],
        "response": [0.5, 0.1, 0.5, 0.2, 0.3],
        "cost": [1.0, 2.0, 1.0, 2.0, 1.0],
        "gain": [6.0, 5.0, 6.0, 5.0, 2.0],
        "value": [5.0, 3.0, 5.0, 3.0, 1.0],
    }
)
#: user 1 gets what is best, user 2 the second best, user 3 nothing
ASSIGNMENTS = CANDIDATES[[0, 3]]


def test_every_task_has_a_row_with_what_it_asked_for_and_got() -> None:
    table = task_table(TASKS, AUDIENCES, CANDIDATES, ASSIGNMENTS)
    columns = ("task", "audience_size", "candidates", "assigned", "responses", "cost", "gain", "value")
    assert table.select(columns).rows() == [
        ("a", 3, 3, 1, 0.5, 1.0, 6.0, 5.0),  # a member listed twice is one
        ("b", 3, 2, 1, 0.2, 2.0, 5.0, 3.0),
        ("c", 1, 0, 0, 0.0, 0.0, 0.0, 0.0),
    ]
    assert table["value"].sum() == ASSIGNMENTS["value"].sum()


def test_an_empty_plan_still_has_every_task() -> None:
    table = task_table(TASKS, AUDIENCES, CANDIDATES.clear(), ASSIGNMENTS.clear())
    assert table["task"].to_list() == ["a", "b", "c"]
    assert table.select("candidates", "assigned", "value").sum().row(0) == (0, 0, 0)


def test_goals_sum_their_tasks() -> None:
    goals = goal_table(task_table(TASKS, AUDIENCES, CANDIDATES, ASSIGNMENTS))
    assert goals.rows() == [("raise", 1, 0.5, 1.0, 6.0, 5.0), ("retain", 1, 0.2, 2.0, 5.0, 3.0)]


def test_contested_says_who_lost_to_whom() -> None:
    found = contested(CANDIDATES, ASSIGNMENTS)
    assert found.select("task", "wanted", "won", "lost").rows() == [("a", 3, 1, 1)]
    # of the two who lost, one got `b` and one nothing; of equals the first by name
    assert found["lost_to"].item() == "b"


def test_the_task_that_most_lost_to_is_named() -> None:
    assigned = pl.concat([CANDIDATES[[1, 3]], CANDIDATES[[4]]])
    found = contested(CANDIDATES, assigned).row(0, named=True)
    assert (found["wanted"], found["won"], found["lost_to"], found["lost"]) == (3, 1, "b", 2)


def test_without_a_loser_nothing_is_lost() -> None:
    found = contested(CANDIDATES, CANDIDATES[[0, 2, 4]]).row(0, named=True)
    assert (found["wanted"], found["won"], found["lost_to"], found["lost"]) == (3, 3, None, 0)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]])
def test_the_order_of_rows_means_nothing(order: list[int]) -> None:
    tied = CANDIDATES.with_columns(value=pl.lit(1.0))
    assert contested(tied[order], ASSIGNMENTS).equals(contested(tied, ASSIGNMENTS[::-1]))
