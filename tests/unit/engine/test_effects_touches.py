"""Touches of plans that teach effects: which ones."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from engine import effects_touches
from engine.definitions import Definitions
from engine.effects_samples import from_exploration
from engine.effects_touches import touched
from engine.wiring import Workspace
from kernel.errors import BadInput
from kernel.work import Goal, Touchpoint
from models.api import Exploration, UpliftRecipe

COLUMNS = ("touch_id", "user", "task", "goal", "benefit", "touchpoint")
RECIPE = UpliftRecipe.model_validate(
    {"name": "effect", "goal": "grow", "exploration": "trials", "touches": True}
)


def space(root: Path, days: dict[date, pl.DataFrame], refused: str = "") -> Workspace:
    """day → its touches."""
    entries = []
    for day, rows in days.items():
        folder = root / day.isoformat()
        folder.mkdir()
        rows.write_parquet(folder / "touches.parquet")
        entries.append(SimpleNamespace(folder=folder, date=day))

    def states(ids: list[str]) -> dict[str, str]:
        return {each: "released" if each in refused else "confirmed" for each in ids}

    found = SimpleNamespace(
        plans=SimpleNamespace(newest_of_each_day=lambda: entries),
        settings=SimpleNamespace(zone=ZoneInfo("UTC")),
        ledger=SimpleNamespace(states=states),
    )
    return cast("Workspace", found)


def at(day: int) -> datetime:
    return datetime(2026, 3, day, tzinfo=UTC)


@pytest.fixture
def known(tmp_path: Path) -> Workspace:
    first = [
        ("a", 1, "grow.big.sms.all", "grow", "big", "sms"),
        ("b", 2, "grow.big.push.all", "grow", "big", "push"),
        ("c", 3, "keep.big.sms.all", "keep", "big", "sms"),
        ("d", 4, "explore.trials.big.sms", "grow", "big", "sms"),
        ("e", 5, "grow.huge.sms.all", "grow", "huge", "sms"),
        ("f", 6, "grow.big.sms.all", "grow", "big", "sms"),
    ]
    second = [("g", 7, "grow.big.sms.all", "grow", "big", "sms")]
    days = {date(2026, 3, 2): first, date(2026, 3, 9): second}
    frames = {day: pl.DataFrame(rows, schema=COLUMNS, orient="row") for day, rows in days.items()}
    return space(tmp_path, frames, "f")


def test_who_was_touched_for_the_goal_and_neither_trials_nor_what_never_went_out(known: Workspace) -> None:
    found = touched(known, RECIPE, ("big", "small"), at(9))
    assert found.rows() == [(1, at(2), "big", "sms"), (2, at(2), "big", "push")]


def test_only_through_the_touchpoints_that_it_holds_for(known: Workspace) -> None:
    some = RECIPE.model_copy(update={"touchpoints": ("push",)})
    assert touched(known, some, ("big",), at(9))["user"].to_list() == [2]


def test_nothing_of_plans_to_come_nor_of_long_ago(known: Workspace) -> None:
    assert touched(known, RECIPE, ("big",), at(10))["user"].to_list() == [1, 2, 7]
    assert touched(known, RECIPE, ("big",), at(2)).is_empty()
    recent = RECIPE.model_copy(update={"recent": "8d"})
    assert touched(known, recent, ("big",), at(10))["user"].to_list() == [7]
    assert touched(known, recent, ("big",), at(9))["user"].to_list() == [1, 2]


def test_a_plan_without_touches_teaches_nothing(tmp_path: Path) -> None:
    none = pl.DataFrame(schema=dict.fromkeys(COLUMNS, pl.String))
    assert touched(space(tmp_path, {date(2026, 3, 2): none}), RECIPE, ("big",), at(9)).is_empty()


def test_of_very_many_some_teach_always_the_same(known: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects_touches, "_MOST", 1)
    found = touched(known, RECIPE, ("big",), at(9))
    assert found.height == 1
    assert found.equals(touched(known, RECIPE, ("big",), at(9)))


def defined(*more: str) -> Definitions:
    """An exploration of two ways by text message; touchpoints `sms`, and `more`."""
    ways = [{"benefit": each, "touchpoint": "sms"} for each in ("big", "small")]
    goal = {"outcome": "order", "audiences": ["all"], "base": "spend", "margin": 0.3, "lift": 0.1}
    reach = {"sms": 0.9, "push": 0.4, "dark": 0.0}
    made = (
        Exploration.model_validate({"name": "trials", "goal": "grow", "share": 0.1, "ways": ways}),
        Goal.model_validate({"name": "grow", "window": "7d", **goal}),
        *(
            Touchpoint.model_validate(
                {"name": name, "channel": name, "cost_per_touch": 0, "reach": reach[name]}
            )
            for name in ("sms", *more)
        ),
    )
    found = SimpleNamespace(of=lambda kind: tuple(each for each in made if isinstance(each, kind)))
    return cast("Definitions", found)


@pytest.fixture
def drawn(known: Workspace) -> Workspace:
    """Users 8 and 9 were drawn on the first day."""
    rows = {"user": [8, 9], "benefit": [None, "small"], "touchpoint": [None, "sms"]}
    frame = pl.DataFrame(rows).with_columns(exploration=pl.lit("trials"))
    frame.write_parquet(Path(known.plans.newest_of_each_day()[0].folder) / "explored.parquet")
    return known


def test_with_touches_no_chances_are_told_and_what_is_given_has_its_reach(drawn: Workspace) -> None:
    recipe = RECIPE.model_copy(update={"by_reach": True})
    rows = from_exploration(drawn, defined("push"), recipe, at(9))
    told = rows.select("user", "treatment", "reach").sort("user").rows()
    trials = [(8, "control", 1.0), (9, "small", 0.9)]
    assert told == [(1, "big", 0.9), (2, "big", 0.4), *trials]
    assert rows.columns == ["user", "at", "reach", "treatment"]
    alone = from_exploration(drawn, defined(), RECIPE.model_copy(update={"touches": False}), at(9))
    assert alone.sort("user").select("user", "treatment").rows() == [(8, "control"), (9, "small")]
    assert alone["p_big"].to_list() == pytest.approx([0.35, 0.35])
    # a touchpoint that is defined no more, and so its reach, teaches nothing
    without = from_exploration(drawn, defined(), recipe, at(9))
    assert without.select("user", "treatment", "reach").sort("user").rows() == [(1, "big", 0.9), *trials]


def test_a_window_longer_than_touches_are_known_for_is_refused(drawn: Workspace) -> None:
    long = RECIPE.model_copy(update={"within": "32d"})
    with pytest.raises(BadInput, match="within = '32d': is not shorter than 32 days"):
        from_exploration(drawn, defined(), long, at(9))
    assert from_exploration(drawn, defined(), RECIPE.model_copy(update={"within": "31d"}), at(9)).height == 4
