"""Rules that fire by themselves, at the instants of their cron: each firing once, within what a day has left.

All that are due together are one run: claimed in one transaction, worked out in one allocation, so that they
compete. A run that was killed is found as it was claimed and worked out again: the ledger replaces what it
had reserved, coupons and the outbox know its touches again. No touch goes out of a day whose plan is held.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from threading import Event, Thread
from typing import Any

from engine.approval import may_go, needs_approval
from engine.day import Progress
from engine.deciding import deciding
from engine.outbox import enqueue
from engine.publish import read_plan
from engine.rule_batch import fire
from engine.rule_given import run_folder
from engine.rule_scores import DayScores
from engine.rules import firing_of
from engine.wiring import Workspace
from insight.api import Schedule, firings
from kernel.clock import parse_instant
from kernel.errors import GrowthError, Unavailable
from planner.api import Rule
from storage.rule_firings import CLAIMED, DONE, FAILED, WAITING, Claim, Run
from storage.rules import ON, RuleState
from storage.runner_lock import RunnerLock

_log = logging.getLogger(__name__)
#: seconds between looks at the clock, at definitions without such rules, and before a worker is begun again
_LOOK, _IDLE, _AGAIN = 1.0, 5.0, 5.0
#: PostgreSQL's advisory lock of whoever fires rules
_LOCK = 0x67726F7774680003
#: how far the clock that is kept may lie behind when nothing is due
_FAR = timedelta(minutes=1)
#: missed firings that are made up for at most
_LONGEST = timedelta(days=31)


class RuleClock:
    """Of one process. Killed at any instant, the next tick of any process goes on."""

    def __init__(self, workspace: Workspace) -> None:
        self._space, self._scores = workspace, DayScores(workspace)
        self._seen: datetime | None = None

    def tick(self, now: datetime | None = None) -> list[dict[str, Any]]:
        """Goes on with runs that were interrupted or wait, then fires what is due; one entry a run that
        moved: `{run, day, state, rules, touches, failed}`. Raises Unavailable, with nothing half done."""
        space, now = self._space, now or self._space.clock.now()
        told = [self._work(run, now) for run in space.rule_firings.open() if self._moves(run)]
        since = space.rule_firings.until()
        if since is None:
            space.rule_firings.start_clock(now)
            return told
        begin = max(since, self._seen or since, now - _LONGEST)
        claims = due_claims(space, begin, now) if begin < now else []
        run = space.rule_firings.claim(claims, day=self._day(now), now=now) if claims else None
        if not claims and now - since > _FAR:
            space.rule_firings.move_clock(now)
        self._seen = max(begin, now)
        return told if run is None else [*told, self._work(run, now)]

    def _day(self, now: datetime) -> date:
        return now.astimezone(self._space.settings.zone).date()

    def _moves(self, run: Run) -> bool:
        return run.state == CLAIMED or touches_may_go(self._space, run.day)

    def _work(self, run: Run, now: datetime) -> dict[str, Any]:
        space, folder = self._space, run_folder(self._space, run.run)
        told, failed = dict[str, Any](), dict[str, str]()
        with deciding(space, run.day):
            if not (folder / "plan.json").exists():  # nor made meanwhile by another process
                found = fire(space, run, self._scores)
                told, failed = dict(found.told), dict(found.failed)
        touches, state = 0, FAILED
        if (folder / "plan.json").exists():
            kept = read_plan(folder)
            told, failed, touches = kept["rules"], kept["failed"], kept["touches"]
            state = DONE if touches_may_go(space, run.day) else WAITING
            if state == DONE and touches:
                try:
                    enqueue(space, folder)
                except Unavailable:
                    raise
                except GrowthError as error:  # a channel or content that does not fit any more
                    state, failed = FAILED, {**dict.fromkeys(told, str(error)), **failed}
        space.rule_firings.end(run.run, state, told, failed, at=space.clock.now())
        for rule, why in failed.items():
            _log.warning("rule %s did not fire in %s: %s", rule, run.run, why)
        return {
            "run": run.run,
            "day": run.day.isoformat(),
            "state": state,
            "rules": len(run.claims),
            "touches": touches,
            "failed": failed,
        }


def fire_due(workspace: Workspace, at: str | None, progress: Progress) -> list[dict[str, Any]]:
    """One tick, as of now or of another time; as `RuleClock.tick`. With a time, and where no rule has ever
    fired by itself, what is due in its minute is fired."""
    now = workspace.clock.now()
    if at is not None:
        now = parse_instant(at, workspace.settings.zone, "--at")
        workspace.rule_firings.start_clock(now - _FAR)
    progress("firing rules")
    return RuleClock(workspace).tick(now)


def due_claims(workspace: Workspace, since: datetime, now: datetime) -> list[Claim]:
    """Firings after `since` up to `now` of rules that are on, by each one's `catch_up`."""
    rules = [each for each in workspace.definitions().of(Rule) if each.fires == "by_itself"]
    if not rules:
        return []
    states, zone = workspace.rules.states(), workspace.settings.zone
    instants: dict[tuple[str, str], list[datetime]] = {}
    claims = []
    for rule in sorted(rules, key=lambda each: each.name):
        state = states.get(rule.name)
        if state is not None and state.state != ON:
            continue
        key = rule.cron, rule.catch_up
        if key not in instants:  # thousands of rules share a few schedules
            instants[key] = firings(Schedule(cron=rule.cron, catch_up=rule.catch_up), zone, since, now)
        shares = dict(firing_of(rule, state or RuleState(shares={})).shares)
        claims += [
            Claim(rule=rule.name, at=at, shares=shares)
            for at in instants[key]
            if rule.live(at.astimezone(zone).date())
        ]
    return claims


def touches_may_go(workspace: Workspace, day: date) -> bool:
    """As the plan of the day; without one, unless somebody has to approve it first."""
    entry = workspace.plans.find(day)
    return may_go(workspace, day, entry.version) if entry else not needs_approval(workspace)


def keep_firing(workspace: Workspace, ended: Event, parent: int | None = None) -> None:
    """Until it is told to end, or its parent is gone; one process of a workspace at a time does."""
    lock = RunnerLock(workspace.database, workspace.root / "var" / "rules.lock", _LOCK)
    clock = RuleClock(workspace)
    while not ended.wait(_LOOK):
        if parent is not None and os.getppid() != parent:
            return
        try:
            if lock.take():
                clock.tick()
        except GrowthError as error:
            _log.warning("rules do not fire: %s", error)


_CHILD = """
import sys
from pathlib import Path
from threading import Event
from engine.rule_firing import keep_firing
from engine.wiring import open_workspace
keep_firing(open_workspace(Path(sys.argv[1])), Event(), int(sys.argv[2]))
"""


@contextmanager
def firing(workspace: Workspace) -> Iterator[None]:
    """A worker of its own beside a server, as soon as there are such rules: what it computes slows no answer
    down. Begun again when it dies."""
    ended = Event()

    def keep() -> None:
        child: subprocess.Popen[bytes] | None = None
        while not ended.wait(_IDLE if child is None else _AGAIN):
            try:
                if child is None and not _any(workspace):
                    continue
            except GrowthError as error:
                _log.warning("rules are not looked at: %s", error)
                continue
            if child is None or child.poll() is not None:
                words: Sequence[str] = (sys.executable, "-c", _CHILD, str(workspace.root), str(os.getpid()))
                child = subprocess.Popen(words)  # noqa: S603  our own program
        if child is not None and child.poll() is None:
            child.terminate()
            child.wait(30)

    keeper = Thread(target=keep, name="rules", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join(60)


def _any(workspace: Workspace) -> bool:
    """Whether some rule fires by itself; the clock stands from when the first one is seen."""
    found = any(each.fires == "by_itself" for each in workspace.definitions().of(Rule))
    if found:
        workspace.rule_firings.start_clock(workspace.clock.now())
    return found
