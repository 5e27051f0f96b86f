"""Firings of rules by themselves: each once, whatever is killed, and however many work at them.

A firing is claimed in the transaction that moves the clock of all rules; those that are claimed together are
one run. A run that was interrupted is found here, and worked out again from its own claim.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
    String,
    Table,
    Text,
    and_,
    bindparam,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from kernel.clock import instant, micros
from storage.database import chunks, reading, writing
from storage.tables import metadata

#: instants are whole microseconds since 1970 in UTC
rule_firings = Table(
    "rule_firings",
    metadata,
    Column("rule", String(100), primary_key=True),
    # the instant of its schedule
    Column("at", BigInteger, primary_key=True),
    # the day within whose limits it is
    Column("day", Date, nullable=False, index=True),
    # those that compete in one allocation
    Column("run", String(30), nullable=False, index=True),
    # variant → share of users, when it was claimed
    Column("shares", JSON, nullable=False),
    # claimed, waiting (for the day's plan to be approved), done or failed
    Column("state", String(10), nullable=False, index=True),
    # what it came to; null until that is known
    Column("told", JSON, nullable=True),
    Column("why", Text, nullable=False),
    Column("claimed", BigInteger, nullable=False),
    # when its touches were in the outbox, or it failed; null until then
    Column("ended", BigInteger, nullable=True),
)
#: until when the schedules of all rules were looked at
rule_clock = Table(
    "rule_clock",
    metadata,
    Column("name", String(10), primary_key=True),
    Column("until", BigInteger, nullable=False),
)
CLAIMED, WAITING, DONE, FAILED = "claimed", "waiting", "done", "failed"
_CLOCK = "rules"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One firing of one rule."""

    rule: str
    at: datetime
    #: variant → share of users
    shares: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Firings that compete in one allocation."""

    run: str
    day: date
    #: the latest of its firings: what its audiences are as of
    at: datetime
    state: str
    claims: tuple[Claim, ...]


class RuleFirings:
    """Every method raises Unavailable when the database does not answer, with nothing half done."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def until(self) -> datetime | None:
        """Until when schedules were looked at; None: never yet."""
        with self._reading() as connection:
            found = connection.execute(select(rule_clock.c.until)).scalar()
        return None if found is None else instant(found)

    def claim(self, claims: Sequence[Claim], *, day: date, now: datetime) -> Run | None:
        """Those of them that nobody has claimed before, as one run; and the clock stands at `now`.
        None: there is none left."""
        with self._writing() as connection:
            self._set_clock(connection, now)
            known = set[tuple[str, int]]()
            for some in chunks(sorted({each.rule for each in claims})):
                rows = connection.execute(
                    select(rule_firings.c.rule, rule_firings.c.at).where(rule_firings.c.rule.in_(some))
                )
                known |= {(row.rule, row.at) for row in rows}
            fresh = [each for each in claims if (each.rule, micros(each.at)) not in known]
            if not fresh:
                return None
            at = max(each.at for each in fresh)
            name = _name(connection, at)
            rows_ = [
                {
                    "rule": each.rule,
                    "at": micros(each.at),
                    "day": day,
                    "run": name,
                    "shares": dict(each.shares),
                    "state": CLAIMED,
                    "told": None,
                    "why": "",
                    "claimed": micros(now),
                    "ended": None,
                }
                for each in fresh
            ]
            connection.execute(insert(rule_firings), rows_)
        return Run(run=name, day=day, at=at, state=CLAIMED, claims=tuple(fresh))

    def open(self) -> list[Run]:
        """Runs that are not over, the earliest first."""
        mine = rule_firings.c.state.in_((CLAIMED, WAITING))
        with self._reading() as connection:
            rows = connection.execute(select(rule_firings).where(mine).order_by("run", "rule", "at")).all()
        found = dict[str, list[Any]]()
        for row in rows:
            found.setdefault(row.run, []).append(row)
        return [_run(each) for each in found.values()]

    def end(
        self, run: str, state: str, told: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str], *,
        at: datetime,
    ) -> None:  # fmt: skip
        """How the firings of a run stand: rule → what it came to, or why it failed. Again: changes
        nothing."""
        mine = and_(rule_firings.c.run == run, rule_firings.c.ended.is_(None))
        with self._writing() as connection:
            keys = connection.execute(select(rule_firings.c.rule, rule_firings.c.at).where(mine)).all()
            rows = [
                {
                    "_rule": rule,
                    "_at": due,
                    "_state": FAILED if rule in failed else state,
                    "_told": dict(told[rule]) if rule in told else None,
                    "_why": failed.get(rule, ""),
                    "_ended": None if state == WAITING and rule not in failed else micros(at),
                }
                for rule, due in keys
            ]
            one = and_(rule_firings.c.rule == bindparam("_rule"), rule_firings.c.at == bindparam("_at"))
            names = ("state", "told", "why", "ended")
            change = update(rule_firings).where(one).values({name: bindparam(f"_{name}") for name in names})
            if rows:
                connection.execute(change, rows)

    def of(self, rule: str) -> list[dict[str, Any]]:
        """`{at, day, run, state, why, lag, shares, told…}` of each firing, the newest first; `lag` in seconds
        from its instant to the outbox, None until then."""
        query = select(rule_firings).where(rule_firings.c.rule == rule).order_by(rule_firings.c.at.desc())
        with self._reading() as connection:
            return [_told(row) for row in connection.execute(query)]

    def runs_on(self, day: date, *, without: str = "") -> list[str]:
        """Names of the runs of a day whose touches may have been made."""
        mine = and_(rule_firings.c.day == day, rule_firings.c.run != without)
        with self._reading() as connection:
            query = select(rule_firings.c.run).where(mine).distinct().order_by(rule_firings.c.run)
            return list(connection.execute(query).scalars())

    def runs_of(self, rule: str) -> list[tuple[str, datetime]]:
        """(run, instant) of each firing of a rule that did not fail, the earliest first."""
        mine = and_(rule_firings.c.rule == rule, rule_firings.c.state != FAILED)
        query = select(rule_firings.c.run, rule_firings.c.at).where(mine).order_by(rule_firings.c.at)
        with self._reading() as connection:
            return [(row.run, instant(row.at)) for row in connection.execute(query)]

    def newest(self, rules: Collection[str]) -> dict[str, dict[str, Any]]:
        """Rule → its newest firing, of those that have one; as in `of`."""
        c, found = rule_firings.c, dict[str, dict[str, Any]]()
        with self._reading() as connection:
            for some in chunks(sorted(rules)):
                last = select(c.rule, func.max(c.at).label("at")).where(c.rule.in_(some)).group_by(c.rule)
                latest = last.subquery()
                same = and_(c.rule == latest.c.rule, c.at == latest.c.at)
                for row in connection.execute(select(rule_firings).join(latest, same)):
                    found[row.rule] = _told(row)
        return found

    def move_clock(self, now: datetime) -> None:
        """Nothing was due until `now`."""
        with self._writing() as connection:
            self._set_clock(connection, now)

    def start_clock(self, now: datetime) -> None:
        """Firings before are none of ours. Once it stands, changes nothing."""
        with self._writing() as connection:
            if connection.execute(select(rule_clock.c.until)).first() is None:
                self._set_clock(connection, now)

    def _set_clock(self, connection: Connection, now: datetime) -> None:
        make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        statement = make(rule_clock).values(name=_CLOCK, until=micros(now))
        later = rule_clock.c.until < statement.excluded.until
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["name"], set_={"until": statement.excluded.until}, where=later
            )
        )

    def _writing(self) -> AbstractContextManager[Connection]:
        return writing(self._engine, "the register of firings", lock=rule_firings.name)

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self._engine, "the register of firings")


def _name(connection: Connection, at: datetime) -> str:
    """Of a run: its instant, and a number where there are several of one minute."""
    name = f"{at:%Y-%m-%dT%H%MZ}"
    like = rule_firings.c.run.startswith(name, autoescape=True)
    before = connection.execute(select(func.count(rule_firings.c.run.distinct())).where(like)).scalar_one()
    return name if not before else f"{name}-{before + 1}"


def _run(rows: Sequence[Any]) -> Run:
    claims = tuple(Claim(rule=row.rule, at=instant(row.at), shares=row.shares) for row in rows)
    waiting = all(row.state == WAITING for row in rows)
    return Run(
        run=rows[0].run,
        day=rows[0].day,
        at=max(each.at for each in claims),
        state=WAITING if waiting else CLAIMED,
        claims=claims,
    )


def _told(row: Any) -> dict[str, Any]:
    return {
        "at": instant(row.at).isoformat(),
        "day": row.day.isoformat(),
        "run": row.run,
        "state": row.state,
        "why": row.why,
        "lag": None if row.ended is None else (row.ended - row.at) / 1e6,
        "shares": row.shares,
        **(row.told or {}),
    }
