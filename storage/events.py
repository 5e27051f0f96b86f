"""The log of fresh events in SQL: durable before they are acknowledged, each id once, in order of receipt.

Numbers rise with the order in which events become visible: one writer at a time, so that a reader who
has seen number n has seen everything below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    String,
    Table,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
)

from kernel.clock import instant, micros
from kernel.errors import BadInput
from storage.database import chunks, reading, writing
from storage.tables import metadata
from storage.tombstones import Tombstones

#: instants are whole microseconds since 1970 in UTC
fresh_events = Table(
    "fresh_events",
    metadata,
    Column(
        "number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    ),  # in the order of receipt; never given twice
    Column("event_id", String(200), nullable=False, unique=True),
    Column("user_id", String(200), nullable=False, index=True),
    Column("name", String(100), nullable=False),
    Column("occurred_at", BigInteger, nullable=False, index=True),
    Column("received_at", BigInteger, nullable=False, index=True),
    Column("lines", JSON, nullable=False),  # a list of property → value, one each line of the event
    sqlite_autoincrement=True,
)
_WHAT = "the log of events"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedEvent:
    """A line of the log."""

    #: in the order of receipt
    number: int
    #: given by the sender, the same when it is sent again
    event_id: str
    user_id: str
    #: which event of the catalog
    name: str
    occurred_at: datetime
    #: when it was first received
    received_at: datetime
    #: property → value as JSON has it, one each line of the event
    lines: tuple[dict[str, Any], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class NewEvent:
    """What is to be appended."""

    event_id: str
    user_id: str
    name: str
    occurred_at: datetime
    lines: Sequence[dict[str, Any]]


class EventLog:
    """Every method raises Unavailable when the database does not answer, with nothing half done."""

    def __init__(self, engine: Engine, tombstones: Tombstones | None = None) -> None:
        """`tombstones`: of whom nothing is appended."""
        self._engine, self._tombstones = engine, tombstones

    def append(
        self, requests: Sequence[Sequence[NewEvent]], received_at: datetime
    ) -> list[list[datetime | None] | BadInput]:
        """Durable when it returns. For each request, when each of its events was first received (None: its
        user was forgotten, and it was not appended), or why none of them was appended: an `event_id` that
        belongs to an event of another name.

        An id that is in the log changes nothing, whatever else the repetition says.
        """
        now = micros(received_at, "received_at")
        wanted = {each.event_id for request in requests for each in request}
        with self._writing() as connection:
            # Inside the transaction: who is forgotten later finds these rows, and deletes them.
            refused = self._refused({each.user_id for request in requests for each in request})
            standing = _standing(connection, wanted)
            answers: list[list[datetime | None] | BadInput] = []
            rows: list[dict[str, Any]] = []
            for request in requests:
                clash = _clash(request, standing)
                if clash is not None:
                    answers.append(clash)
                    continue
                for each in request:
                    if each.event_id not in standing and each.user_id not in refused:
                        standing[each.event_id] = (each.name, now)
                        rows.append(_row(each, now))
                answers.append(
                    [
                        None if each.user_id in refused else instant(standing[each.event_id][1])
                        for each in request
                    ]
                )
            if rows:
                connection.execute(insert(fresh_events), rows)
        return answers

    def after(self, number: int, names: Iterable[str], limit: int = 10_000) -> list[LoggedEvent]:
        """The next events of these names, in order."""
        mine = and_(fresh_events.c.number > number, fresh_events.c.name.in_(sorted(names)))
        query = select(fresh_events).where(mine).order_by(fresh_events.c.number).limit(limit)
        with self._reading() as connection:
            return [_logged(row) for row in connection.execute(query)]

    def open(
        self,
        names: Iterable[str],
        *,
        occurred_after: datetime,
        received_after: datetime,
        after: int = 0,
        until: int,
        limit: int,
    ) -> list[LoggedEvent]:
        """The next events of these names, up to number `until`, that happened or were received after these
        instants."""
        late = or_(
            fresh_events.c.occurred_at > micros(occurred_after, "occurred_after"),
            fresh_events.c.received_at > micros(received_after, "received_after"),
        )
        numbers = fresh_events.c.number > after, fresh_events.c.number <= until
        mine = and_(fresh_events.c.name.in_(sorted(names)), *numbers, late)
        query = select(fresh_events).where(mine).order_by(fresh_events.c.number).limit(limit)
        with self._reading() as connection:
            return [_logged(row) for row in connection.execute(query)]

    def last(self) -> int:
        """The highest number; 0 while the log is empty."""
        with self._reading() as connection:
            return int(connection.execute(select(func.max(fresh_events.c.number))).scalar() or 0)

    def of_user(self, user_id: str) -> list[LoggedEvent]:
        """Everything that the log holds of a person."""
        query = select(fresh_events).where(fresh_events.c.user_id == user_id)
        with self._reading() as connection:
            return [_logged(row) for row in connection.execute(query.order_by(fresh_events.c.number))]

    def forget(self, user_id: str) -> int:
        """Deletes what the log holds of a person; how many events that were."""
        with self._writing() as connection:
            return connection.execute(delete(fresh_events).where(fresh_events.c.user_id == user_id)).rowcount

    def prune(self, *, received_before: datetime, occurred_before: datetime) -> int:
        """Deletes events that were received, and happened, before these instants; how many."""
        old = and_(
            fresh_events.c.received_at < micros(received_before, "received_before"),
            fresh_events.c.occurred_at < micros(occurred_before, "occurred_before"),
        )
        with self._writing() as connection:
            return connection.execute(delete(fresh_events).where(old)).rowcount

    def _refused(self, users: set[str]) -> set[str]:
        if self._tombstones is None:
            return set()
        asked = pl.Series(sorted(users), dtype=pl.String)
        return set(asked.filter(self._tombstones.refused(asked)))

    def _writing(self) -> AbstractContextManager[Connection]:
        """One writer at a time: numbers are in the order of receipt."""
        return writing(self._engine, _WHAT, lock=fresh_events.name)

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self._engine, _WHAT)


def _standing(connection: Connection, ids: set[str]) -> dict[str, tuple[str, int]]:
    """Event id → (name, received), of those that are in the log."""
    found: dict[str, tuple[str, int]] = {}
    for ids_here in chunks(sorted(ids)):
        some = fresh_events.c.event_id.in_(ids_here)
        query = select(fresh_events.c.event_id, fresh_events.c.name, fresh_events.c.received_at).where(some)
        found |= {row.event_id: (row.name, row.received_at) for row in connection.execute(query)}
    return found


def _clash(request: Sequence[NewEvent], standing: dict[str, tuple[str, int]]) -> BadInput | None:
    mine: dict[str, str] = {}
    for at, each in enumerate(request):
        name = standing[each.event_id][0] if each.event_id in standing else mine.get(each.event_id)
        if name is not None and name != each.name:
            field = f"events.{at}.event_id" if len(request) > 1 else "event_id"
            return BadInput(f"is the id of a {name} event already", field=field, value=each.event_id)
        mine[each.event_id] = each.name
    return None


def _row(each: NewEvent, now: int) -> dict[str, Any]:
    return {
        "event_id": each.event_id,
        "user_id": each.user_id,
        "name": each.name,
        "occurred_at": micros(each.occurred_at, "occurred_at"),
        "received_at": now,
        "lines": list(each.lines),
    }


def _logged(row: Any) -> LoggedEvent:
    return LoggedEvent(
        number=row.number,
        event_id=row.event_id,
        user_id=row.user_id,
        name=row.name,
        occurred_at=instant(row.occurred_at),
        received_at=instant(row.received_at),
        lines=tuple(row.lines),
    )
