"""Durable runs of the selection: DBOS workflows, one a run, whose steps are rounds of work.

One process at a time is the runner (`storage.runner_lock`); others put their runs into the database and wait
for it. A runner that is killed leaves its workflows to the next one, and its jobs where they were: what had
ended is not done again. DBOS is known in this file only.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from threading import Event, Lock, Thread
from zoneinfo import ZoneInfo

from dbos import DBOS, SetWorkflowID

from engine.selection_pool import Pool
from engine.selection_work import submit, work
from engine.wiring import Workspace
from insight.api import TAG, Schedule, firings, instant_of
from kernel.clock import start_of_day
from kernel.errors import BadInput, GrowthError
from storage.runner_lock import RunnerLock

#: raised when workflows of before cannot be gone on with
VERSION = "1"
#: seconds between two looks at runs that others made, and at schedules
_LOOK, _TICK = 0.5, 15.0
#: days of a backfill at most
_MOST_DAYS = 1000
#: told the name of a run and how many of its jobs have ended, of how many
Watch = Callable[[str, int, int], None]
_log = logging.getLogger(__name__)
_runner: Runner | None = None


@DBOS.workflow(name="growth.selection")
def _selection(run: str) -> None:
    while True:
        seconds = DBOS.run_step({"name": "round"}, _round, run)
        if seconds is None:
            return
        DBOS.sleep(seconds)


def _round(run: str) -> float | None:
    runner = _runner
    if runner is None:
        raise RuntimeError("there is no runner in this process")
    return runner.round(run)


class Runner:
    """Works on runs for as long as it is open. One a process."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        settings = workspace.settings
        self._pool = Pool(settings.workers, settings.memory_bytes)
        self._lock = RunnerLock(workspace.database, workspace.root / "var" / "runner.lock")
        self._started: set[str] = set()
        self._starting = Lock()
        #: a run has ended since old ones were let go of, or it is not known
        self._ended = True

    def open(self) -> bool:
        """Begins to work, first on what an earlier runner left. False: another process is the runner."""
        global _runner
        if _runner is not None:
            raise BadInput("is open in this process already", field="runner")
        if not self._lock.take():
            return False
        _runner = self
        for name in ("dbos", "alembic.runtime.migration"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            DBOS(
                config={
                    "name": "growth",
                    "system_database_url": self._workspace.jobs_url,
                    "application_version": VERSION,
                    "executor_id": "runner",
                    "log_level": "ERROR",
                    "console_log_level": "ERROR",
                    "max_executor_threads": 64,
                }
            )
            DBOS.launch()
        self.start()
        return True

    def close(self) -> None:
        """Stops; what is in the middle is gone on with by the next runner."""
        global _runner
        if _runner is self:
            _runner = None
            DBOS.destroy()
            self._lock.give_back()

    def start(self) -> None:
        """Starts every unfinished run that is not started yet, whoever made it."""
        with self._starting:
            for run in self._workspace.runs.unfinished():
                if run not in self._started:
                    self._started.add(run)
                    with SetWorkflowID(run):
                        DBOS.start_workflow(_selection, run)

    def round(self, run: str) -> float | None:
        seconds = work(self._workspace, run, self._pool)
        self._ended = self._ended or seconds is None
        return seconds

    def let_go(self) -> None:
        """Takes old versions and runs away, once after the last of the runs that were waiting.

        Of a run DBOS's own record goes first: killed in between, the run is there still, and finished.
        """
        space = self._workspace
        if not self._ended or space.runs.unfinished():
            return
        self._ended = False
        now, settings = space.clock.now(), space.settings
        old = space.runs.old(now - timedelta(days=settings.keep_runs))
        if old:
            DBOS.delete_workflows(old)
            space.runs.prune(old)
            with self._starting:
                self._started.difference_update(old)
        younger = timedelta(days=settings.keep_groups)
        gone = space.groups.prune(now=now, newest=settings.keep_versions, younger=younger)
        if old or gone:
            _log.info("let go of %d old versions of groups and of %d old runs", gone, len(old))


def run_selections(
    workspace: Workspace,
    days: list[date],
    keys: list[str] | None,
    *,
    patience: timedelta = timedelta(0),
    watch: Watch = lambda *_: None,
) -> list[str]:
    """One run a day, as of its beginning in the workspace's zone, the earliest first; waits for them all.

    Returns their names. Raises BadInput, NotFound before anything is done.
    """
    reason = "backfill" if len(days) > 1 else "command"
    zone = workspace.settings.zone
    names = [
        submit(workspace, start_of_day(day, zone), keys, reason=reason, patience=patience) for day in days
    ]
    runner = Runner(workspace)
    mine = runner.open()
    try:
        for name in names:
            _wait(workspace, name, runner if mine else None, watch)
        if mine:
            with suppress(GrowthError):  # what was asked for is done; the next run lets go
                runner.let_go()
    finally:
        runner.close()
    return names


def _wait(workspace: Workspace, name: str, runner: Runner | None, watch: Watch) -> None:
    pause = 0.02
    while workspace.runs.find(name).finished_at is None:
        rows = workspace.runs.jobs(name)
        watch(name, sum(row.state not in ("waiting", "running") for row in rows), len(rows))
        time.sleep(pause)
        pause = min(pause * 1.5, _LOOK)
        if runner is None:  # the runner that was there may be gone
            with suppress(GrowthError):
                spare = Runner(workspace)
                if spare.open():
                    try:
                        _wait(workspace, name, spare, watch)
                    finally:
                        spare.close()


def days_between(text: str) -> list[date]:
    """`FROM..TO`, both included. Raises BadInput."""
    first, dots, last = text.partition("..")
    try:
        start, end = date.fromisoformat(first), date.fromisoformat(last)
    except ValueError:
        problem = "is not FROM..TO such as 2017-10-01..2017-10-16"
        raise BadInput(problem, field="--backfill", value=text) from None
    if not dots or end < start:
        raise BadInput("ends before it begins", field="--backfill", value=text)
    if (end - start).days >= _MOST_DAYS:
        raise BadInput(f"is more than {_MOST_DAYS} days", field="--backfill", value=text)
    return [start + timedelta(days=n) for n in range((end - start).days + 1)]


@contextmanager
def scheduling(workspace: Workspace) -> Iterator[None]:
    """The scheduler beside a server: becomes the runner as soon as it may, and fires what is due."""
    stop = Event()
    thread = Thread(target=_serve, args=(workspace, stop), name="scheduler", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=30)


def _serve(workspace: Workspace, stop: Event) -> None:
    runner = Runner(workspace)
    opened, ticked = False, 0.0
    while not stop.wait(_LOOK):
        try:
            opened = opened or runner.open()
            if not opened:
                continue
            if time.monotonic() - ticked >= _TICK or not ticked:
                ticked = time.monotonic()
                fire_due(workspace)
            runner.start()
            runner.let_go()
        except GrowthError as error:
            _log.warning("the scheduler goes on later: %s", error)
        except Exception:  # noqa: BLE001  it must not die of one bad day
            _log.exception("the scheduler goes on later")
    runner.close()


def fire_due(workspace: Workspace) -> list[str]:
    """Makes a run of everything that is due by its schedule. Returns the runs.

    A schedule that is seen for the first time fires from now on. The mark moves after the run is made, and a
    run of the same instant and definitions is one run, so that a kill in between fires once.
    """
    now, zone, runs = workspace.clock.now(), workspace.settings.zone, workspace.runs
    due: dict[datetime, list[str]] = {}
    marks: dict[str, datetime] = {}
    for name, (schedule, keys) in _schedules(workspace, zone).items():
        mark = runs.fired(name)
        if mark is None:
            marks[name] = now
            continue
        fired = firings(schedule, zone, mark, now)
        for at in fired:
            due.setdefault(instant_of(schedule, zone, at), []).extend(keys)
        if fired or now - mark > timedelta(days=1):
            marks[name] = now
    patience = timedelta(seconds=workspace.settings.patience)
    made = [
        submit(workspace, as_of, list(dict.fromkeys(due[as_of])), reason="schedule", patience=patience)
        for as_of in sorted(due)
    ]
    for name, at in marks.items():
        runs.mark_fired(name, at)
    return made


def _schedules(workspace: Workspace, zone: ZoneInfo) -> Mapping[str, tuple[Schedule, list[str]]]:
    """What a schedule says → itself and whose it is."""
    definitions = workspace.definitions()
    found: dict[str, tuple[Schedule, list[str]]] = {}
    owners = [(name, each.schedule) for name, each in definitions.groups.items()]
    owners += [(f"{TAG}{name}", each.schedule) for name, each in definitions.tags.items()]
    for key, schedule in owners:
        if schedule is not None:
            own = schedule.zone or str(zone)
            said = f"{schedule.cron}|{own}|{schedule.catch_up}|{schedule.as_of}"
            found.setdefault(said, (schedule, []))[1].append(key)
    return found
