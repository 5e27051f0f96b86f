"""Which versions of groups were written where."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Engine, Integer, String, Table, and_, select

from kernel.clock import instant, micros
from storage.database import reading, writing
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
_WHAT = "the list of exports"


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
        at = micros(export.exported_at, "exported_at")
        row: dict[str, Any] = {**vars(export), "exported_at": at}
        with writing(self._engine, _WHAT, lock=group_exports.name) as connection:
            connection.execute(group_exports.delete().where(mine))
            connection.execute(group_exports.insert().values(row))

    def all(self) -> list[Export]:
        """By group, then address."""
        query = select(group_exports).order_by(group_exports.c.name, group_exports.c.address)
        with reading(self._engine, _WHAT) as connection:
            return [
                Export(
                    name=row.name,
                    address=row.address,
                    version=row.version,
                    count=row._mapping["count"],
                    exported_at=instant(row.exported_at),
                )
                for row in connection.execute(query)
            ]
