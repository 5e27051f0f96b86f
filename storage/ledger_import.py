"""Touches of the ledger as it was in SQL, taken over once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy import BigInteger, Column, Engine, Index, String, Table, select
from sqlalchemy.schema import CheckConstraint

from kernel.clock import instant
from kernel.contact import Cap, MessageClass
from kernel.exposure import Refusal, Reservation
from storage.database import chunks, reading, writing
from storage.tables import metadata

touches = Table(
    "ledger_touches",
    metadata,
    Column("touch_id", String(64), primary_key=True),
    Column("user_id", String(200), nullable=False),
    Column("channel", String(100), nullable=False),
    Column("message_class", String(20), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("state", String(10), nullable=False),
    Column("expires_us", BigInteger),
    Column("changed_us", BigInteger, nullable=False),
    Column("run", String(200), nullable=False),
    Column("plan", String(200)),
    CheckConstraint("state IN ('reserved', 'confirmed', 'released')", name="state"),
)
Index(None, touches.c.user_id, touches.c.at_us)
Index(None, touches.c.plan, touches.c.state)
#: rows that are taken over together
_TOGETHER = 10_000


class _Ledger(Protocol):
    def reserve_many(
        self, wishes: Sequence[Reservation], *, caps: Sequence[Cap], expires_at: datetime | None = None
    ) -> dict[str, Refusal]: ...

    def confirm(self, touch_ids: Collection[str]) -> None: ...


def import_touches(engine: Engine, ledger: _Ledger) -> int:
    """What was reserved or confirmed counts in the ledger from now on, and its rows go; how many. Killed at
    any point, the next call completes it. A reservation that was to expire does not: it counts until it is
    settled, or is no more kept. Raises Unavailable."""
    done = 0
    while True:
        with reading(engine, "the ledger that was in SQL") as connection:
            rows = connection.execute(select(touches).limit(_TOGETHER)).all()
        if not rows:
            return done
        alive = [row for row in rows if row.state != "released"]
        wishes = [
            Reservation(
                touch_id=row.touch_id,
                user=row.user_id,
                channel=row.channel,
                message_class=MessageClass(row.message_class),
                at=instant(row.at_us),
                run=row.run,
                plan=row.plan,
            )
            for row in alive
        ]
        ledger.reserve_many(wishes, caps=[])
        ledger.confirm([row.touch_id for row in alive if row.state == "confirmed"])
        with writing(engine, "the ledger that was in SQL") as connection:
            for some in chunks([row.touch_id for row in rows]):
                connection.execute(touches.delete().where(touches.c.touch_id.in_(some)))
        done += len(alive)
