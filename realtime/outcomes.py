"""What happened after a decision: outcomes join by its id, and each decision is learned from once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from pydantic import AwareDatetime, Field

from kernel.clock import Clock
from kernel.definitions import Frozen
from kernel.errors import BadInput, NotFound
from kernel.learning import Action, Decision
from realtime.decide import NO_POLICY
from realtime.moments import Id
from realtime.policy import Learner
from realtime.ports import DecisionLog

#: how far a caller's clock may be off
SKEW = timedelta(minutes=5)

#: a decision, the action chosen, and its counted outcomes' (name, value) → reward in major units
Reward = Callable[[Decision, Action, Sequence[tuple[str, float]]], float]


def net_value(_decision: Decision, action: Action, outcomes: Sequence[tuple[str, float]]) -> float:
    """Σ value of the outcomes − cost of the action. Nothing happened: minus the cost."""
    return math.fsum(value for _name, value in outcomes) - action.cost


class OutcomeReport(Frozen):
    """Something that happened after a decision."""

    #: unique; a repeated one changes nothing
    outcome_id: Id
    decision_id: Id
    #: what happened, such as `order`
    name: Id
    #: what it is worth, in major units
    value: float = Field(ge=-1e12, le=1e12)
    occurred_at: AwareDatetime


def observe(
    report: OutcomeReport, *, log: DecisionLog, clock: Clock, window: timedelta
) -> Literal["counted", "late", "repeated"]:
    """Keeps an outcome durably. Those in the half-open (decision, decision + window] count.

    `late`: after the window, or the decision was learned from already; kept, and in no reward.
    Raises NotFound for an unknown decision, BadInput for a time before the decision or still to
    come (five minutes of skew are forgiven), Unavailable when the log is down: try again.
    """
    found = log.find(report.decision_id)
    if found is None:
        raise NotFound("decision", report.decision_id, (), field="decision_id")
    decided_at, now = found[0].decided_at, clock.now()
    if report.occurred_at < decided_at - SKEW:
        raise BadInput("is before the decision", field="occurred_at", value=report.occurred_at.isoformat())
    if report.occurred_at > now + SKEW:
        raise BadInput("is still to come", field="occurred_at", value=report.occurred_at.isoformat())
    return log.add_outcome(
        outcome_id=report.outcome_id,
        decision_id=report.decision_id,
        name=report.name,
        value=report.value,
        occurred_at=report.occurred_at,
        received_at=now,
        in_window=report.occurred_at <= decided_at + window,
    )


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What one round of learning did."""

    #: decisions learned from, or passed over because no policy had chosen
    decisions: int
    #: Σ reward of those learned from, in major units
    reward: float
    #: name and version of the policy afterwards
    policy: str


def learn_due(
    policy: Learner,
    *,
    log: DecisionLog,
    clock: Clock,
    window: timedelta,
    grace: timedelta = SKEW,
    reward: Reward = net_value,
    limit: int = 10_000,
) -> Lesson:
    """Learns once from every decision whose window and `grace` (for slow outcomes) are over.

    The marks and the policy's state are kept in one transaction, so a crash at any point loses
    no lesson and learns none twice. The state newest in the log is the one that learns on; it is read
    after the decisions, so that of two learners one is refused. Whatever fails (Stale: another learner
    was first, or an outcome came in between; try again), the policy is as it was before.
    """
    now = clock.now()
    due, saved = log.due(now - window - grace, limit), policy.save()
    lessons: list[tuple[str, float, int]] = []
    learned = 0.0
    try:
        if due:
            restore_newest(policy, log)
        for decision, actions, outcomes in due:
            chosen = decision.actions.index(decision.action)
            gained = reward(decision, actions[chosen], outcomes)
            lessons.append((decision.decision_id, gained, len(outcomes)))
            if decision.policy != NO_POLICY:
                policy.learn(decision.context, actions, chosen, decision.propensity, gained)
                learned += gained
        if lessons:
            log.commit_learning(
                lessons, policy=family(policy.name), version=policy.name, state=policy.save(), at=now
            )
    except BaseException:
        policy.restore(saved)
        raise
    return Lesson(decisions=len(lessons), reward=learned, policy=policy.name)


def restore_newest(policy: Learner, log: DecisionLog) -> bool:
    """The policy as it was last kept; False, and nothing changes, when it never was."""
    state = log.snapshot(family(policy.name))
    if state is None:
        return False
    policy.restore(state)
    return True


def family(name: str) -> str:
    """A policy's name without its version."""
    return name.partition("@")[0]
