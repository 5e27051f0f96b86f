"""Activities in SQL: their lives, participants, scores, and rewards that are given once.

What events add is taken up in one transaction with the place in the log that was read to: killed at any
instant, nothing is counted twice and nothing is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    func,
    insert,
    select,
    update,
)

from kernel.clock import instant, micros
from kernel.errors import BadInput, NotFound, Stale
from storage.activity_step import ActivityStep
from storage.database import reading, writing
from storage.tables import metadata

_BIG = BigInteger().with_variant(Integer, "sqlite")
#: instants are whole microseconds since 1970 in UTC
activities = Table(
    "activities",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("state", String(10), nullable=False),
    # the definition, as it was when it became ready
    Column("body", JSON, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    # in the log of events: read to here
    Column("place", BigInteger, nullable=False),
    # how often everything was counted anew
    Column("anew", Integer, nullable=False),
    # registration was closed before its time
    Column("closed", Boolean, nullable=False),
    # contingency → when it fired; reward → the one given in its place
    Column("fired", JSON, nullable=False),
    Column("switched", JSON, nullable=False),
    # periods whose ranks are rewarded
    Column("settled", JSON, nullable=False),
)
activity_moves = Table(
    "activity_moves",
    metadata,
    Column("number", _BIG, primary_key=True, autoincrement=True),
    Column("name", String(100), nullable=False, index=True),
    Column("at", BigInteger, nullable=False),
    Column("state", String(10), nullable=False),
    Column("who", String(100), nullable=False),
    Column("why", Text, nullable=False),
)
activity_participants = Table(
    "activity_participants",
    metadata,
    Column("number", _BIG, primary_key=True, autoincrement=True),
    Column("name", String(100), nullable=False),
    Column("user_id", String(200), nullable=False, index=True),
    Column("at", BigInteger, nullable=False),
    # events in [start, end) count
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    Column("answers", JSON, nullable=False),
    UniqueConstraint("name", "user_id"),
)
activity_scores = Table(
    "activity_scores",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("metric", String(100), primary_key=True),
    Column("period", String(10), primary_key=True),
    Column("user_id", String(200), primary_key=True, index=True),
    Column("value", Float(53), nullable=False),
    # rises with the events that changed it; counted anew it is at most the last event's number
    Column("changed", BigInteger, nullable=False),
)
#: what a distinct metric has seen of a participant
activity_seen = Table(
    "activity_seen",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("metric", String(100), primary_key=True),
    Column("period", String(10), primary_key=True),
    Column("user_id", String(200), primary_key=True, index=True),
    # sixteen digits of its hash
    Column("what", String(16), primary_key=True),
)
activity_rewards = Table(
    "activity_rewards",
    metadata,
    Column("number", _BIG, primary_key=True, autoincrement=True),
    Column("name", String(100), nullable=False),
    # the reward that was earned
    Column("reward", String(100), nullable=False),
    Column("user_id", String(200), nullable=False, index=True),
    Column("period", String(10), nullable=False),
    # the one that was given; null: none, see why
    Column("given", String(100), nullable=True),
    # coupon that it came with; null: none
    Column("code", String(64), nullable=True),
    Column("why", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    UniqueConstraint("name", "reward", "user_id", "period"),
)
_WHAT = "the register of activities"


@dataclass(frozen=True, kw_only=True)
class ActivityRow:
    """Where an activity stands."""

    name: str
    state: str
    body: dict[str, Any]
    start: datetime
    end: datetime
    #: number of the last event that was counted
    place: int
    #: how often everything was counted anew
    anew: int
    closed: bool
    #: contingency → when, ISO
    fired: dict[str, str]
    #: reward → the one given in its place
    switched: dict[str, str]
    #: `PERIOD:KEY` whose ranks are rewarded
    settled: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Participant:
    user_id: str
    at: datetime
    start: datetime
    end: datetime
    answers: dict[str, Any]


class ActivityStore:
    """Every method raises Unavailable when the database does not answer, with nothing half done."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> list[ActivityRow]:
        with self._reading() as connection:
            return [_row(each) for each in connection.execute(select(activities).order_by("name"))]

    def one(self, name: str) -> ActivityRow:
        """Raises NotFound."""
        with self._reading() as connection:
            return _found(connection, name)

    def put(self, name: str, state: str, body: Mapping[str, Any], start: datetime, end: datetime, *,
            place: int, at: datetime, who: str, why: str) -> None:  # fmt: skip
        """A new activity, or a draft as it is written now."""
        values = {
            "state": state,
            "body": dict(body),
            "start": micros(start, "start"),
            "end": micros(end, "end"),
            "place": place,
        }
        with self._writing() as connection:
            same = activities.c.name == name
            if connection.execute(update(activities).where(same).values(values)).rowcount == 0:
                fresh = {"anew": 0, "closed": False, "fired": {}, "switched": {}, "settled": []}
                connection.execute(insert(activities).values(name=name, **values, **fresh))
            _note(connection, name, state, at, who, why)

    def move(self, name: str, was: str, to: str, *, at: datetime, who: str, why: str) -> None:
        """Raises Stale when it is no more what it was."""
        with self._writing() as connection:
            same = and_(activities.c.name == name, activities.c.state == was)
            if connection.execute(update(activities).where(same).values(state=to)).rowcount == 0:
                raise Stale(f"activity {name} is no longer {was}")
            _note(connection, name, to, at, who, why)

    def moves(self, name: str) -> list[dict[str, Any]]:
        """`{at, state, who, why}` from the first."""
        query = select(activity_moves).where(activity_moves.c.name == name).order_by("number")
        with self._reading() as connection:
            return [
                {"at": instant(each.at).isoformat(), "state": each.state, "who": each.who, "why": each.why}
                for each in connection.execute(query)
            ]

    def register(self, name: str, who: Participant, places: int | None) -> bool:
        """Whether the user was not there yet. Raises BadInput when no place is left, Stale when the activity
        does not run or take anybody."""
        mine = activity_participants.c.name == name
        with self._writing() as connection:
            row = _found(connection, name)
            if row.closed or row.state not in ("ready", "running"):
                raise Stale(f"activity {name} takes nobody now: {'closed' if row.closed else row.state}")
            known = and_(mine, activity_participants.c.user_id == who.user_id)
            if connection.execute(select(activity_participants.c.number).where(known)).first() is not None:
                return False
            if places is not None:
                taken = connection.execute(select(func.count()).where(mine)).scalar_one()
                if taken >= places:
                    raise BadInput(
                        "has no place left", where=f"activity {name}", field="places", value=places
                    )
            connection.execute(
                insert(activity_participants).values(
                    name=name,
                    user_id=who.user_id,
                    at=micros(who.at),
                    start=micros(who.start),
                    end=micros(who.end),
                    answers=who.answers,
                )
            )
            return True

    def participant(self, name: str, user_id: str) -> Participant | None:
        mine = and_(activity_participants.c.name == name, activity_participants.c.user_id == user_id)
        with self._reading() as connection:
            row = connection.execute(select(activity_participants).where(mine)).first()
        return None if row is None else _participant(row)

    def participants(self, name: str) -> Iterator[Participant]:
        """In the order in which they came."""
        query = select(activity_participants).where(activity_participants.c.name == name).order_by("number")
        with self._reading() as connection:
            for row in connection.execution_options(yield_per=10_000).execute(query):
                yield _participant(row)

    def count(self, name: str) -> int:
        mine = activity_participants.c.name == name
        with self._reading() as connection:
            return int(connection.execute(select(func.count()).where(mine)).scalar_one())

    def scores(self, name: str, user_id: str) -> dict[str, dict[str, float]]:
        """period → metric → value."""
        mine = and_(activity_scores.c.name == name, activity_scores.c.user_id == user_id)
        told: dict[str, dict[str, float]] = {}
        with self._reading() as connection:
            for each in connection.execute(select(activity_scores).where(mine)):
                told.setdefault(each.period, {})[each.metric] = each.value
        return told

    def board(
        self, name: str, metric: str, period: str, *, after: int | None = None
    ) -> tuple[list[str], list[float], int]:
        """Users and values of a metric in a period, in the order in which they came to them; and the highest
        `changed`. `after`: only those that changed later."""
        c = activity_scores.c
        mine = and_(c.name == name, c.metric == metric, c.period == period)
        if after is not None:
            mine = and_(mine, c.changed > after)
        query = select(c.user_id, c.value, c.changed).where(mine).order_by(c.changed, c.user_id)
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return [each[0] for each in rows], [each[1] for each in rows], rows[-1][2] if rows else (after or 0)

    def totals(self, name: str) -> tuple[dict[str, float], int]:
        """metric → sum over participants, and how many have anything at all."""
        c = activity_scores.c
        mine = and_(c.name == name, c.period == "all")
        with self._reading() as connection:
            sums = connection.execute(
                select(c.metric, func.sum(c.value)).where(mine).group_by(c.metric)
            ).all()
            active = select(func.count(c.user_id.distinct())).where(and_(mine, c.value != 0))
            return dict(tuple(each) for each in sums), int(connection.execute(active).scalar_one())

    def rewards(self, name: str, user_id: str | None = None, *, after: int = 0) -> list[dict[str, Any]]:
        """`{number, reward, user_id, period, given, code, why, at}`, as they were given."""
        c = activity_rewards.c
        mine = and_(c.name == name, c.number > after)
        if user_id is not None:
            mine = and_(mine, c.user_id == user_id)
        with self._reading() as connection:
            rows = connection.execute(select(activity_rewards).where(mine).order_by(c.number)).all()
        return [
            {
                "number": each.number,
                "reward": each.reward,
                "user_id": each.user_id,
                "period": each.period,
                "given": each.given,
                "code": each.code,
                "why": each.why,
                "at": instant(each.at).isoformat(),
            }
            for each in rows
        ]

    def given(self, name: str) -> tuple[dict[str, int], dict[str, int]]:
        """Reward → how often it was earned, and how often it was given."""
        with self._reading() as connection:
            return _given(connection, name)

    @contextmanager
    def step(self, name: str, state: str) -> Iterator[ActivityStep]:
        """One transaction over the activity. Raises Stale when it is not in that state any more."""
        with self._writing() as connection:
            row = _found(connection, name)
            if row.state != state:
                raise Stale(f"activity {name} is {row.state}, no longer {state}")
            step = ActivityStep(connection, row, tables=_TABLES, given=_given(connection, name)[1])
            yield step
            connection.execute(update(activities).where(activities.c.name == name).values(**step.changed()))

    def _writing(self) -> AbstractContextManager[Connection]:
        return writing(self._engine, _WHAT, lock=activities.name)

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self._engine, _WHAT)


_TABLES = {
    "participants": activity_participants,
    "scores": activity_scores,
    "seen": activity_seen,
    "rewards": activity_rewards,
}


def _found(connection: Connection, name: str) -> ActivityRow:
    row = connection.execute(select(activities).where(activities.c.name == name)).first()
    if row is None:
        raise NotFound("activity", name, connection.execute(select(activities.c.name)).scalars())
    return _row(row)


def _row(row: Any) -> ActivityRow:
    told = dict(row._mapping)
    return ActivityRow(
        **{
            **told,
            "start": instant(told["start"]),
            "end": instant(told["end"]),
            "settled": tuple(told["settled"]),
        }
    )


def _participant(row: Any) -> Participant:
    return Participant(
        user_id=row.user_id,
        at=instant(row.at),
        start=instant(row.start),
        end=instant(row.end),
        answers=row.answers,
    )


def _note(connection: Connection, name: str, state: str, at: datetime, who: str, why: str) -> None:
    connection.execute(insert(activity_moves).values(name=name, at=micros(at), state=state, who=who, why=why))


def _given(connection: Connection, name: str) -> tuple[dict[str, int], dict[str, int]]:
    c = activity_rewards.c
    query = select(c.reward, c.given, func.count()).where(c.name == name).group_by(c.reward, c.given)
    earned: dict[str, int] = {}
    given: dict[str, int] = {}
    for reward, gave, times in connection.execute(query):
        earned[reward] = earned.get(reward, 0) + times
        if gave is not None:
            given[gave] = given.get(gave, 0) + times
    return earned, given
