"""Who was forgotten, as marks that tell nothing of them: hashes with a key that stays in the workspace."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from sqlalchemy import Column, Connection, Engine, String, Table, select
from sqlalchemy.types import DateTime

from storage.database import reading, writing
from storage.tables import metadata

forgotten = Table(
    "forgotten",
    metadata,
    # HMAC-SHA-256 of the id as text
    Column("mark", String(64), primary_key=True),
    Column("begun_at", DateTime(timezone=True), nullable=False),
    # null: begun and not finished; forget the same person again
    Column("done_at", DateTime(timezone=True), nullable=True),
)


class Tombstones:
    """The marks. `key`: file with the secret, made when first needed. Without it, marks mean nothing.

    Raises Unavailable when the database does not answer: whoever asks then admits nobody.
    """

    def __init__(self, engine: Engine, key: Path) -> None:
        self._engine, self._file = engine, key

    def mark(self, user: object) -> str:
        return hmac.new(self._key(), str(user).encode(), hashlib.sha256).hexdigest()

    def begin(self, users: Iterable[object], at: datetime) -> None:
        """From now on they do not come back; a mark that stands is open again."""
        marks = [self.mark(user) for user in users]
        with self._writing() as connection:
            for mark in marks:
                mine = forgotten.c.mark == mark
                if connection.execute(forgotten.update().where(mine).values(done_at=None)).rowcount == 0:
                    row = {"mark": mark, "begun_at": at.astimezone(UTC), "done_at": None}
                    connection.execute(forgotten.insert().values(row))

    def finish(self, users: Iterable[object], at: datetime) -> None:
        marks = [self.mark(user) for user in users]
        with self._writing() as connection:
            for mark in marks:
                done = forgotten.update().where(forgotten.c.mark == mark)
                connection.execute(done.values(done_at=at.astimezone(UTC)))

    def readmit(self, user: object) -> bool:
        """She may come back. False when she was not forgotten."""
        with self._writing() as connection:
            gone = connection.execute(forgotten.delete().where(forgotten.c.mark == self.mark(user)))
            return gone.rowcount > 0

    def unfinished(self) -> list[datetime]:
        """When those forgettings were begun that never came to their end."""
        with self._reading() as connection:
            query = select(forgotten.c.begun_at).where(forgotten.c.done_at.is_(None))
            return [at.replace(tzinfo=at.tzinfo or UTC) for at in connection.execute(query).scalars()]

    def marks(self) -> frozenset[str]:
        """Of all who were forgotten."""
        with self._reading() as connection:
            return frozenset(connection.execute(select(forgotten.c.mark)).scalars())

    def refused(self, users: pl.Series) -> pl.Series:
        """For each id, whether it was forgotten. A microsecond an id where anybody was, else nothing."""
        marks = self.marks()
        if not marks or users.is_empty():
            return pl.repeat(False, len(users), eager=True)
        known = users.unique()
        gone = [user for user in known.drop_nulls().to_list() if self.mark(user) in marks]
        return users.is_in(pl.Series(gone, dtype=users.dtype).implode()).fill_null(False)

    def without(self, frame: pl.DataFrame, column: str = "user") -> pl.DataFrame:
        """The frame's rows of those who were not forgotten."""
        refused = self.refused(frame[column])
        return frame.filter(~refused) if refused.any() else frame

    def secret(self) -> bytes:
        """What marks are keyed with; never to be shown."""
        return self._key()

    def _key(self) -> bytes:
        try:
            return self._file.read_bytes()
        except FileNotFoundError:
            pass
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        with fresh.open("wb") as handle:
            fresh.chmod(0o600)
            handle.write(secrets.token_bytes(32))
            handle.flush()
            os.fsync(handle.fileno())
        try:
            os.link(fresh, self._file)  # the first of two wins
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
        return self._file.read_bytes()

    def _writing(self) -> AbstractContextManager[Connection]:
        return writing(self._engine, "the list of the forgotten", lock=forgotten.name)

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self._engine, "the list of the forgotten")
