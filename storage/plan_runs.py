"""Runs of the daily cycle in SQL: how far each is, what each step took, and who let the plan go out."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Date,
    Engine,
    Integer,
    String,
    Table,
    Text,
    and_,
    insert,
    select,
    update,
)

from kernel.clock import instant, micros
from kernel.errors import NotFound
from storage.database import reading, writing
from storage.tables import metadata

_BIG = BigInteger().with_variant(Integer, "sqlite")
#: instants are whole microseconds since 1970 in UTC
plan_runs = Table(
    "plan_runs",
    metadata,
    Column("number", _BIG, primary_key=True, autoincrement=True),
    Column("day", Date, nullable=False, index=True),
    # command, schedule or api
    Column("reason", String(20), nullable=False),
    # running, done or failed; running with an old `beat_at`: it was killed
    Column("state", String(10), nullable=False),
    Column("began_at", BigInteger, nullable=False),
    Column("beat_at", BigInteger, nullable=False),
    # [{step, seconds}], the last without its seconds while it runs
    Column("steps", JSON, nullable=False),
    Column("why", Text, nullable=False),
)
plan_approvals = Table(
    "plan_approvals",
    metadata,
    Column("number", _BIG, primary_key=True, autoincrement=True),
    Column("day", Date, nullable=False, index=True),
    # of the plan that is meant
    Column("version", Integer, nullable=False),
    # approved or held
    Column("state", String(10), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("who", String(100), nullable=False),
    Column("why", Text, nullable=False),
)
APPROVED, HELD = "approved", "held"
RUNNING, DONE, FAILED = "running", "done", "failed"


class PlanRuns:
    """Every method raises Unavailable when the database does not answer, with nothing half done."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self, day: date, reason: str, at: datetime) -> int:
        """The number of a new run. Those of the day that still say that they run were killed: they failed."""
        killed = and_(plan_runs.c.day == day, plan_runs.c.state == RUNNING)
        with self._writing() as connection:
            connection.execute(update(plan_runs).where(killed).values(state=FAILED, why="it was interrupted"))
            fresh = insert(plan_runs).values(
                day=day,
                reason=reason,
                state=RUNNING,
                began_at=micros(at),
                beat_at=micros(at),
                steps=[],
                why="",
            )
            key = connection.execute(fresh).inserted_primary_key
        if key is None:
            raise NotFound("run", day, ())
        return int(key[0])

    def step(self, number: int, steps: list[dict[str, Any]], at: datetime) -> None:
        self._change(number, steps=steps, beat_at=micros(at))

    def end(self, number: int, steps: list[dict[str, Any]], at: datetime, why: str = "") -> None:
        """Done, or failed with the reason."""
        state = FAILED if why else DONE
        self._change(number, steps=steps, beat_at=micros(at), state=state, why=why)

    def newest(self, day: date | None = None, *, limit: int = 100) -> list[dict[str, Any]]:
        """`{number, day, reason, state, began_at, seconds, steps, why}`, the newest first."""
        query = select(plan_runs).order_by(plan_runs.c.number.desc()).limit(limit)
        if day is not None:
            query = query.where(plan_runs.c.day == day)
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return [
            {
                "number": each.number,
                "day": each.day.isoformat(),
                "reason": each.reason,
                "state": each.state,
                "began_at": instant(each.began_at).isoformat(),
                "seconds": round((each.beat_at - each.began_at) / 1e6, 3),
                "steps": each.steps,
                "why": each.why,
            }
            for each in rows
        ]

    def decide(self, day: date, version: int, state: str, *, at: datetime, who: str, why: str) -> None:
        """A person's word on a version of a day's plan."""
        with self._writing() as connection:
            said = insert(plan_approvals).values(
                day=day, version=version, state=state, at=micros(at), who=who, why=why
            )
            connection.execute(said)

    def decision(self, day: date, version: int) -> str | None:
        """`approved` or `held`; None: nobody has said anything of this version."""
        mine = and_(plan_approvals.c.day == day, plan_approvals.c.version == version)
        query = select(plan_approvals.c.state).where(mine).order_by(plan_approvals.c.number.desc())
        with self._reading() as connection:
            found = connection.execute(query.limit(1)).scalar()
        return None if found is None else str(found)

    def decisions(self, day: date) -> list[dict[str, Any]]:
        """`{version, state, at, who, why}`, the newest first."""
        query = select(plan_approvals).where(plan_approvals.c.day == day)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(plan_approvals.c.number.desc())).all()
        return [
            {
                "version": each.version,
                "state": each.state,
                "at": instant(each.at).isoformat(),
                "who": each.who,
                "why": each.why,
            }
            for each in rows
        ]

    def _change(self, number: int, **values: Any) -> None:
        with self._writing() as connection:
            connection.execute(update(plan_runs).where(plan_runs.c.number == number).values(values))

    def _writing(self) -> AbstractContextManager[Connection]:
        return writing(self._engine, "the register of plans")

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self._engine, "the register of plans")
