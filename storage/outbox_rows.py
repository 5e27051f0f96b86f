"""The outbox's tables, and what its statements share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite

from kernel.contact import MessageClass
from kernel.delivery import OutboxTask, OutboxTouch, TouchState
from storage.tables import metadata

#: what the ledger is still to be told of a touch
CONFIRM, RELEASE, NOTHING = "confirm", "release", ""
#: rule of a touch that a newer version of its plan does without
REPLANNED = "replanned"
_NUMBER = BigInteger().with_variant(Integer, "sqlite")

tasks = Table(
    "outbox_tasks",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("run", String(200), nullable=False),
    Column("task", String(400), nullable=False),
    Column("goal", String(100), nullable=False),
    Column("benefit", String(100), nullable=False),
    Column("touchpoint", String(100), nullable=False),
    Column("channel", String(100), nullable=False),
    Column("content", String(100), nullable=False),
    Column("message_class", String(20), nullable=False),
    Column("state", String(10), nullable=False),
    # not all of its touches are in: nothing goes out
    Column("loading", Boolean, nullable=False),
    # version of the run that was loaded last
    Column("version", Integer, nullable=False),
    # files that were written of it
    Column("parts", Integer, nullable=False),
    # when the last of its touches came to an end; null while one is on its way
    Column("done_us", BigInteger),
    Column("changed_us", BigInteger, nullable=False),
    UniqueConstraint("run", "task"),
    CheckConstraint("state IN ('running', 'paused', 'cancelled')", name="state"),
)
touches = Table(
    "outbox_touches",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("touch_id", String(64), nullable=False, unique=True),
    Column("user_id", String(200), nullable=False),
    Column("task_number", _NUMBER, ForeignKey(tasks.c.number), nullable=False),
    # when it was meant to be handed over, and when it next can be
    Column("send_us", BigInteger, nullable=False),
    Column("due_us", BigInteger, nullable=False),
    Column("state", String(10), nullable=False),
    # whose lease it is
    Column("owner", String(100)),
    Column("attempts", Integer, nullable=False),
    Column("rule", String(100), nullable=False),
    Column("reason", Text, nullable=False),
    Column("code", String(100), nullable=False),
    # keyed hash of the address that it went to; the address itself is not kept here
    Column("address", String(32), nullable=False),
    Column("provider_id", String(200), nullable=False),
    # version of the run that named it last
    Column("version", Integer, nullable=False),
    # what the ledger is still to be told
    Column("owes", String(10), nullable=False),
    Column("changed_us", BigInteger, nullable=False),
    # at most one touch per (task, run, user), ever; by the user first, since she is asked for
    UniqueConstraint("user_id", "task_number"),
    CheckConstraint(f"state IN ({', '.join(repr(str(each)) for each in TouchState)})", name="state"),
)
QUEUED = text("outbox_touches.state = 'queued'")
OWED = text("outbox_touches.owes <> ''")
LEASED = text("outbox_touches.owner IS NOT NULL")
for name, columns, some in (
    ("ix_outbox_touches_due", (touches.c.task_number, touches.c.due_us), QUEUED),
    ("ix_outbox_touches_owed", (touches.c.number,), OWED),
    ("ix_outbox_touches_owner", (touches.c.owner,), LEASED),
):
    bare = text(some.text.replace("outbox_touches.", ""))
    Index(name, *columns, sqlite_where=bare, postgresql_where=bare)

dispatchers = Table(
    "outbox_dispatchers",
    metadata,
    Column("owner", String(100), primary_key=True),
    Column("host", String(200), nullable=False),
    # it lives: when it last said so
    Column("beat_us", BigInteger, nullable=False),
)
rates = Table(
    "outbox_rates",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("tokens", Float(53), nullable=False),
    Column("at_us", BigInteger, nullable=False),
)


def upsert(connection: Connection, table: Table) -> Any:
    """An insert that can say what happens when the key is there; both databases spell it the same way."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def task_of(row: Any) -> OutboxTask:
    return OutboxTask(
        number=row.number,
        run=row.run,
        task=row.task,
        goal=row.goal,
        benefit=row.benefit,
        touchpoint=row.touchpoint,
        channel=row.channel,
        content=row.content,
        message_class=MessageClass(row.message_class),
    )


def touch_of(row: Any) -> OutboxTouch:
    return OutboxTouch(
        number=row.number,
        touch_id=row.touch_id,
        user=row.user_id,
        send_us=row.send_us,
        code=row.code,
        attempts=row.attempts,
    )
