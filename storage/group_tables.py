"""Published groups in SQL: the tables, and a row as the version that it stands for."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
)

from kernel.audiences import GroupVersion
from kernel.clock import instant
from storage.tables import metadata

group_versions = Table(
    "group_versions",
    metadata,
    # of the group; `tag:NAME` and `tag:NAME=LABEL` of a tag
    Column("name", String(300), primary_key=True),
    # counted from 1 for each name
    Column("version", Integer, primary_key=True),
    Column("fingerprint", String(16), nullable=False),
    # instants are whole microseconds since 1970 in UTC
    Column("as_of", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("universe", BigInteger, nullable=False),
    Column("sources", JSON, nullable=False),
    Column("members", String(32), nullable=False, index=True),
    Column("calculated_at", BigInteger, nullable=False),
    # true: a static group, worked out once for this fingerprint
    Column("pinned", Boolean, nullable=False),
    Index(None, "name", "as_of", "version"),
)
#: versions that somebody still reads: a run, a plan
group_holds = Table(
    "group_holds",
    metadata,
    Column("name", String(300), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("holder", String(200), primary_key=True),
    ForeignKeyConstraint(["name", "version"], ["group_versions.name", "group_versions.version"]),
)


def version_of(row: Any) -> GroupVersion:
    """A row of `group_versions`."""
    return GroupVersion(
        name=row.name,
        version=row.version,
        fingerprint=row.fingerprint,
        as_of=instant(row.as_of),
        count=row._mapping["count"],  # a row is a tuple, which has a count of its own
        universe=row.universe,
        sources=row.sources,
        members=row.members,
        calculated_at=instant(row.calculated_at),
    )
