"""The rows of the exposure ledger: its table, and the statements on it, inside a caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Index,
    String,
    Table,
    and_,
    bindparam,
    or_,
    select,
)

from kernel.clock import micros
from kernel.contact import Cap
from kernel.exposure import Reservation, window_micros
from storage.database import chunks
from storage.tables import metadata

RESERVED, CONFIRMED, RELEASED = "reserved", "confirmed", "released"

touches = Table(
    "ledger_touches",
    metadata,
    Column("touch_id", String(64), primary_key=True),
    #: the user's own id, as text
    Column("user_id", String(200), nullable=False),
    Column("channel", String(100), nullable=False),
    Column("message_class", String(20), nullable=False),
    #: instants are microseconds since 1970 UTC: exact, and the same on every database
    Column("at_us", BigInteger, nullable=False),
    Column("state", String(10), nullable=False),
    #: a reservation counts before this instant only; null: until it is released
    Column("expires_us", BigInteger),
    #: when the state last changed
    Column("changed_us", BigInteger, nullable=False),
    Column("run", String(200), nullable=False),
    Column("plan", String(200)),
    CheckConstraint(f"state IN ('{RESERVED}', '{CONFIRMED}', '{RELEASED}')", name="state"),
)
Index(None, touches.c.user_id, touches.c.at_us)
Index(None, touches.c.plan, touches.c.state)

_UPDATE = touches.update().where(touches.c.touch_id == bindparam("key"))


def live(row: Any, now: int) -> bool:
    return bool(row.state == RESERVED and (row.expires_us is None or row.expires_us > now))


def rows_of(connection: Connection, touch_ids: Collection[str]) -> dict[str, Any]:
    found = {}
    for some in chunks(sorted(touch_ids)):
        for row in connection.execute(select(touches).where(touches.c.touch_id.in_(some))):
            found[row.touch_id] = row
    return found


def rows_around(
    connection: Connection, wishes: Sequence[Reservation], caps: Sequence[Cap], now: int
) -> Iterator[Any]:
    """What counts for the wishes' users from the longest window before the first wish on."""
    if not wishes or not caps:
        return
    reach = max(window_micros(cap) for cap in caps)
    first = micros(wishes[0].at) - reach
    users = sorted({wish.user for wish in wishes})
    yield from counting(connection, touches.c.at_us >= first, users, now)


def counting(connection: Connection, span: Any, users: Sequence[str] | None, now: int) -> Iterator[Any]:
    unexpired = or_(touches.c.expires_us.is_(None), touches.c.expires_us > now)
    alive = or_(touches.c.state == CONFIRMED, and_(touches.c.state == RESERVED, unexpired))
    query = select(touches).where(span, alive)
    if users is None:
        yield from connection.execute(query)
        return
    for some in chunks(users):
        yield from connection.execute(query.where(touches.c.user_id.in_(some)))


def release_plan(connection: Connection, plan: str, now: int) -> None:
    connection.execute(
        touches.update()
        .where(touches.c.plan == plan, touches.c.state == RESERVED)
        .values(state=RELEASED, changed_us=now)
    )


def set_state(connection: Connection, touch_ids: Sequence[str], state: str, now: int) -> None:
    if touch_ids:
        change = _UPDATE.values(state=state, changed_us=now)
        connection.execute(change, [{"key": key} for key in touch_ids])


def write(
    connection: Connection,
    granted: Sequence[Reservation],
    known: dict[str, Any],
    now: int,
    expires: int | None,
) -> None:
    new, again = [], []
    for wish in granted:
        row = {
            "user_id": wish.user,
            "channel": wish.channel,
            "message_class": str(wish.message_class),
            "at_us": micros(wish.at),
            "state": RESERVED,
            "expires_us": expires,
            "changed_us": now,
            "run": wish.run,
            "plan": wish.plan,
        }
        if wish.touch_id in known:
            again.append(row | {"key": wish.touch_id})
        else:
            new.append(row | {"touch_id": wish.touch_id})
    if new:
        connection.execute(touches.insert(), new)
    if again:
        connection.execute(
            _UPDATE.values({name: bindparam(name) for name in again[0] if name != "key"}), again
        )
