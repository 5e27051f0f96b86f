"""Steps of a plan: told while they run, done once, not kept where something changed meanwhile."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine.plan_steps import Steps
from kernel.errors import Stale
from storage.plan_work import PlanWork


def steps_in(folder: Path, told: list[list[dict[str, Any]]] | None = None) -> Steps:
    def watch(steps: list[dict[str, Any]]) -> None:
        if told is not None:
            told.append(copy.deepcopy(steps))

    steps = Steps(lambda _: None, watch=watch, now=lambda: datetime(2026, 3, 1, tzinfo=UTC))
    steps.work = PlanWork(folder / "work", "inputs")
    return steps


def test_a_step_is_done_once(tmp_path: Path) -> None:
    done = []

    def make() -> str:
        done.append(1)
        return "made"

    assert steps_in(tmp_path).do("one", make, rows=len) == "made"
    second = steps_in(tmp_path)
    assert second.do("one", make, rows=len) == "made"
    assert done == [1]
    assert [(each["state"], each["rows"]) for each in second.told] == [("kept", 4)]
    assert Steps(lambda _: None).do("one", make, rows=len) == "made"
    assert done == [1, 1]


def test_it_is_told_while_it_runs(tmp_path: Path) -> None:
    told: list[list[dict[str, Any]]] = []
    steps = steps_in(tmp_path, told)

    def make() -> list[int]:
        steps("reading")
        steps.rows(1)
        return [1, 2]

    steps.do("one", make, rows=len)
    steps.begin("two")
    steps.stop()
    first = [each[0] for each in told]
    assert [each["state"] for each in first[:2]] == ["running", "running"]
    assert first[0]["began_at"] == "2026-03-01T00:00:00+00:00"
    assert first[1]["doing"] == "reading"
    assert (first[-1]["state"], first[-1]["rows"]) == ("done", 2)
    assert "doing" not in first[-1]
    assert [each["state"] for each in steps.told] == ["done", "failed"]
    assert all(each["seconds"] >= 0 for each in steps.told)


def test_nothing_is_kept_of_what_changed_meanwhile(tmp_path: Path) -> None:
    steps = steps_in(tmp_path)

    def check() -> None:
        raise Stale("changed")

    steps.check = check
    with pytest.raises(Stale):
        steps.do("one", lambda: 1, rows=lambda _: 1)
    assert steps_in(tmp_path).work is not None
    assert not (tmp_path / "work" / "one").exists()
