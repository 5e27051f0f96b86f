"""The register of plans and the runs that make them: on SQLite and on PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import Engine

from storage.plan_runs import APPROVED, DONE, FAILED, HELD, RUNNING, PlanRuns
from storage.plans import PlanRegister

AT = datetime(2017, 10, 16, 12, tzinfo=UTC)
DAY = date(2017, 10, 16)


@pytest.fixture
def day(database: Engine) -> date:
    """One that no other test has used in this database."""
    newest = PlanRegister(database).newest()
    runs = PlanRuns(database).newest(limit=1_000)
    used = [DAY, *([newest.date] if newest else []), *(date.fromisoformat(each["day"]) for each in runs)]
    return max(used) + timedelta(days=1)


def test_a_plan_is_registered_once_for_its_inputs(database: Engine, day: date) -> None:
    plans = PlanRegister(database)
    made = [plans.add(day, inputs, f"plans/{inputs}", {"value": 1.5}, AT) for inputs in ("a", "b", "a")]
    assert [each.version for each in made] == [1, 2, 1]
    assert plans.find(day) == made[1]
    assert plans.find(day, "a") == plans.version(day, 1) == made[0]
    plans.moved(day, 1, "elsewhere")
    found = plans.version(day, 1)
    assert found is not None
    assert (found.folder, found.totals) == ("elsewhere", {"value": 1.5})
    assert plans.newest() == plans.newest_of_each_day()[-1] == made[1]


def test_many_at_once_get_a_version_each(database: Engine, day: date) -> None:
    plans = PlanRegister(database)
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda n: plans.add(day, f"in{n % 6}", f"f{n}", {}, AT), range(18)))
    assert sorted({each.version for each in made}) == [1, 2, 3, 4, 5, 6]
    assert len({(each.inputs, each.version) for each in made}) == 6


def test_a_run_tells_how_far_it_came_and_a_killed_one_has_failed(database: Engine, day: date) -> None:
    runs = PlanRuns(database)
    killed = runs.begin(day, "command", AT)
    runs.step(killed, [{"step": "cells"}], AT + timedelta(seconds=2))
    (told,) = runs.newest(day)
    assert (told["state"], told["seconds"], told["steps"]) == (RUNNING, 2.0, [{"step": "cells"}])
    other = runs.begin(day, "schedule", AT + timedelta(minutes=1))
    done = [{"step": "cells", "seconds": 0.5}]
    runs.end(other, done, AT + timedelta(minutes=1, seconds=3))
    newest, before = runs.newest(day)
    assert (newest["number"], newest["state"], newest["steps"]) == (other, DONE, done)
    assert (before["number"], before["state"], before["why"]) == (killed, FAILED, "it was interrupted")


def test_the_last_word_on_a_version_holds(database: Engine, day: date) -> None:
    runs = PlanRuns(database)
    assert runs.decision(day, 1) is None
    runs.decide(day, 1, HELD, at=AT, who="ann", why="too dear")
    runs.decide(day, 1, APPROVED, at=AT + timedelta(hours=1), who="bob", why="")
    runs.decide(day, 2, HELD, at=AT, who="ann", why="")
    assert (runs.decision(day, 1), runs.decision(day, 2)) == (APPROVED, HELD)
    assert [(each["version"], each["who"]) for each in runs.decisions(day)] == [
        (2, "ann"),
        (1, "bob"),
        (1, "ann"),
    ]
