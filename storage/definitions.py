"""What operators defined, every version of it: who, when, what, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Engine,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    cast,
    func,
    select,
)
from sqlalchemy.types import DateTime

from kernel.ids import fingerprint
from storage.database import transaction
from storage.tables import metadata

definition_versions = Table(
    "definition_versions",
    metadata,
    Column("kind", String(40), primary_key=True),
    Column("name", String(100), primary_key=True),
    # counted from 1; the highest is in force
    Column("version", Integer, primary_key=True),
    Column("body", JSON, nullable=False),
    Column("fingerprint", String(16), nullable=False),
    Column("applied_at", DateTime(timezone=True), nullable=False),
    Column("applied_by", String(100), nullable=False),
    Column("why", Text, nullable=False, server_default=""),
    UniqueConstraint("kind", "name", "version"),
)


#: body of a version that takes a definition out of force
RETIRED: dict[str, Any] = {"retired": True}


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A definition as it is kept."""

    kind: str
    name: str
    version: int
    #: `RETIRED` when it is no more
    body: dict[str, Any]
    applied_at: datetime
    applied_by: str
    why: str


class DefinitionStore:
    """Definitions by kind and name. Raises the database's own errors when it is down: nothing is applied."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def apply(
        self, bodies: Sequence[tuple[str, str, dict[str, Any]]], *, at: datetime, by: str, why: str = ""
    ) -> list[tuple[str, str, str]]:
        """All (kind, name, body) or none; (kind, name, `created`, `changed`, `unchanged` or `retired`)."""
        outcome = []
        with transaction(self._engine) as connection:
            for kind, name, body in bodies:
                mine = (definition_versions.c.kind == kind) & (definition_versions.c.name == name)
                last = connection.execute(
                    select(definition_versions.c.version, definition_versions.c.fingerprint)
                    .where(mine)
                    .order_by(definition_versions.c.version.desc())
                    .limit(1)
                ).first()
                mark = fingerprint(body)
                if last is not None and last.fingerprint == mark:
                    outcome.append((kind, name, "unchanged"))
                    continue
                connection.execute(
                    definition_versions.insert().values(
                        kind=kind,
                        name=name,
                        version=last.version + 1 if last else 1,
                        body=body,
                        fingerprint=mark,
                        applied_at=at.astimezone(UTC),
                        applied_by=by,
                        why=why,
                    )
                )
                gone = last is None or last.fingerprint == fingerprint(RETIRED)
                done = "retired" if body == RETIRED else "created" if gone else "changed"
                outcome.append((kind, name, done))
        return outcome

    def stamp(self) -> tuple[object, ...]:
        """The same as long as nothing is applied, retired or redacted: what was read then stands."""
        c = definition_versions.c
        query = select(func.count(), func.max(c.applied_at), func.sum(func.length(cast(c.body, Text))))
        with self._engine.connect() as connection:
            return tuple(connection.execute(query).one())

    def current(self, kind: str | None = None) -> list[Stored]:
        """The versions in force, by kind and name."""
        newest = (
            select(
                definition_versions.c.kind,
                definition_versions.c.name,
                func.max(definition_versions.c.version).label("version"),
            )
            .group_by(definition_versions.c.kind, definition_versions.c.name)
            .subquery()
        )
        query = select(definition_versions).join(
            newest,
            (definition_versions.c.kind == newest.c.kind)
            & (definition_versions.c.name == newest.c.name)
            & (definition_versions.c.version == newest.c.version),
        )
        if kind is not None:
            query = query.where(definition_versions.c.kind == kind)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(definition_versions.c.kind, definition_versions.c.name))
            return [stored for row in rows if (stored := _stored(row)).body != RETIRED]

    def history(self, kind: str | None = None, name: str | None = None, *, limit: int = 1000) -> list[Stored]:
        """Every version of these, the newest first."""
        c = definition_versions.c
        mine = and_(*([c.kind == kind] if kind else []), *([c.name == name] if name else []), c.version > 0)
        query = select(definition_versions).where(mine)
        newest = query.order_by(c.applied_at.desc(), c.kind, c.name, c.version.desc()).limit(limit)
        with self._engine.connect() as connection:
            return [_stored(row) for row in connection.execute(newest)]


def _stored(row: Any) -> Stored:
    return Stored(
        kind=row.kind,
        name=row.name,
        version=row.version,
        body=row.body,
        applied_at=row.applied_at.replace(tzinfo=row.applied_at.tzinfo or UTC),
        applied_by=row.applied_by,
        why=row.why,
    )
