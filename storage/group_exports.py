"""Which versions of groups were written where."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Column, Engine, Integer, String, Table, and_, select
from sqlalchemy.exc import DBAPIError

from kernel.clock import aware
from kernel.errors import Unavailable
from storage.database import transaction
from storage.tables import metadata

group_exports = Table(
    "group_exports",
    metadata,
    Column("name", String(300), primary_key=True),
    # of the manifest: the newest export there
    Column("address", String(1000), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("count", BigInteger, nullable=False),
    # whole microseconds since 1970 in UTC
    Column("exported_at", BigInteger, nullable=False),
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Export:
    """A group's version in a file or files."""

    name: str
    #: of the manifest
    address: str
    version: int
    count: int
    exported_at: datetime


class GroupExports:
    """Exports in SQL. Raises Unavailable when the database does not answer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def note(self, export: Export) -> None:
        """This is what lies at the address now."""
        mine = and_(group_exports.c.name == export.name, group_exports.c.address == export.address)
        at = (aware(export.exported_at, "exported_at") - _EPOCH) // _MICROSECOND
        row: dict[str, Any] = {**vars(export), "exported_at": at}
        try:
            with transaction(self._engine) as connection:
                connection.execute(group_exports.delete().where(mine))
                connection.execute(group_exports.insert().values(row))
        except DBAPIError as error:
            raise Unavailable(f"the list of exports does not answer: {error.orig}") from error

    def all(self) -> list[Export]:
        """By group, then address."""
        query = select(group_exports).order_by(group_exports.c.name, group_exports.c.address)
        try:
            with self._engine.connect() as connection:
                return [
                    Export(
                        name=row.name,
                        address=row.address,
                        version=row.version,
                        count=row._mapping["count"],
                        exported_at=_EPOCH + row.exported_at * _MICROSECOND,
                    )
                    for row in connection.execute(query)
                ]
        except DBAPIError as error:
            raise Unavailable(f"the list of exports does not answer: {error.orig}") from error
