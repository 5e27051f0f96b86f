"""A plan of the same inputs is one plan, however often it is registered."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event

from storage.database import _durable_sqlite
from storage.plans import PlanEntry, PlanRegister
from storage.tables import metadata

AT = datetime(2017, 10, 16, 12, tzinfo=UTC)
DAY = date(2017, 10, 16)


@pytest.fixture
def plans(tmp_path: Path) -> Iterator[PlanRegister]:
    engine = create_engine(f"sqlite:///{tmp_path / 'growth.db'}")
    event.listen(engine, "connect", _durable_sqlite)
    metadata.create_all(engine)
    yield PlanRegister(engine)
    engine.dispose()


def test_a_plan_is_found_by_its_date_and_by_its_inputs(plans: PlanRegister) -> None:
    assert plans.find(DAY) is None
    entry = plans.add(DAY, "in1", "plans/1", {"value": 1.5}, AT)
    assert entry == PlanEntry(date=DAY, version=1, inputs="in1", folder="plans/1", totals={"value": 1.5})
    assert plans.find(DAY) == plans.find(DAY, "in1") == entry
    assert plans.find(DAY, "in2") is None
    assert plans.find(date(2017, 10, 17)) is None


def test_the_same_inputs_again_are_no_new_version(plans: PlanRegister) -> None:
    plans.add(DAY, "in1", "plans/1", {}, AT)
    again = plans.add(DAY, "in1", "elsewhere", {}, AT)
    assert (again.version, again.folder) == (1, "elsewhere")
    assert plans.find(DAY) == again


def test_other_inputs_are_the_next_version_of_that_date_only(plans: PlanRegister) -> None:
    versions = [plans.add(DAY, inputs, inputs, {}, AT).version for inputs in ("a", "b", "a", "c")]
    assert versions == [1, 2, 1, 3]
    assert plans.add(date(2017, 10, 17), "a", "x", {}, AT).version == 1
    newest = plans.find(DAY)
    assert newest is not None
    assert (newest.version, newest.inputs) == (3, "c")
    older = plans.find(DAY, "a")
    assert older is not None
    assert older.version == 1
