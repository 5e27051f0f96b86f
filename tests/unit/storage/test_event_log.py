"""The log of fresh events, and requests that share a commit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from kernel.errors import BadInput, Unavailable
from storage.database import open_database
from storage.events import EventLog, NewEvent
from storage.group_commit import GroupCommit

AT = datetime(2017, 10, 16, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    engine = open_database(f"sqlite:///{tmp_path}/log.db")
    yield EventLog(engine)
    engine.dispose()


def new(event_id: str, **changes: Any) -> NewEvent:
    said = {"user_id": "u", "name": "view", "occurred_at": AT, "lines": [{"page": "home", "n": 1}]}
    return NewEvent(event_id=event_id, **{**said, **changes})


def test_a_repeated_id_changes_nothing_and_gets_the_same_answer(log: EventLog) -> None:
    assert log.append([[new("a"), new("a")]], AT) == [[AT, AT]]
    assert log.append([[new("a", user_id="other"), new("b")]], AT + HOUR) == [[AT, AT + HOUR]]
    events = log.after(0, ["view"])
    assert [(each.event_id, each.user_id, each.received_at) for each in events] == [
        ("a", "u", AT),
        ("b", "u", AT + HOUR),
    ]
    assert events[0].lines == ({"page": "home", "n": 1},)


def test_an_id_of_another_event_refuses_its_request_whole_and_no_other(log: EventLog) -> None:
    log.append([[new("a")]], AT)
    first, second = log.append([[new("x"), new("a", name="order")], [new("y")]], AT)
    assert isinstance(first, BadInput)
    assert str(first) == "events.1.event_id = 'a': is the id of a view event already"
    assert second == [AT]
    assert [each.event_id for each in log.after(0, ["view", "order"])] == ["a", "y"]
    (within,) = log.append([[new("p"), new("p", name="order")]], AT)
    assert isinstance(within, BadInput)


def test_numbers_go_on_after_the_last_was_deleted(log: EventLog) -> None:
    log.append([[new("a"), new("b", user_id="gone")]], AT)
    last = log.last()
    assert log.of_user("gone")[0].number == last
    assert log.forget("gone") == 1
    log.append([[new("c")]], AT)
    assert [each.event_id for each in log.after(last, ["view"])] == ["c"]
    assert log.of_user("gone") == []


def test_what_is_open_happened_late_or_came_late(log: EventLog) -> None:
    log.append([[new("early")]], AT)
    log.append([[new("late"), new("new", occurred_at=AT + 2 * HOUR)]], AT + 3 * HOUR)
    found = log.open(
        ["view"], occurred_after=AT + HOUR, received_after=AT + 3 * HOUR, until=log.last(), limit=9
    )
    assert [each.event_id for each in found] == ["new"]
    found = log.open(["view"], occurred_after=AT + HOUR, received_after=AT, until=log.last(), limit=9)
    assert [each.event_id for each in found] == ["late", "new"]
    assert log.prune(received_before=AT + HOUR, occurred_before=AT) == 0
    assert log.prune(received_before=AT + HOUR, occurred_before=AT + HOUR) == 1
    assert [each.event_id for each in log.after(0, ["view"])] == ["late", "new"]


def test_requests_that_wait_are_written_together_and_each_gets_its_answer() -> None:
    go, seen = Event(), list[Sequence[int]]()

    def write(requests: Sequence[int]) -> list[int | Exception]:
        go.wait(10)
        seen.append(tuple(requests))
        return [BadInput("is odd") if each % 2 else each * 10 for each in requests]

    writer = GroupCommit(write, most=5)
    first = writer.submit(0)
    while writer._waiting:  # taken up by the writer, which waits for `go`
        pass
    others = [writer.submit(number) for number in range(1, 6)]
    with pytest.raises(Unavailable, match="waiting"):
        writer.submit(6)
    go.set()
    assert first.result(10) == 0
    assert others[1].result(10) == 20
    with pytest.raises(BadInput, match="odd"):
        others[0].result(10)
    assert seen == [(0,), (1, 2, 3, 4, 5)]
    writer.close()
    with pytest.raises(Unavailable, match="closing"):
        writer.submit(7)


def test_a_write_that_fails_is_heard_of_and_the_writer_goes_on() -> None:
    fails = [True]

    def write(requests: Sequence[int]) -> Sequence[int | Exception]:
        if fails.pop():
            raise Unavailable("the disk is full")
        return list(requests)

    writer = GroupCommit(write)
    with pytest.raises(Unavailable, match="disk"):
        writer.submit(1).result(10)
    fails.append(False)
    assert writer.submit(2).result(10) == 2
    writer.close()
