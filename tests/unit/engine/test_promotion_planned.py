"""An activity's promotion in a day's plan: it competes there, and whom it reached stands in the funnel."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from benchmarks.plan_world import DAY, lay_out
from engine.activities import Activities
from engine.activity_clock import ActivityClock
from engine.cycle import plan
from engine.definitions import parse_definition
from engine.rules import runs_of
from engine.usecases import apply_all

MARCH = {
    "kind": "activity",
    "name": "march",
    "goal": "grow",
    "audience": ["everyone"],
    "when": {"start": f"{DAY}T12:00:00Z", "end": "2026-03-20T00:00:00Z"},
    "metrics": [{"name": "orders", "event": "order"}],
    "promotion": [{"day": 0, "touchpoint": "note", "content": "hello", "benefit": "greeting"}],
}


def test_promotion_is_a_task_of_the_day(tmp_path: Path) -> None:
    space = lay_out(tmp_path / "shop")
    apply_all(space, [parse_definition(MARCH, "test")], by="tests")
    activities = Activities(space, lambda *_: True)
    ActivityClock(activities, space.clock).move("march", "ready", who="ann")
    made = plan(space, DAY, None, lambda _: None)
    tasks = pl.read_parquet(made.folder / "tasks.parquet")
    (mine,) = tasks.filter(pl.col("task") == "rule.activity.march.1.only").to_dicts()
    assert (mine["benefit"], mine["content"], mine["touchpoint"]) == ("greeting", "hello", "note")
    assert mine["audience_size"] > 40
    assert mine["candidates"] > 0
    given = pl.read_parquet(made.folder / "assignments.parquet")
    assert given["user"].is_unique().all()
    touches = pl.read_parquet(made.folder / "touches.parquet").filter(pl.col("task") == mine["task"])
    funnel = {each["step"]: each["users"] for each in activities.post_mortem("march")["funnel"]}
    assert funnel["told"] == touches.height
    (run,) = runs_of(space, "activity.march.1")
    assert run["assigned"] == mine["assigned"]
    assert not plan(space, DAY, None, lambda _: None).new
    space.database.dispose()
