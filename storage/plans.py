"""The register of plans: one row a date and version, so that a plan is made once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import JSON, Column, Date, Engine, Integer, String, Table, UniqueConstraint, select
from sqlalchemy.types import DateTime

from storage.database import reading, writing
from storage.tables import metadata

plans = Table(
    "plans",
    metadata,
    Column("date", Date, primary_key=True),
    # counted from 1 for each date
    Column("version", Integer, primary_key=True),
    # of everything that the plan depends on
    Column("inputs", String(16), nullable=False),
    Column("made_at", DateTime(timezone=True), nullable=False),
    Column("folder", String(1000), nullable=False),
    Column("totals", JSON, nullable=False),
    UniqueConstraint("date", "inputs"),
)
_WHAT = "the register of plans"


@dataclass(frozen=True, kw_only=True)
class PlanEntry:
    date: date
    version: int
    #: fingerprint of everything that the plan depends on
    inputs: str
    #: where its files lie
    folder: str
    totals: dict[str, Any]


class PlanRegister:
    """Plans made. A plan is registered after its files are in place, so an entry is always whole. Every
    method raises Unavailable when the database does not answer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, day: date, inputs: str | None = None) -> PlanEntry | None:
        """The newest plan of that date, or the one that was made from these inputs."""
        query = select(plans).where(plans.c.date == day)
        if inputs is not None:
            query = query.where(plans.c.inputs == inputs)
        with reading(self._engine, _WHAT) as connection:
            row = connection.execute(query.order_by(plans.c.version.desc()).limit(1)).first()
        return None if row is None else _entry(row)

    def folders(self) -> list[str]:
        """Where the files of all plans lie, each folder once."""
        with reading(self._engine, _WHAT) as connection:
            return sorted(set(connection.execute(select(plans.c.folder)).scalars()))

    def newest_of_each_day(self) -> list[PlanEntry]:
        """The newest version of every date, earliest first."""
        query = select(plans).order_by(plans.c.date, plans.c.version)
        with reading(self._engine, _WHAT) as connection:
            return list({row.date: _entry(row) for row in connection.execute(query)}.values())

    def newest(self, before: date | None = None) -> PlanEntry | None:
        """The newest version of the latest date, or of the latest before that one."""
        query = select(plans).order_by(plans.c.date.desc(), plans.c.version.desc()).limit(1)
        if before is not None:
            query = query.where(plans.c.date < before)
        with reading(self._engine, _WHAT) as connection:
            row = connection.execute(query).first()
        return None if row is None else _entry(row)

    def moved(self, day: date, version: int, folder: str) -> None:
        """The files of an earlier version lie somewhere else now."""
        mine = (plans.c.date == day) & (plans.c.version == version)
        with writing(self._engine, _WHAT) as connection:
            connection.execute(plans.update().where(mine).values(folder=folder))

    def version(self, day: date, version: int) -> PlanEntry | None:
        mine = (plans.c.date == day) & (plans.c.version == version)
        with reading(self._engine, _WHAT) as connection:
            row = connection.execute(select(plans).where(mine)).first()
        return None if row is None else _entry(row)

    def add(self, day: date, inputs: str, folder: str, totals: dict[str, Any], at: datetime) -> PlanEntry:
        """Registers the plan; the same date and inputs again change nothing but the folder."""
        with writing(self._engine, _WHAT, lock="plans") as connection:
            mine = (plans.c.date == day) & (plans.c.inputs == inputs)
            if connection.execute(select(plans.c.version).where(mine)).first() is not None:
                connection.execute(plans.update().where(mine).values(folder=folder, totals=totals))
            else:
                last = connection.execute(
                    select(plans.c.version)
                    .where(plans.c.date == day)
                    .order_by(plans.c.version.desc())
                    .limit(1)
                ).scalar()
                connection.execute(
                    plans.insert().values(
                        date=day,
                        version=(last or 0) + 1,
                        inputs=inputs,
                        made_at=at.astimezone(UTC),
                        folder=folder,
                        totals=totals,
                    )
                )
            return _entry(connection.execute(select(plans).where(mine)).one())


def _entry(row: Any) -> PlanEntry:
    return PlanEntry(
        date=row.date, version=row.version, inputs=row.inputs, folder=row.folder, totals=row.totals
    )
