"""Who gets no more touches: users and addresses, by keyed hashes that outlive what they stand for.

What is checked is a hash of the user's id, or of the address, with the workspace's secret. Beside it the id
and the address stand in clear as long as the person is known here; `growth forget` takes these away and
leaves the hash, so that who has unsubscribed and was forgotten is not written to when she comes back.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Engine, String, Table, delete, or_, select

from kernel.clock import instant
from kernel.delivery import Suppressed
from storage.database import chunks, reading, writing
from storage.outbox_rows import upsert
from storage.tables import metadata
from storage.tombstones import Tombstones

_WHAT = "the list of the suppressed"
#: stands for every channel
ALL = ""

suppressions = Table(
    "suppressions",
    metadata,
    # keyed hash of `user ID` or of `address ADDRESS`
    Column("mark", String(32), primary_key=True),
    # '' for every channel
    Column("channel", String(100), primary_key=True),
    Column("reason", String(20), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    # who said so: a provider, or `operator`
    Column("said_by", String(100), nullable=False),
)
names = Table(
    "suppression_names",
    metadata,
    Column("mark", String(32), primary_key=True),
    Column("user_id", String(200), nullable=False, index=True),
    # null where the user as such is meant
    Column("address", String(320)),
)


class Suppressions:
    """Every method raises Unavailable when the database does not answer: then nothing may be sent."""

    def __init__(self, engine: Engine, tombstones: Tombstones) -> None:
        self._engine, self._tombstones = engine, tombstones
        self._secret: bytes | None = None

    def mark_of_user(self, user: str) -> str:
        return self._mark(f"user {user}")

    def mark_of_address(self, address: str) -> str:
        """The same for every spelling of an address in capitals or with blanks around it."""
        return self._mark(f"address {address.strip().lower()}")

    def add(
        self, connection: Connection, mark: str, channel: str, reason: Suppressed, now_us: int, said_by: str
    ) -> None:
        """In the caller's transaction. A reason that binds more takes the place of one that binds less."""
        row = {"mark": mark, "channel": channel, "reason": str(reason), "at_us": now_us, "said_by": said_by}
        insert = upsert(connection, suppressions).values(row)
        if reason is Suppressed.HARD_BOUNCE:
            insert = insert.on_conflict_do_update(
                index_elements=["mark", "channel"],
                set_={"reason": str(reason), "at_us": now_us, "said_by": said_by},
            )
        else:
            insert = insert.on_conflict_do_nothing()
        connection.execute(insert)

    def name(self, connection: Connection, mark: str, user: str, address: str | None) -> None:
        """In the caller's transaction: whose mark it is, for people."""
        insert = upsert(connection, names).values(mark=mark, user_id=user, address=address)
        connection.execute(insert.on_conflict_do_nothing())

    def lift(self, text: str, channel: str | None = None) -> int:
        """Takes away what suppresses this user or address, on one channel or all; how many entries."""
        marks = (self.mark_of_user(text), self.mark_of_address(text))
        query = delete(suppressions).where(suppressions.c.mark.in_(marks))
        if channel is not None:
            query = query.where(suppressions.c.channel == channel)
        with self.writing() as connection:
            gone = connection.execute(query).rowcount
            left = select(suppressions.c.mark).where(suppressions.c.mark.in_(marks))
            connection.execute(delete(names).where(names.c.mark.in_(marks), names.c.mark.not_in(left)))
        return int(gone)

    def binding(self, marks: Collection[str]) -> dict[str, list[tuple[str, Suppressed]]]:
        """Mark → (channel or '', reason), of those that are suppressed."""
        found: dict[str, list[tuple[str, Suppressed]]] = {}
        with reading(self._engine, _WHAT) as connection:
            if connection.execute(select(suppressions.c.mark).limit(1)).first() is None:
                return {}
            for some in chunks(sorted(marks)):
                query = select(suppressions.c.mark, suppressions.c.channel, suppressions.c.reason)
                for row in connection.execute(query.where(suppressions.c.mark.in_(some))):
                    found.setdefault(row.mark, []).append((row.channel, Suppressed(row.reason)))
        return found

    def of(self, texts: Iterable[str]) -> list[dict[str, Any]]:
        """What suppresses these users or addresses."""
        marks = [mark for text in texts for mark in (self.mark_of_user(text), self.mark_of_address(text))]
        return self._listed(suppressions.c.mark.in_(marks), len(marks))

    def newest(self, limit: int = 100) -> list[dict[str, Any]]:
        """The newest entries, those of the forgotten without a name."""
        return self._listed(None, limit)

    def count(self) -> Mapping[str, int]:
        """Entries by reason."""
        with reading(self._engine, _WHAT) as connection:
            reasons = list(connection.execute(select(suppressions.c.reason)).scalars())
        return {reason: reasons.count(reason) for reason in sorted(set(reasons))}

    def forget(self, users: Collection[str], addresses: Collection[str]) -> int:
        """The clear names of a person go, the hashes stay; how many names."""
        marks = [*map(self.mark_of_user, users), *map(self.mark_of_address, addresses)]
        mine = or_(names.c.mark.in_(marks), names.c.user_id.in_(sorted(users)))
        with self.writing() as connection:
            return int(connection.execute(delete(names).where(mine)).rowcount)

    def writing(self) -> AbstractContextManager[Connection]:
        return writing(self._engine, _WHAT)

    def _listed(self, which: Any, limit: int) -> list[dict[str, Any]]:
        query = select(suppressions, names.c.user_id, names.c.address).outerjoin(
            names, names.c.mark == suppressions.c.mark
        )
        if which is not None:
            query = query.where(which)
        with reading(self._engine, _WHAT) as connection:
            rows = connection.execute(query.order_by(suppressions.c.at_us.desc()).limit(limit)).all()
        return [
            {
                "user_id": row.user_id or None,
                "address": row.address,
                "channel": row.channel or None,
                "reason": row.reason,
                "since": instant(row.at_us).isoformat(),
                "said_by": row.said_by,
            }
            for row in rows
        ]

    def _mark(self, text: str) -> str:
        if self._secret is None:
            self._secret = self._tombstones.secret()
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()[:32]
