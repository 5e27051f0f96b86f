"""One at a time spends a day's limits: its plan, and rules that fire by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import wraps
from time import sleep
from typing import Concatenate, ParamSpec, TypeVar

from engine.wiring import Workspace
from storage.runner_lock import RunnerLock

Rest = ParamSpec("Rest")
Answer = TypeVar("Answer")
#: PostgreSQL's advisory lock of the first of all days; each day has its own
_LOCK = 0x67726F7700000000
#: seconds between tries
_WAIT = 0.05


@contextmanager
def deciding(workspace: Workspace, day: date) -> Iterator[None]:
    """Waits for whoever decides about the same day. Killed, it lets go. Raises Unavailable."""
    file = workspace.root / "var" / "deciding" / f"{day}.lock"
    lock = RunnerLock(workspace.database, file, _LOCK + day.toordinal())
    while not lock.take():
        sleep(_WAIT)
    try:
        yield
    finally:
        lock.give_back()


def decides(
    work: Callable[Concatenate[Workspace, date, Rest], Answer],
) -> Callable[Concatenate[Workspace, date, Rest], Answer]:
    """Of what spends the limits of a day: it waits for its turn."""

    @wraps(work)
    def waiting(workspace: Workspace, day: date, /, *rest: Rest.args, **named: Rest.kwargs) -> Answer:
        with deciding(workspace, day):
            return work(workspace, day, *rest, **named)

    return waiting
