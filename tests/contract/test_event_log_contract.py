"""What the log of fresh events promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from kernel.errors import BadInput, Unavailable
from storage.database import Engine, open_database
from storage.events import EventLog, NewEvent
from storage.group_stamp import forgotten_stamp, published_stamp
from storage.tombstones import Tombstones

AT = datetime(2017, 10, 16, 8, 0, 0, 123_457, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def engine(database: Engine) -> Iterator[Engine]:
    yield database
    with database.begin() as connection:
        for table in ("fresh_events", "forgotten"):
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608  two names of our own


@pytest.fixture
def tombstones(engine: Engine, tmp_path: Path) -> Tombstones:
    return Tombstones(engine, tmp_path / "secret")


@pytest.fixture
def log(engine: Engine, tombstones: Tombstones) -> EventLog:
    return EventLog(engine, tombstones)


def new(event_id: str, **changes: Any) -> NewEvent:
    said = {"user_id": "u", "name": "view", "occurred_at": AT, "lines": [{"page": "O'x", "n": 1.5}, {}]}
    return NewEvent(event_id=event_id, **{**said, **changes})


def ids(log: EventLog, after: int = 0) -> list[str]:
    return [each.event_id for each in log.after(after, ["view", "order"])]


def test_what_is_appended_is_read_back_in_order(log: EventLog) -> None:
    assert log.append([[new("b"), new("a")], [new("c", name="order")]], AT + HOUR) == [
        [AT + HOUR, AT + HOUR],
        [AT + HOUR],
    ]
    first, *_ = log.after(0, ["view"])
    assert (first.event_id, first.user_id, first.occurred_at, first.received_at) == ("b", "u", AT, AT + HOUR)
    assert first.lines == ({"page": "O'x", "n": 1.5}, {})
    assert ids(log) == ["b", "a", "c"]
    assert ids(log, first.number) == ["a", "c"]
    assert [each.event_id for each in log.after(0, ["view"], limit=1)] == ["b"]


def test_an_id_counts_once_and_belongs_to_one_event(log: EventLog) -> None:
    log.append([[new("a")]], AT)
    again, clash, good = log.append([[new("a")], [new("x"), new("a", name="order")], [new("y")]], AT + HOUR)
    assert (again, good) == ([AT], [AT + HOUR])
    assert isinstance(clash, BadInput)
    assert ids(log) == ["a", "y"]


def test_writers_at_once_keep_each_id_once_and_numbers_in_the_order_of_sight(log: EventLog) -> None:
    def write(writer: int) -> None:
        for i in range(5):
            log.append([[new(f"{writer}-{i}"), new(f"shared-{i}")]], AT)
            seen.append(log.last())

    seen: list[int] = []
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(ids(log)) == len(set(ids(log))) == 4 * 5 + 5
    assert log.last() == max(seen)


def test_what_is_open_comes_page_by_page(log: EventLog) -> None:
    log.append([[new("old")]], AT)
    log.append([[new(f"late-{i}") for i in range(3)], [new("new", occurred_at=AT + 2 * HOUR)]], AT + 3 * HOUR)
    until, found, after = log.last(), list[str](), 0
    log.append([[new("later", occurred_at=AT + 5 * HOUR)]], AT + 5 * HOUR)
    while page := log.open(
        ["view"], occurred_after=AT + HOUR, received_after=AT, after=after, until=until, limit=3
    ):
        found += [each.event_id for each in page]
        after = page[-1].number
    assert found == ["late-0", "late-1", "late-2", "new"]


def test_events_go_when_they_are_old_by_both_times(log: EventLog) -> None:
    log.append([[new("old"), new("ahead", occurred_at=AT + 2 * HOUR)]], AT)
    log.append([[new("late")]], AT + 3 * HOUR)
    assert log.prune(received_before=AT + HOUR, occurred_before=AT + HOUR) == 1
    assert ids(log) == ["ahead", "late"]


def test_of_whom_was_forgotten_nothing_is_kept(log: EventLog, tombstones: Tombstones) -> None:
    log.append([[new("before", user_id="7")]], AT)
    assert log.forget("7") == 1
    tombstones.begin(["7"], AT)
    answers = log.append([[new("a", user_id="7"), new("b")], [new("c", user_id="7")]], AT)
    assert answers == [[None, AT], [None]]
    assert ids(log) == ["b"]
    assert log.of_user("7") == []
    tombstones.readmit("7")
    assert log.append([[new("a", user_id="7")]], AT) == [[AT]]


def test_the_stamp_tells_when_somebody_is_forgotten(engine: Engine, tombstones: Tombstones) -> None:
    stamps = [forgotten_stamp(engine)]
    for change in (
        lambda: tombstones.begin(["7"], AT),
        lambda: tombstones.finish(["7"], AT + HOUR),
        lambda: tombstones.begin(["8"], AT + HOUR),
        lambda: tombstones.readmit("8"),
    ):
        change()
        stamps.append(forgotten_stamp(engine))
    assert all(one != other for one, other in pairwise(stamps))
    assert published_stamp(engine) == published_stamp(engine)


def test_a_log_that_is_gone_says_so(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'gone.db'}")
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE fresh_events"))
    with pytest.raises(Unavailable, match="log of events"):
        EventLog(engine).last()
    engine.dispose()
