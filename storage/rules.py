"""Rules in SQL: how each stands, what it did day by day, and what it changed by itself, with the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
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
    and_,
    delete,
    insert,
    select,
    update,
)

from kernel.clock import instant, micros
from kernel.errors import BadInput, NotFound
from storage.database import reading, writing
from storage.tables import metadata

_BIG = BigInteger().with_variant(Integer, "sqlite")
#: instants are whole microseconds since 1970 in UTC
rule_states = Table(
    "rule_states",
    metadata,
    Column("rule", String(100), primary_key=True),
    # on, asking (it fires no more until a person answers) or off
    Column("state", String(10), nullable=False),
    # variant → share of users
    Column("shares", JSON, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
)
#: one a rule and day: the last plan of that day wins
rule_runs = Table(
    "rule_runs",
    metadata,
    Column("rule", String(100), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("plan", String(16), nullable=False),
    Column("shares", JSON, nullable=False),
    # what it came to: users, candidates, assigned, expected cost and gain, each a variant too
    Column("told", JSON, nullable=False),
    Column("at", BigInteger, nullable=False),
)
rule_changes = Table(
    "rule_changes",
    metadata,
    Column("number", _BIG, primary_key=True, autoincrement=True),
    Column("rule", String(100), nullable=False, index=True),
    Column("at", BigInteger, nullable=False),
    Column("who", String(100), nullable=False),
    # state and shares before and after
    Column("before", JSON, nullable=False),
    Column("after", JSON, nullable=False),
    Column("evidence", JSON, nullable=False),
    # number of the change that took it back; null: it stands
    Column("undone_by", BigInteger, nullable=True),
)
ON, ASKING, OFF = "on", "asking", "off"


@dataclass(frozen=True, kw_only=True)
class RuleState:
    state: str = ON
    #: variant → share; empty: all alike
    shares: Mapping[str, float]


class RuleStore:
    """Every method raises Unavailable when the database does not answer, with nothing half done."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def states(self) -> dict[str, RuleState]:
        """Rule → how it stands, of those that were ever changed."""
        with self._reading() as connection:
            rows = connection.execute(select(rule_states)).all()
        return {each.rule: RuleState(state=each.state, shares=each.shares) for each in rows}

    def change(
        self, rule: str, state: RuleState, *, at: datetime, who: str, evidence: Mapping[str, Any]
    ) -> int | None:
        """The number of the change; None when it stands so already."""
        with self._writing() as connection:
            return _change(connection, rule, state, at, who, dict(evidence))

    def undo(self, number: int, *, at: datetime, who: str) -> str:
        """Takes a change back; the rule. Raises NotFound, BadInput when it is undone or not the newest."""
        with self._writing() as connection:
            row = connection.execute(select(rule_changes).where(rule_changes.c.number == number)).first()
            if row is None:
                raise NotFound("change", number, ())
            mine = select(rule_changes).where(
                and_(rule_changes.c.rule == row.rule, rule_changes.c.undone_by.is_(None))
            )
            newest = connection.execute(mine.order_by(rule_changes.c.number.desc())).first()
            later = newest is not None and newest.number != number
            if row.undone_by is not None or later:
                problem = "is undone" if row.undone_by is not None else "is not the newest of its rule"
                raise BadInput(problem, where=f"rule {row.rule}", field="change", value=number)
            before = RuleState(state=row.before["state"], shares=row.before["shares"])
            done = _change(connection, row.rule, before, at, who, {"undoes": number})
            numbers = [number] if done is None else [number, done]
            both = rule_changes.c.number.in_(numbers)
            connection.execute(update(rule_changes).where(both).values(undone_by=done or number))
            return str(row.rule)

    def changes(self, rule: str | None = None) -> list[dict[str, Any]]:
        """`{number, rule, at, who, before, after, evidence, undone}`, the newest first."""
        query = select(rule_changes).order_by(rule_changes.c.number.desc())
        if rule is not None:
            query = query.where(rule_changes.c.rule == rule)
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return [
            {
                "number": each.number,
                "rule": each.rule,
                "at": instant(each.at).isoformat(),
                "who": each.who,
                "before": each.before,
                "after": each.after,
                "evidence": each.evidence,
                "undone": each.undone_by is not None,
            }
            for each in rows
        ]

    def ran(self, day: date, plan: str, runs: Mapping[str, tuple[Mapping[str, float], dict[str, Any]]],
            at: datetime) -> None:  # fmt: skip
        """rule → (shares, what it came to), of the plan that stands for that day; what an earlier plan of the
        day had noted goes."""
        with self._writing() as connection:
            connection.execute(delete(rule_runs).where(rule_runs.c.day == day))
            rows = [
                {
                    "rule": rule,
                    "day": day,
                    "plan": plan,
                    "shares": dict(shares),
                    "told": told,
                    "at": micros(at),
                }
                for rule, (shares, told) in sorted(runs.items())
            ]
            if rows:
                connection.execute(insert(rule_runs), rows)

    def runs(self, rule: str) -> list[dict[str, Any]]:
        """`{day, plan, shares, told…}`, the newest first."""
        query = select(rule_runs).where(rule_runs.c.rule == rule).order_by(rule_runs.c.day.desc())
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return [_run(each) for each in rows]

    def newest(self) -> dict[str, dict[str, Any]]:
        """Rule → the newest of its `runs`, of those that have one."""
        with self._reading() as connection:
            rows = connection.execute(select(rule_runs).order_by(rule_runs.c.day)).all()
        return {row.rule: _run(row) for row in rows}

    def _writing(self) -> AbstractContextManager[Connection]:
        return writing(self._engine, "the register of rules", lock=rule_states.name)

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self._engine, "the register of rules")


def _run(row: Any) -> dict[str, Any]:
    return {"day": row.day.isoformat(), "plan": row.plan, "shares": row.shares, **row.told}


def _change(
    connection: Connection, rule: str, state: RuleState, at: datetime, who: str, evidence: dict[str, Any]
) -> int | None:
    row = connection.execute(select(rule_states).where(rule_states.c.rule == rule)).first()
    before = {"state": row.state if row else ON, "shares": row.shares if row else {}}
    after = {"state": state.state, "shares": dict(state.shares)}
    if before == after:
        return None
    values = {**after, "changed_at": micros(at)}
    if row is None:
        connection.execute(insert(rule_states).values(rule=rule, **values))
    else:
        connection.execute(update(rule_states).where(rule_states.c.rule == rule).values(values))
    noted = insert(rule_changes).values(
        rule=rule, at=micros(at), who=who, before=before, after=after, evidence=evidence, undone_by=None
    )
    key = connection.execute(noted).inserted_primary_key
    return None if key is None else int(key[0])
