"""Sessions as logged: the decisions of one visit in order, each with what it brought at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from kernel.errors import BadInput
from kernel.ids import stable_hash
from kernel.learning import Action, Decision
from realtime.choosing import NO_POLICY, priced

#: names under which a context tells where in its session a decision is made
STAGE, STEP = "session.stage", "session.step"
#: stages of a visit, in the order in which a shop knows them; others may be named freely
STAGES = ("browsing", "basket", "checkout", "leaving")
#: a visit without a decision for so long is over
IDLE = timedelta(minutes=30)


@dataclass(frozen=True, kw_only=True)
class SessionStep:
    """One decision of a session."""

    #: what was known, with the stage and the step's number among it
    context: Mapping[str, Any]
    #: what was allowed, in order, with the prices in their costs
    actions: tuple[Action, ...]
    #: position of what was chosen
    chosen: int
    #: what this decision itself brought, net of its cost, in major units
    reward: float

    def __post_init__(self) -> None:
        if not 0 <= self.chosen < len(self.actions):
            raise BadInput(
                f"is none of the {len(self.actions)} actions",
                where="session",
                field="chosen",
                value=self.chosen,
            )
        if not math.isfinite(self.reward):
            raise BadInput("is not a finite number", where="session", field="reward", value=str(self.reward))


#: the steps of one visit, in order
Session = tuple[SessionStep, ...]


def placed(context: Mapping[str, Any], *, stage: str, step: int) -> dict[str, Any]:
    """A context that tells its place: how a decision is asked for within a session. `step` counts from 0."""
    return {**context, STAGE: stage, STEP: step}


#: session id, a decision, its actions in full, its reward in major units
Logged = tuple[str | None, Decision, Sequence[Action], float]


def sessions_of(log: Iterable[Logged], *, idle: timedelta = IDLE) -> list[Session]:
    """The log in any order → sessions by their first decision.

    Decisions without a session, or that no policy made, are left out. The moment serves as the stage
    where the context names none. A session id that comes back after `idle` starts a new session.
    """
    return [
        tuple(
            SessionStep(
                context={**placed({}, stage=decision.moment, step=place), **decision.context},
                actions=tuple(priced(each, decision.prices) for each in actions),
                chosen=decision.actions.index(decision.action),
                reward=reward,
            )
            for place, (_name, decision, actions, reward) in enumerate(visit)
        )
        for visit in _visits([row for row in log if row[0] is not None], idle)
    ]


def one_each(
    log: Iterable[Logged], *, idle: timedelta = IDLE
) -> list[tuple[Decision, Sequence[Action], float]]:
    """One decision of each session, drawn by the session's name, with what it and the rest of the session
    brought; of those without a session each with its own reward. In order.

    So a policy is judged that gives up something now for more later, and rows are independent, as intervals
    take them to be: decisions of one session are not. What followed is what the logging policy made of it.
    """
    rows: list[tuple[Decision, Sequence[Action], float]] = []
    alone: list[Logged] = []
    named: list[Logged] = []
    for row in log:
        (alone if row[0] is None else named).append(row)
    for _name, decision, actions, reward in alone:
        if decision.policy != NO_POLICY:
            rows.append((decision, actions, reward))
    for visit in _visits(named, idle):
        name, first, *_ = visit[0]
        place = stable_hash("judged", name, first.decision_id) % len(visit)
        brought = math.fsum(reward for *_, reward in visit[place:])
        rows.append((visit[place][1], visit[place][2], brought))
    return sorted(rows, key=lambda row: (row[0].decided_at, row[0].decision_id))


def _visits(log: Iterable[Logged], idle: timedelta) -> list[list[Logged]]:
    """Decisions of policies by visit, in order; visits by their first decision."""
    kept = [row for row in log if row[1].policy != NO_POLICY]
    kept.sort(key=lambda row: (row[0] or "", row[1].decided_at, row[1].decision_id))
    visits: list[list[Logged]] = []
    for row in kept:
        last = visits[-1][-1] if visits else None
        if last is None or last[0] != row[0] or row[1].decided_at - last[1].decided_at > idle:
            visits.append([])
        visits[-1].append(row)
    return sorted(visits, key=lambda visit: visit[0][1].decided_at)
