"""What providers told of touches: once each, with what follows from it in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Connection, Engine, String, Table, func, select

from kernel.clock import instant
from kernel.delivery import ReceiptKind, Suppressed
from kernel.errors import BadInput
from storage.database import chunks, reading, writing
from storage.outbox import SqlOutbox
from storage.outbox_rows import tasks, touches
from storage.suppress import ALL, Suppressions
from storage.tables import metadata

_WHAT = "the log of receipts"

receipts = Table(
    "touch_receipts",
    metadata,
    Column("provider", String(100), primary_key=True),
    # given by the provider, the same when it tells again
    Column("receipt_id", String(200), primary_key=True),
    Column("touch_id", String(64), nullable=False, index=True),
    Column("user_id", String(200), nullable=False, index=True),
    Column("kind", String(20), nullable=False),
    # of a bounce: it can never arrive
    Column("hard", Boolean, nullable=False),
    Column("occurred_us", BigInteger, nullable=False),
    Column("received_us", BigInteger, nullable=False),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class NewReceipt:
    """What a provider tells."""

    receipt_id: str
    touch_id: str
    kind: ReceiptKind
    #: of a bounce: it can never arrive
    hard: bool
    occurred_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """A receipt with the touch that it is of."""

    receipt: NewReceipt
    user: str
    run: str
    task: str
    goal: str
    channel: str
    content: str
    #: false when it had been told before
    new: bool
    #: waiting touches that it called off
    cancelled: int


class Receipts:
    """Every method raises Unavailable when the database does not answer, with nothing half done."""

    def __init__(self, engine: Engine, outbox: SqlOutbox, suppressions: Suppressions) -> None:
        self._engine, self._outbox, self._suppressions = engine, outbox, suppressions

    def take(self, provider: str, told: Sequence[NewReceipt], now_us: int) -> list[Taken]:
        """All or none. A receipt that was told before changes nothing.

        A hard bounce suppresses the address, an unsubscription the user on that channel, a complaint the user
        on all of them; what waits for her there is called off in the same transaction. Raises BadInput for a
        touch that nobody sent.
        """
        found: list[Taken] = []
        with writing(self._engine, _WHAT, lock=receipts.name) as connection:
            known = _touches(connection, [each.touch_id for each in told])
            standing = _standing(connection, provider, [each.receipt_id for each in told])
            for place, each in enumerate(told):
                touch = known.get(each.touch_id)
                if touch is None:
                    field = f"receipts.{place}.touch_id" if len(told) > 1 else "touch_id"
                    raise BadInput("is no touch that was sent from here", field=field, value=each.touch_id)
                new = each.receipt_id not in standing
                off = self._take(connection, provider, each, touch, now_us) if new else 0
                standing.add(each.receipt_id)
                found.append(
                    Taken(
                        receipt=each, user=touch.user_id, run=touch.run, task=touch.task, goal=touch.goal,
                        channel=touch.channel, content=touch.content, new=new, cancelled=off,
                    )
                )  # fmt: skip
        return found

    def bounced(self, provider: str, found: Sequence[tuple[str, str, str]], now_us: int) -> None:
        """(mark of the address, channel, user) of addresses that were rejected when they were written to."""
        with writing(self._engine, _WHAT) as connection:
            for mark, channel, user in found:
                book = self._suppressions
                book.add(connection, mark, channel, Suppressed.HARD_BOUNCE, now_us, provider)
                book.name(connection, mark, user, None)

    def suppress(
        self,
        *,
        user: str = "",
        address: str | None = None,
        channel: str = ALL,
        reason: Suppressed = Suppressed.MANUAL,
        now_us: int,
        said_by: str = "operator",
    ) -> int:
        """An address where one is given, else the user; how many waiting touches that calls off.

        Again changes nothing. What waits for an address is judged when it is due.
        """
        book = self._suppressions
        with writing(self._engine, _WHAT) as connection:
            mark = book.mark_of_user(user) if address is None else book.mark_of_address(address)
            book.add(connection, mark, channel, reason, now_us, said_by)
            book.name(connection, mark, user, address)
            if address is not None:
                return 0
            said = f"{reason} on {instant(now_us):%Y-%m-%d}"
            return self._outbox.cancel_user(connection, user, channel or None, said, now_us)

    def carry_over(self, of: Sequence[str], to: Sequence[str], now_us: int) -> None:
        """What suppresses these marks suppresses those too."""
        held = self._suppressions.binding(of)
        with writing(self._engine, _WHAT) as connection:
            for entries in held.values():
                for channel, reason in entries:
                    for mark in to:
                        self._suppressions.add(connection, mark, channel, reason, now_us, "forgotten")

    def counts(self, run: str | None = None) -> dict[str, dict[str, int]]:
        """Channel → kind → touches of which it was told at least once."""
        told = func.count(receipts.c.touch_id.distinct())
        query = (
            select(tasks.c.channel, receipts.c.kind, told.label("told"))
            .join(touches, touches.c.touch_id == receipts.c.touch_id)
            .join(tasks, tasks.c.number == touches.c.task_number)
            .group_by(tasks.c.channel, receipts.c.kind)
        )
        if run is not None:
            query = query.where(tasks.c.run == run)
        found: dict[str, dict[str, int]] = {}
        with reading(self._engine, _WHAT) as connection:
            for row in connection.execute(query.order_by(tasks.c.channel, receipts.c.kind)):
                found.setdefault(row.channel, {})[row.kind] = row.told
        return found

    def of_user(self, user: str) -> list[dict[str, Any]]:
        """Everything that was told of a person's touches."""
        query = select(receipts).where(receipts.c.user_id == user).order_by(receipts.c.occurred_us)
        with reading(self._engine, _WHAT) as connection:
            rows = connection.execute(query).all()
        return [
            {
                "touch_id": row.touch_id,
                "kind": row.kind,
                "provider": row.provider,
                "occurred_at": instant(row.occurred_us).isoformat(),
            }
            for row in rows
        ]

    def _take(self, connection: Connection, provider: str, told: NewReceipt, touch: Any, now_us: int) -> int:
        row = {
            "provider": provider,
            "receipt_id": told.receipt_id,
            "touch_id": told.touch_id,
            "user_id": touch.user_id,
            "kind": str(told.kind),
            "hard": told.hard,
            "occurred_us": told.occurred_us,
            "received_us": now_us,
        }
        connection.execute(receipts.insert().values(row))
        return self.follow(connection, provider, told.kind, told.hard, touch, now_us)

    def follow(
        self, connection: Connection, provider: str, kind: ReceiptKind, hard: bool, touch: Any, now_us: int
    ) -> int:
        """What is to happen at once, in the caller's transaction; how many waiting touches it called off."""
        book, user = self._suppressions, str(touch.user_id)
        if kind is ReceiptKind.BOUNCED and hard and touch.address:
            book.add(connection, touch.address, touch.channel, Suppressed.HARD_BOUNCE, now_us, provider)
            book.name(connection, touch.address, user, None)
            return 0  # another address of hers may be good: what waits is judged when it is due
        if kind is ReceiptKind.UNSUBSCRIBED:
            channel, reason = str(touch.channel), Suppressed.UNSUBSCRIBED
        elif kind is ReceiptKind.COMPLAINED:
            channel, reason = ALL, Suppressed.COMPLAINED
        else:
            return 0
        mark = book.mark_of_user(user)
        book.add(connection, mark, channel, reason, now_us, provider)
        book.name(connection, mark, user, None)
        said = f"{reason} on {instant(now_us):%Y-%m-%d}"
        return self._outbox.cancel_user(connection, user, channel or None, said, now_us)


def _touches(connection: Connection, ids: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for some in chunks(sorted(set(ids))):
        query = (
            select(
                touches.c.touch_id, touches.c.user_id, touches.c.address, tasks.c.run, tasks.c.task,
                tasks.c.goal, tasks.c.channel, tasks.c.content,
            )
            .join(tasks, tasks.c.number == touches.c.task_number)
            .where(touches.c.touch_id.in_(some))
        )  # fmt: skip
        found |= {row.touch_id: row for row in connection.execute(query)}
    return found


def _standing(connection: Connection, provider: str, ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for some in chunks(sorted(set(ids))):
        mine = (receipts.c.provider == provider) & receipts.c.receipt_id.in_(some)
        found.update(connection.execute(select(receipts.c.receipt_id).where(mine)).scalars())
    return found
