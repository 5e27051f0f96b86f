"""What the planner gets wrong."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest

from kernel.errors import BadInput
from kernel.work import Benefit, Content, Goal, Task, Touchpoint
from planner.api import Resources, Scores, compose, contested, day_limits, derive_candidates

GOAL = Goal(
    name="g", outcome="order", audiences=("stage:lapsed", "lapsed"), base="spend", margin=0.5, lift=0.4
)
RES = Resources(
    goals=(GOAL,),
    benefits=(
        Benefit(name="points", goals=("g",), touchpoints=("points",), cost_per_response=1, capacity=5),
    ),
    touchpoints=(Touchpoint(name="points", channel="mail", cost_per_touch=0.1, capacity=5),),
    contents=(Content(name="c", goals=("g",), touchpoints=("points",)),),
)


def test_a_stage_and_a_group_of_one_name_are_not_two_tasks_of_one_name() -> None:
    try:
        names = [task.name for task in compose(RES, date(2017, 1, 1)).tasks]
    except BadInput:
        return
    assert len(names) == len(set(names)) == 2


def test_a_benefit_and_a_touchpoint_of_one_name_are_bad_input_or_two_limits() -> None:
    frame = pl.DataFrame({"user": [1], "task": ["t"], "touchpoint": ["points"], "benefit": ["points"]})
    try:
        limits = day_limits(None, RES, frame)
    except BadInput:
        return
    assert len(limits.limits) == 2


@pytest.mark.parametrize("score", [None, float("nan")])
def test_an_unknown_score_is_missing(score: float | None) -> None:
    task = Task(
        name="t",
        goal="g",
        audience="lapsed",
        benefit="points",
        touchpoint="points",
        channel="mail",
        content="c",
    )
    scores = Scores(
        window=timedelta(days=56),
        users=pl.DataFrame({"user": [1], "spend": [100.0], "churn": [0.1], "habit": [1.0]}),
        responses=pl.DataFrame(
            {"user": [1], "benefit": ["points"], "response": [score]},
            schema_overrides={"response": pl.Float64},
        ),
    )
    with pytest.raises(BadInput, match="missing for 1"):
        derive_candidates([task], RES, pl.DataFrame({"user": [1], "audience": ["lapsed"]}), scores)


def test_contested_counts_users_also_where_they_get_two_tasks() -> None:
    candidates = pl.DataFrame({"user": [1, 1], "task": ["a", "b"], "value": [3.0, 2.0]})
    row = contested(candidates, candidates.select("user", "task")).row(0, named=True)
    assert (row["task"], row["wanted"], row["won"], row["lost"]) == ("a", 1, 1, 0)
