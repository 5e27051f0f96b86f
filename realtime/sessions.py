"""Sessions as logged: the decisions of one visit in order, each with what it brought at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kernel.errors import BadInput
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


def sessions_of(
    log: Iterable[tuple[str | None, Decision, Sequence[Action], float]], *, idle: timedelta = IDLE
) -> list[Session]:
    """(session id, decision, its actions, its reward) in any order → sessions by their first decision.

    Decisions without a session, or that no policy made, are left out. The moment serves as the stage
    where the context names none. A session id that comes back after `idle` starts a new session.
    """
    kept = [
        (name, decision, actions, reward)
        for name, decision, actions, reward in log
        if name is not None and decision.policy != NO_POLICY
    ]
    kept.sort(key=lambda row: (row[0], row[1].decided_at, row[1].decision_id))
    begun: list[tuple[datetime, list[SessionStep]]] = []
    last: tuple[str, datetime] | None = None
    for name, decision, actions, reward in kept:
        if last is None or last[0] != name or decision.decided_at - last[1] > idle:
            begun.append((decision.decided_at, []))
        last = (name, decision.decided_at)
        steps = begun[-1][1]
        steps.append(
            SessionStep(
                context={**placed({}, stage=decision.moment, step=len(steps)), **decision.context},
                actions=tuple(priced(each, decision.prices) for each in actions),
                chosen=decision.actions.index(decision.action),
                reward=reward,
            )
        )
    return [tuple(steps) for _at, steps in sorted(begun, key=lambda each: each[0])]
