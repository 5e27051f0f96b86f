"""The log of merged identities, and memberships as they were before, so that all can be undone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import Boolean, Column, Connection, Engine, Integer, String, Table, Text, func, select
from sqlalchemy.types import DateTime

from kernel.errors import BadInput, NotFound
from storage.database import reading, writing
from storage.tables import metadata

identity_log = Table(
    "identity_log",
    metadata,
    # the version of the identities after this entry
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("action", String(10), nullable=False),
    # users' own ids, as text
    Column("user_id", String(200), nullable=False, index=True),
    Column("into_id", String(200), nullable=False, index=True),
    Column("because", Text, nullable=False),
    Column("done_by", String(100), nullable=False),
    Column("done_at", DateTime(timezone=True), nullable=False),
)
#: memberships of published versions as they were before a merge changed them
identity_memberships = Table(
    "identity_memberships",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("user_id", String(200), primary_key=True),
    Column("member", Boolean, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class IdentityEntry:
    """One thing done to identities."""

    #: counted from 1: the version of the identities after it
    number: int
    action: Literal["merge", "unmerge"]
    user: str
    into: str
    because: str
    by: str
    at: datetime


class IdentityStore:
    """Merges by user id as text. Raises Unavailable when the database does not answer: nothing changed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def merge(self, user: str, into: str, *, because: str, by: str, at: datetime) -> IdentityEntry:
        """`user` is `into` from now on. Raises BadInput when it is merged already, or would be itself."""
        with self._writing() as connection:
            merged = _merged(connection)
            if user in merged:
                problem = f"is merged into {merged[user]!r} already; unmerge it first"
                raise BadInput(problem, field="FROM", value=user)
            end = into
            while end in merged:
                end = merged[end]
            if end == user:
                raise BadInput(f"would be merged into itself by {into!r}", field="FROM", value=user)
            return _add(connection, "merge", user, into, because, by, at)

    def unmerge(self, user: str, *, because: str, by: str, at: datetime) -> IdentityEntry:
        """Takes the merge of `user` back. Raises NotFound when there is none."""
        with self._writing() as connection:
            merged = _merged(connection)
            if user not in merged:
                raise NotFound("merged user", user, merged, field="FROM")
            return _add(connection, "unmerge", user, merged[user], because, by, at)

    def merged(self) -> dict[str, str]:
        """User → whom that user is merged into, as it stands."""
        with self._reading() as connection:
            return _merged(connection)

    def version(self) -> int:
        """Number of the last entry; 0 before the first."""
        with self._reading() as connection:
            return connection.execute(select(func.max(identity_log.c.number))).scalar() or 0

    def log(self) -> list[IdentityEntry]:
        """Everything that was done, the oldest first."""
        with self._reading() as connection:
            rows = connection.execute(select(identity_log).order_by(identity_log.c.number))
            return [
                IdentityEntry(
                    number=row.number,
                    action=row.action,
                    user=row.user_id,
                    into=row.into_id,
                    because=row.because,
                    by=row.done_by,
                    at=row.done_at.replace(tzinfo=row.done_at.tzinfo or UTC),
                )
                for row in rows
            ]

    def before(self) -> dict[tuple[str, int], dict[str, bool]]:
        """(group, version) → user → membership before any merge, of all that a merge has changed."""
        found: dict[tuple[str, int], dict[str, bool]] = {}
        with self._reading() as connection:
            for row in connection.execute(select(identity_memberships)):
                found.setdefault((row.name, row.version), {})[row.user_id] = row.member
        return found

    def remember(self, name: str, version: int, members: Mapping[str, bool]) -> None:
        """Memberships before a merge; what is remembered already stays."""
        with self._writing() as connection:
            mine = (identity_memberships.c.name == name) & (identity_memberships.c.version == version)
            known = set(connection.execute(select(identity_memberships.c.user_id).where(mine)).scalars())
            rows = [
                {"name": name, "version": version, "user_id": user, "member": member}
                for user, member in members.items()
                if user not in known
            ]
            if rows:
                connection.execute(identity_memberships.insert(), rows)

    def restored(self, name: str, version: int, users: Iterable[str]) -> None:
        """These are again what they were, or the version is gone."""
        mine = (identity_memberships.c.name == name) & (identity_memberships.c.version == version)
        with self._writing() as connection:
            for user in users:
                connection.execute(
                    identity_memberships.delete().where(mine, identity_memberships.c.user_id == user)
                )

    def _writing(self) -> AbstractContextManager[Connection]:
        """One writer at a time; readers go on."""
        return writing(self._engine, "the store of identities", lock="identity_log")

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self._engine, "the store of identities")


def _merged(connection: Connection) -> dict[str, str]:
    merged: dict[str, str] = {}
    for row in connection.execute(select(identity_log).order_by(identity_log.c.number)):
        if row.action == "merge":
            merged[row.user_id] = row.into_id
        else:
            merged.pop(row.user_id, None)
    return merged


def _add(
    connection: Connection,
    action: Literal["merge", "unmerge"],
    user: str,
    into: str,
    because: str,
    by: str,
    at: datetime,
) -> IdentityEntry:
    row = {
        "action": action,
        "user_id": user,
        "into_id": into,
        "because": because,
        "done_by": by,
        "done_at": at.astimezone(UTC),
    }
    number = connection.execute(identity_log.insert().values(row)).inserted_primary_key
    assert number is not None  # noqa: S101  the table has an autoincrement key
    return IdentityEntry(number=number[0], action=action, user=user, into=into, because=because, by=by, at=at)
