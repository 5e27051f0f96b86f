"""What operators defined, every version of it: who, when, what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Column, Engine, Integer, String, Table, UniqueConstraint, func, select
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
    UniqueConstraint("kind", "name", "version"),
)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A definition as it is kept."""

    kind: str
    name: str
    version: int
    body: dict[str, Any]
    applied_at: datetime


class DefinitionStore:
    """Definitions by kind and name. Raises the database's own errors when it is down: nothing is applied."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def apply(
        self, bodies: Sequence[tuple[str, str, dict[str, Any]]], *, at: datetime, by: str
    ) -> list[tuple[str, str, str]]:
        """(kind, name, body) each, all or none. Returns (kind, name, `created` | `changed` | `unchanged`)."""
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
                    )
                )
                outcome.append((kind, name, "changed" if last else "created"))
        return outcome

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
            return [
                Stored(
                    kind=row.kind,
                    name=row.name,
                    version=row.version,
                    body=row.body,
                    applied_at=row.applied_at.replace(tzinfo=row.applied_at.tzinfo or UTC),
                )
                for row in rows
            ]
