"""One at a time spends a day's limits: its plan, and rules that fire by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from time import sleep

from engine.wiring import Workspace
from storage.runner_lock import RunnerLock

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
