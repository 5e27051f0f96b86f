"""What ad platforms hold of ours, in SQL: hashed keys alone, so nobody's id is here.

A key is `sure` when the platform took it and said so, `maybe` from before it is asked to add or remove it
until it has answered. Killed at any instant, the next run finds out of every `maybe` what to do with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, Boolean, Column, Connection, Engine, Integer, String, Table, delete, select

from kernel.clock import instant, micros
from storage.database import chunks, reading, writing
from storage.outbox_rows import upsert
from storage.tables import metadata

_WHAT = "the list of synced audiences"

synced_keys = Table(
    "synced_keys",
    metadata,
    Column("sync", String(100), primary_key=True),
    # SHA-256 of a normalised address, hexadecimal
    Column("key", String(64), primary_key=True),
    Column("sure", Boolean, nullable=False),
)
sync_runs = Table(
    "sync_runs",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("sync", String(100), nullable=False, index=True),
    # whole microseconds since 1970 in UTC
    Column("begun_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("wanted", BigInteger, nullable=False),
    Column("added", BigInteger, nullable=False),
    Column("removed", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True, kw_only=True)
class SyncRun:
    """One run of a sync."""

    number: int
    sync: str
    begun: datetime
    #: None: it was killed, or goes on
    ended: datetime | None
    #: keys that should be there
    wanted: int
    added: int
    removed: int


class SyncBook:
    """Every method is one step, and raises Unavailable when the database does not answer, with nothing
    done."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def held(self, sync: str) -> tuple[frozenset[str], frozenset[str]]:
        """Keys that the platform surely holds, and those of which it is not known."""
        with reading(self._engine, _WHAT) as connection:
            query = select(synced_keys.c.key, synced_keys.c.sure).where(synced_keys.c.sync == sync)
            rows = connection.execute(query).all()
        sure = frozenset(row.key for row in rows if row.sure)
        return sure, frozenset(row.key for row in rows if not row.sure)

    def begin(self, sync: str, wanted: int, at: datetime) -> int:
        """A run's number; never given twice."""
        row = {"sync": sync, "begun_us": micros(at), "wanted": wanted, "added": 0, "removed": 0}
        with writing(self._engine, _WHAT) as connection:
            found = connection.execute(sync_runs.insert().values(row)).inserted_primary_key
        return int(found[0]) if found else 0

    def about_to(self, sync: str, keys: Sequence[str]) -> None:
        """Before the platform is asked to add or remove them."""
        with writing(self._engine, _WHAT) as connection:
            for some in chunks(keys):
                insert = upsert(connection, synced_keys)
                insert = insert.values([{"sync": sync, "key": key, "sure": False} for key in some])
                insert = insert.on_conflict_do_update(index_elements=["sync", "key"], set_={"sure": False})
                connection.execute(insert)

    def added(self, run: int, sync: str, keys: Sequence[str]) -> None:
        """The platform has taken them."""
        mine = synced_keys.c.sync == sync
        with writing(self._engine, _WHAT) as connection:
            for some in chunks(keys):
                these = synced_keys.update().where(mine, synced_keys.c.key.in_(some))
                connection.execute(these.values(sure=True))
            _count(connection, run, sync_runs.c.added, len(keys))

    def removed(self, run: int, sync: str, keys: Sequence[str]) -> None:
        """The platform has given them up."""
        mine = synced_keys.c.sync == sync
        with writing(self._engine, _WHAT) as connection:
            for some in chunks(keys):
                connection.execute(delete(synced_keys).where(mine, synced_keys.c.key.in_(some)))
            _count(connection, run, sync_runs.c.removed, len(keys))

    def end(self, run: int, at: datetime) -> None:
        with writing(self._engine, _WHAT) as connection:
            connection.execute(
                sync_runs.update().where(sync_runs.c.number == run).values(ended_us=micros(at))
            )

    def runs(self, sync: str, limit: int = 10) -> list[SyncRun]:
        """The newest first."""
        query = select(sync_runs).where(sync_runs.c.sync == sync).order_by(sync_runs.c.number.desc())
        with reading(self._engine, _WHAT) as connection:
            return [
                SyncRun(
                    number=row.number,
                    sync=row.sync,
                    begun=instant(row.begun_us),
                    ended=None if row.ended_us is None else instant(row.ended_us),
                    wanted=row.wanted,
                    added=row.added,
                    removed=row.removed,
                )
                for row in connection.execute(query.limit(limit))
            ]


def _count(connection: Connection, run: int, column: Column[int], many: int) -> None:
    connection.execute(
        sync_runs.update().where(sync_runs.c.number == run).values({column.name: column + many})
    )
