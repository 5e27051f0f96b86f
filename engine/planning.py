"""The daily cycle by itself: plans made on schedule, each step recorded, touches let go or held back.

A plan goes on from its last whole step, so one that was killed comes out the same; its touches are reserved
in one step that replaces what an earlier try had reserved.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

from engine.approval import needs_approval
from engine.cycle import Made, plan, train
from engine.day import Progress
from engine.outbox import change_task, enqueue
from engine.plan_steps import Steps, Watch
from engine.plan_work import being_made
from engine.publish import read_plan
from engine.replan import Again
from engine.wiring import Workspace
from insight.api import Schedule, firings
from kernel.errors import BadInput, GrowthError, NotFound, Stale
from planner.api import Planning
from storage.plan_runs import APPROVED, HELD, RUNNING
from storage.runner_lock import RunnerLock

_log = logging.getLogger(__name__)
#: who asked for a plan, and what has become of a run that was killed
SCHEDULE, INTERRUPTED = "schedule", "interrupted"
#: seconds between looks at the clock
_LOOK = 5.0
#: PostgreSQL's advisory lock of whoever plans
_LOCK = 0x67726F7774680002
#: days of plans that are caught up with at most
_MOST_DAYS = 31


def plan_recorded(
    workspace: Workspace,
    day: date,
    out: Path | None,
    progress: Progress,
    reason: str,
    *,
    watch: Watch = lambda _: None,
    again: Again | None = None,
) -> Made:
    """The day's plan, with each of its steps, their rows and seconds in the register while they run.

    `watch` is told the same; `again`: made anew around what has gone out. On schedule late events are waited
    for, as long as `planning` says.
    """
    number: int | None = None

    def told(steps: list[dict[str, Any]]) -> None:
        nonlocal number
        if number is None:  # not before nobody else makes this plan
            number = workspace.plan_runs.begin(day, reason, workspace.clock.now())
        workspace.plan_runs.step(number, steps, workspace.clock.now())
        watch(steps)

    steps, why = Steps(progress, watch=told, now=workspace.clock.now), "it was interrupted"
    try:
        made = plan(workspace, day, out, steps, patient=reason == SCHEDULE, again=again)
        why = ""
        return made
    except GrowthError as error:
        why = str(error)
        raise
    finally:
        if number is not None:
            steps.stop()
            workspace.plan_runs.end(number, steps.told, workspace.clock.now(), why)


def decide(workspace: Workspace, day: date, state: str, *, who: str, why: str) -> dict[str, Any]:
    """Approves or holds the plan of a day: its touches go out, or stay where they are; as `standing`.

    Holding pauses what is on its way already, at once. Raises NotFound for a day without a plan.
    """
    folder, version = _newest(workspace, day)
    if state not in (APPROVED, HELD):
        raise NotFound("decision", state, (APPROVED, HELD))
    now = workspace.clock.now()
    workspace.plan_runs.decide(day, version, state, at=now, who=who, why=why)
    if state == APPROVED:
        enqueue(workspace, folder)
    for each in workspace.outbox.tasks(day.isoformat()):
        try:
            change_task(workspace, "resume" if state == APPROVED else "pause", each["task"], day.isoformat())
        except (BadInput, Stale):
            continue  # it is over, or stands so already
    return standing(workspace, day)


def standing(workspace: Workspace, day: date) -> dict[str, Any]:
    """`{date, version, state, making, warnings, decisions, runs}`.

    `state` is approved, held or waiting; making, failed or interrupted while there is no plan yet. `making`:
    whether one is made just now; `runs`: the newest first, with their steps. Raises NotFound for a day that
    nobody ever planned.
    """
    making, runs = being_made(workspace, day), workspace.plan_runs.newest(day)
    for run in runs:
        if run["state"] == RUNNING and not making:
            run["state"] = INTERRUPTED
    told: dict[str, Any] = {"date": day.isoformat(), "version": None}
    if workspace.plans.find(day) is None and runs:
        told |= {"state": "making" if making else runs[0]["state"], "warnings": []}
    else:
        folder, version = _newest(workspace, day)
        said = workspace.plan_runs.decision(day, version)
        waiting = needs_approval(workspace) and said is None
        state = "waiting" if waiting else said or APPROVED
        told |= {"version": version, "state": state, "warnings": read_plan(folder).get("warnings", [])}
    return {**told, "making": making, "decisions": workspace.plan_runs.decisions(day), "runs": runs}


def _newest(workspace: Workspace, day: date) -> tuple[Path, int]:
    """The folder and the version of a day's plan."""
    entry = workspace.plans.find(day)
    if entry is None:
        known = [each.date for each in workspace.plans.newest_of_each_day()]
        raise NotFound("plan", day, known, field="date")
    folder = Path(entry.folder)
    return folder, int(read_plan(folder)["version"])


def due_days(workspace: Workspace, after: datetime, now: datetime) -> list[date]:
    """Days whose plans are due since `after`, by the schedule and its rule for those that were missed."""
    rhythm = workspace.definitions().one(Planning)
    if rhythm is None:
        return []
    schedule = Schedule(cron=rhythm.cron, catch_up=rhythm.catch_up)
    zone = workspace.settings.zone
    found = firings(schedule, zone, max(after, now - timedelta(days=_MOST_DAYS)), now)
    return list(dict.fromkeys(each.astimezone(zone).date() for each in found))


def learns_on(workspace: Workspace, day: date) -> bool:
    """Whether models are learned anew before the plan of that day."""
    rhythm = workspace.definitions().one(Planning)
    if rhythm is None or rhythm.learn is None:
        return False
    zone = workspace.settings.zone
    begin = datetime(day.year, day.month, day.day, tzinfo=zone)
    schedule = Schedule(cron=rhythm.learn, catch_up="all")
    instant = timedelta(microseconds=1)
    return bool(firings(schedule, zone, begin - instant, begin + timedelta(days=1) - instant))


def make_due(workspace: Workspace, days: Sequence[date], progress: Progress) -> None:
    """Plans these days one after the other; a day that cannot be planned is told, and the next is tried."""
    for day in days:
        try:
            if learns_on(workspace, day):
                train(workspace, day, progress)
            plan_recorded(workspace, day, None, progress, SCHEDULE)
        except GrowthError as error:
            _log.warning("the plan of %s was not made: %s", day, error)


_CHILD = """
import sys
from datetime import date
from pathlib import Path
from engine.planning import make_due
from engine.wiring import open_workspace
make_due(open_workspace(Path(sys.argv[1])), [date.fromisoformat(day) for day in sys.argv[2:]], lambda _: None)
"""


@contextmanager
def planning(workspace: Workspace) -> Iterator[None]:
    """Makes the plans that are due, each in a process of its own, in one process of all that serve."""
    ended = Event()

    def keep() -> None:
        lock = RunnerLock(workspace.database, workspace.root / "var" / "planning.lock", _LOCK)
        since = _mark(workspace)
        while not ended.wait(_LOOK):
            try:
                if not lock.take():
                    continue
                since, now = max(since, _mark(workspace)), workspace.clock.now()
                if days := due_days(workspace, since, now):
                    told = [each.isoformat() for each in days]
                    words = [sys.executable, "-c", _CHILD, str(workspace.root), *told]
                    child = subprocess.Popen(words)  # noqa: S603  our own program
                    while child.poll() is None and not ended.wait(0.5):
                        pass
                    if child.poll() is None:
                        child.terminate()
                        child.wait(30)
                        return
                since = now
                _mark(workspace, now)
            except GrowthError as error:
                _log.warning("plans are not made: %s", error)

    keeper = Thread(target=keep, name="planning", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join(60)


def _mark(workspace: Workspace, at: datetime | None = None) -> datetime:
    """Until when schedules were seen to; kept, so that what was missed while nothing ran is known."""
    file = workspace.root / "var" / "planned_until"
    if at is None:
        if not file.exists():
            return workspace.clock.now()
        return datetime.fromisoformat(file.read_text(encoding="utf-8"))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(at.isoformat(), encoding="utf-8")
    return at
