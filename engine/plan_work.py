"""One day's plan at a time, its unfinished work, and what a plan must not see change while it is made."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from time import sleep

from engine.rules import rule_inputs
from engine.wiring import Workspace
from kernel.errors import Stale
from kernel.ids import fingerprint
from storage.plan_work import PlanWork
from storage.runner_lock import RunnerLock

#: PostgreSQL's advisory locks of those who make plans: this and the day's own number
_LOCK = 0x67726F7775000000
#: seconds between tries
_WAIT = 0.1


class Changed(Stale):
    """What the plan follows from has changed while it was made: it is begun anew."""


@contextmanager
def alone(workspace: Workspace, day: date) -> Iterator[None]:
    """Says to whoever asks that this day's plan is being made; ends with the process, however it ends. Waits
    for who makes it already. Raises Unavailable when the database does not answer."""
    lock = _lock(workspace, day)
    while not lock.take():
        sleep(_WAIT)
    try:
        yield
    finally:
        lock.give_back()


def being_made(workspace: Workspace, day: date) -> bool:
    """Whether somebody makes this day's plan just now."""
    lock = _lock(workspace, day)
    if lock.take():
        lock.give_back()
        return False
    return True


def work_of(workspace: Workspace, day: date, inputs: str) -> PlanWork:
    """Where the steps of the plan from these inputs are kept until it is out."""
    return PlanWork(_folder(workspace, day) / inputs, inputs)


def clear_work(workspace: Workspace, day: date) -> None:
    """The plan is out: nothing of it, nor of other tries at the day, is gone on with."""
    shutil.rmtree(_folder(workspace, day), ignore_errors=True)


def clear_all_work(workspace: Workspace) -> None:
    """Of every day. Whoever makes one just now begins anew, or fails and is asked again."""
    for folder in (workspace.root / "var" / "plans").glob("*/"):
        shutil.rmtree(folder, ignore_errors=True)


def watch_for_changes(workspace: Workspace, day: date) -> Callable[[], None]:
    """Raises `Changed` when definitions, rules or who is forgotten are not what they are now."""

    def now() -> str:
        told = [[each.kind, each.name, each.version] for each in workspace.store.current()]
        return fingerprint([told, rule_inputs(workspace, day), sorted(workspace.tombstones.marks())])

    begun = now()

    def check() -> None:
        if now() != begun:
            raise Changed(f"definitions were changed while the plan of {day} was made; make it again")

    return check


def _folder(workspace: Workspace, day: date) -> Path:
    return workspace.root / "var" / "plans" / day.isoformat()


def _lock(workspace: Workspace, day: date) -> RunnerLock:
    file = workspace.root / "var" / "plans" / f"{day}.lock"
    return RunnerLock(workspace.database, file, _LOCK + day.toordinal())
