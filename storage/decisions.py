"""The log of decisions and outcomes in SQL: durable before the answer leaves, each learned from once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Row,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
)
from sqlalchemy.exc import IntegrityError

from kernel.clock import instant, micros
from kernel.errors import NotFound, Stale
from kernel.learning import Action, Decision
from storage.database import reading, writing
from storage.tables import metadata

#: states kept of each policy, the newest ones
KEPT_STATES = 20

#: instants are whole microseconds since 1970 in UTC: exact, and in order, on every database
decisions = Table(
    "decisions",
    metadata,
    Column("decision_id", String(200), primary_key=True),
    Column("idempotency_key", String(200), nullable=True, unique=True),
    Column("session_id", String(200), nullable=True),
    Column("user_id", String(200), nullable=False),
    Column("moment", String(200), nullable=False),
    Column("decided_at", BigInteger, nullable=False, index=True),
    Column("context", JSON, nullable=False),
    Column("actions", JSON, nullable=False),  # in full, in order: features, value, cost, resource
    Column("propensities", JSON, nullable=False),
    Column("action", String(200), nullable=False),
    Column("propensity", Float(53), nullable=False),
    Column("policy", String(200), nullable=False),
    Column("prices", JSON, nullable=False),
    Column("reason", Text, nullable=False),
    Column("degraded", Boolean, nullable=False),
)
outcomes = Table(
    "outcomes",
    metadata,
    Column("outcome_id", String(200), primary_key=True),
    Column("decision_id", ForeignKey("decisions.decision_id"), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("value", Float(53), nullable=False),
    Column("occurred_at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("counted", Boolean, nullable=False),  # false: late, in no reward
)
learned = Table(
    "learned_decisions",
    metadata,
    Column("decision_id", ForeignKey("decisions.decision_id"), primary_key=True),
    Column("policy", String(200), nullable=False),  # name and version after the lesson
    Column("reward", Float(53), nullable=False),
    Column("learned_at", BigInteger, nullable=False),
)
policy_states = Table(
    "policy_states",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("policy", String(200), nullable=False),  # name without version
    Column("version", String(200), nullable=False),  # name and version
    Column("state", LargeBinary, nullable=False),
    Column("saved_at", BigInteger, nullable=False),
    Index(None, "policy", "number"),
)


class SqlDecisionLog:
    """Satisfies `realtime.ports.DecisionLog`. Every method raises Unavailable when the database does
    not answer, with nothing half done."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def append(
        self, decision: Decision, offered: Sequence[Action], *, key: str | None, session_id: str | None
    ) -> Decision:
        """Durable when it returns. Returns the decision that stands: an earlier one under `key`."""
        row = {
            **{column.name: getattr(decision, column.name, None) for column in decisions.columns},
            "decided_at": micros(decision.decided_at, "decided_at"),
            "actions": [action.model_dump() for action in offered],
            "propensities": list(decision.propensities),
            "idempotency_key": key,
            "session_id": session_id,
        }
        try:
            with self._writing() as connection:
                connection.execute(insert(decisions), row)
        except IntegrityError:
            standing = None if key is None else self.by_key(key)
            if standing is None:
                raise Stale(f"decision {decision.decision_id} is in the log already") from None
            return standing
        return decision

    def by_key(self, key: str) -> Decision | None:
        with self._reading() as connection:
            row = connection.execute(select(decisions).where(decisions.c.idempotency_key == key)).first()
        return None if row is None else _decision(row)[0]

    def find(self, decision_id: str) -> tuple[Decision, tuple[Action, ...]] | None:
        with self._reading() as connection:
            row = connection.execute(select(decisions).where(decisions.c.decision_id == decision_id)).first()
        return None if row is None else _decision(row)

    def add_outcome(
        self,
        *,
        outcome_id: str,
        decision_id: str,
        name: str,
        value: float,
        occurred_at: datetime,
        received_at: datetime,
        in_window: bool,
    ) -> Literal["counted", "late", "repeated"]:
        """One transaction with the look at the marks: an outcome that counts is in the reward."""
        try:
            with self._writing() as connection:
                # locks the decision's row, where rows can be locked, against a learner's commit
                decision = select(decisions.c.decision_id).where(decisions.c.decision_id == decision_id)
                if connection.execute(decision.with_for_update()).first() is None:
                    raise NotFound("decision", decision_id, (), field="decision_id")
                marked = connection.execute(
                    select(learned.c.decision_id).where(learned.c.decision_id == decision_id)
                ).first()
                counted = in_window and marked is None
                connection.execute(
                    insert(outcomes).values(
                        outcome_id=outcome_id,
                        decision_id=decision_id,
                        name=name,
                        value=value,
                        occurred_at=micros(occurred_at, "occurred_at"),
                        received_at=micros(received_at, "received_at"),
                        counted=counted,
                    )
                )
        except IntegrityError:
            return "repeated"
        return "counted" if counted else "late"

    def due(
        self, before: datetime, limit: int
    ) -> list[tuple[Decision, tuple[Action, ...], list[tuple[str, float]]]]:
        """Decisions made at or before `before` and not learned from, oldest first, with what counts."""
        oldest = (
            select(decisions)
            .outerjoin(learned)
            .where(learned.c.decision_id.is_(None), decisions.c.decided_at <= micros(before, "before"))
            .order_by(decisions.c.decided_at, decisions.c.decision_id)
            .limit(limit)
        )
        counted: dict[str, list[tuple[str, float]]] = {}
        with self._reading() as connection:
            rows = connection.execute(oldest).all()
            of_these = outcomes.c.decision_id.in_([row.decision_id for row in rows])
            for row in connection.execute(
                select(outcomes).where(of_these, outcomes.c.counted).order_by(outcomes.c.outcome_id)
            ):
                counted.setdefault(row.decision_id, []).append((row.name, row.value))
        return [(*_decision(row), counted.get(row.decision_id, [])) for row in rows]

    def commit_learning(
        self,
        lessons: Iterable[tuple[str, float, int]],
        *,
        policy: str,
        version: str,
        state: bytes,
        at: datetime,
    ) -> None:
        """Marks and state, both or neither. `lessons`: decision id, reward, outcomes counted in it.
        Raises Stale when one was learned from, or got another outcome, meanwhile."""
        now, lessons = micros(at, "at"), list(lessons)
        marks = [
            {"decision_id": decision_id, "policy": version, "reward": reward, "learned_at": now}
            for decision_id, reward, _count in lessons
        ]
        try:
            with self._writing() as connection:
                connection.execute(insert(learned), marks)
                _check_counts(connection, lessons)
                connection.execute(
                    insert(policy_states).values(policy=policy, version=version, state=state, saved_at=now)
                )
                kept = (
                    select(policy_states.c.number)
                    .where(policy_states.c.policy == policy)
                    .order_by(policy_states.c.number.desc())
                    .limit(KEPT_STATES)
                )
                numbers = connection.execute(kept).scalars().all()
                connection.execute(
                    delete(policy_states).where(
                        policy_states.c.policy == policy, policy_states.c.number < min(numbers)
                    )
                )
        except IntegrityError:
            raise Stale("another learner has learned from these decisions meanwhile") from None

    def snapshot(self, policy: str) -> bytes | None:
        newest = (
            select(policy_states.c.state)
            .where(policy_states.c.policy == policy)
            .order_by(policy_states.c.number.desc())
            .limit(1)
        )
        with self._reading() as connection:
            state = connection.execute(newest).scalar_one_or_none()
        return None if state is None else bytes(state)

    def _writing(self) -> AbstractContextManager[Connection]:
        return writing(self._engine, "the decision log")

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self._engine, "the decision log")


def _check_counts(connection: Connection, lessons: Sequence[tuple[str, float, int]]) -> None:
    """Raises Stale when an outcome has joined since the rewards were made."""
    of_these = outcomes.c.decision_id.in_([decision_id for decision_id, _reward, _count in lessons])
    counted = (
        select(outcomes.c.decision_id, func.count().label("number"))
        .where(of_these, outcomes.c.counted)
        .group_by(outcomes.c.decision_id)
    )
    counts = {row.decision_id: row.number for row in connection.execute(counted)}
    for decision_id, _reward, count in lessons:
        if counts.get(decision_id, 0) != count:
            raise Stale(f"an outcome of decision {decision_id} came while it was learned from")


def _decision(row: Row[Any]) -> tuple[Decision, tuple[Action, ...]]:
    actions = tuple(Action.model_validate(action) for action in row.actions)
    decision = Decision(
        decision_id=row.decision_id,
        user_id=row.user_id,
        moment=row.moment,
        decided_at=instant(row.decided_at),
        context=row.context,
        actions=tuple(action.id for action in actions),
        propensities=tuple(row.propensities),
        action=row.action,
        propensity=row.propensity,
        policy=row.policy,
        prices=row.prices,
        reason=row.reason,
        degraded=row.degraded,
    )
    return decision, actions
