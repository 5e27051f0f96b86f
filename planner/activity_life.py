"""The life of an activity: draft → ready → running → completed → reviewed, with paused and cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from kernel.errors import BadInput


class State(StrEnum):
    """Where an activity stands."""

    DRAFT = "draft"  # being written
    READY = "ready"  # checked, waiting for its start
    RUNNING = "running"
    PAUSED = "paused"  # nobody registers, nothing counts, nothing is given
    COMPLETED = "completed"  # results stand, rewards for ranks are given
    REVIEWED = "reviewed"  # a person has read the post-mortem
    CANCELLED = "cancelled"


#: state → those that it may become
MOVES: Mapping[State, frozenset[State]] = {
    State.DRAFT: frozenset({State.READY, State.CANCELLED}),
    State.READY: frozenset({State.DRAFT, State.RUNNING, State.CANCELLED}),
    State.RUNNING: frozenset({State.PAUSED, State.COMPLETED, State.CANCELLED}),
    State.PAUSED: frozenset({State.RUNNING, State.COMPLETED, State.CANCELLED}),
    State.COMPLETED: frozenset({State.REVIEWED}),
    State.REVIEWED: frozenset(),
    State.CANCELLED: frozenset(),
}


def check_move(name: str, now: State, to: State) -> None:
    """Raises BadInput for a move that there is not, saying which there are."""
    if to not in MOVES[now]:
        legal = ", ".join(sorted(MOVES[now])) or "nothing"
        problem = f"is not what it can become: it is {now}, and can become {legal}"
        raise BadInput(problem, where=f"activity {name}", field="to", value=str(to))


def due(state: State, start: datetime, end: datetime, now: datetime) -> State | None:
    """What the clock makes of it: ready begins at `start`, running and paused are over at `end`."""
    if state is State.READY and now >= start:
        return State.RUNNING
    if state in (State.RUNNING, State.PAUSED) and now >= end:
        return State.COMPLETED
    return None
