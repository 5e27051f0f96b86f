"""The daily cycle's rhythm: which days are due, how runs are recorded, and who lets plans go out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.approval import may_go
from engine.planning import due_days, learns_on, make_due, plan_recorded, standing
from engine.usecases import apply, init_workspace
from engine.wiring import Workspace, open_workspace
from kernel.clock import FixedClock
from kernel.errors import BadInput, NotFound
from storage.plan_runs import APPROVED, DONE, FAILED, HELD

NOON, DAY = datetime(2026, 3, 4, 12, tzinfo=UTC), date(2026, 3, 4)
RHYTHM: dict[str, Any] = {"kind": "planning", "name": "nightly", "cron": "0 2 * * *", "learn": "0 1 * * wed"}


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Workspace]:
    init_workspace(tmp_path / "shop")
    opened = open_workspace(tmp_path / "shop", FixedClock(at=NOON))
    (opened.root / "catalog.yaml").unlink()
    yield opened
    opened.database.dispose()


def rhythm(space: Workspace, **changed: Any) -> None:
    (space.root / "said.yaml").write_text(yaml.safe_dump({**RHYTHM, **changed}))
    apply(space, space.root / "said.yaml", by="tests")


@pytest.mark.parametrize(("catch_up", "days"), [("last", [4]), ("all", [2, 3, 4]), ("none", [])])
def test_the_days_that_are_due(space: Workspace, catch_up: str, days: list[int]) -> None:
    since = NOON - timedelta(days=2, hours=11)
    assert due_days(space, since, NOON) == []
    rhythm(space, catch_up=catch_up)
    assert due_days(space, since, NOON) == [date(2026, 3, day) for day in days]
    assert due_days(space, NOON, NOON + timedelta(hours=13)) == []
    assert due_days(space, NOON, NOON + timedelta(hours=14)) == [date(2026, 3, 5)]


def test_models_are_learned_on_their_days(space: Workspace) -> None:
    assert not learns_on(space, DAY)
    rhythm(space)
    assert learns_on(space, DAY)  # a Wednesday
    assert not learns_on(space, DAY + timedelta(days=1))


@pytest.mark.parametrize("changed", [{"cron": "0 25 * * *"}, {"learn": "daily"}, {"approval": "nobody"}])
def test_a_rhythm_that_could_never_be(space: Workspace, changed: dict[str, str]) -> None:
    with pytest.raises(BadInput, match=next(iter(changed))):
        rhythm(space, **changed)


def test_a_run_that_fails_says_why_and_one_that_was_killed_is_known(space: Workspace) -> None:
    with pytest.raises(BadInput):
        plan_recorded(space, DAY, None, lambda _: None, "command")
    (failed,) = space.plan_runs.newest()
    assert (failed["state"], failed["reason"], failed["day"]) == (FAILED, "command", "2026-03-04")
    assert failed["why"]
    space.plan_runs.begin(DAY, "schedule", NOON)  # and then the process is gone
    number = space.plan_runs.begin(DAY, "schedule", NOON)
    space.plan_runs.step(number, [{"step": "reading events"}], NOON)
    space.plan_runs.end(number, [{"step": "reading events", "seconds": 2.0}], NOON + timedelta(seconds=2))
    newest, killed, _ = space.plan_runs.newest(DAY)
    assert (newest["state"], newest["seconds"]) == (DONE, 2.0)
    assert (killed["state"], killed["why"]) == (FAILED, "it was interrupted")
    # the daily cycle tells, and goes on with the next day
    make_due(space, [DAY, DAY + timedelta(days=1)], lambda _: None)
    assert [each["day"] for each in space.plan_runs.newest(limit=2)] == ["2026-03-05", "2026-03-04"]


def test_a_persons_word_is_about_one_version(space: Workspace) -> None:
    assert may_go(space, DAY, 1)
    rhythm(space, approval="person")
    assert not may_go(space, DAY, 1)
    space.plan_runs.decide(DAY, 1, APPROVED, at=NOON, who="ann", why="")
    assert may_go(space, DAY, 1)
    assert not may_go(space, DAY, 2)
    space.plan_runs.decide(DAY, 1, HELD, at=NOON, who="bo", why="wrong prices")
    assert not may_go(space, DAY, 1)
    assert [each["who"] for each in space.plan_runs.decisions(DAY)] == ["bo", "ann"]
    rhythm(space)
    assert not may_go(space, DAY, 1)
    with pytest.raises(NotFound):
        standing(space, DAY)
