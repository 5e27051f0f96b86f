"""The use cases that the shells call: train, plan, evaluate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from engine.approval import may_go
from engine.backtest import compare_with_reality, run_backtest, whole_history
from engine.day import Day, Progress, inputs_of, make_day, train_models
from engine.deciding import decides
from engine.late_data import wait_for_events
from engine.monitoring import monitor
from engine.outbox import enqueue
from engine.plan_models import rhythm_of
from engine.plan_steps import Steps
from engine.plan_work import Changed, alone, clear_work, watch_for_changes, work_of
from engine.publish import Standing, make_way, publish, read_plan, standing_plan
from engine.replan import Again, Fixed, fixed_of, paused, resume, running_tasks, told_of
from engine.rules import note_runs
from engine.wiring import Workspace
from engine.world import plan_instant, read_history
from kernel.errors import BadInput, GrowthError, NotFound
from kernel.events import OFFER
from kernel.ids import fingerprint
from kernel.learning import ModelVersion
from models.api import History
from storage.plan_runs import HELD
from storage.plan_work import PlanWork

#: definitions that change while a plan is made begin it anew, so often at most
_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class Made:
    """A plan and where it lies."""

    folder: Path
    summary: dict[str, Any]
    #: false when the very same plan was there already
    new: bool


def train(workspace: Workspace, day: date, progress: Progress) -> list[tuple[ModelVersion, bool]]:
    """Every model, from what was known when `day` began."""
    as_of = plan_instant(workspace, day, "as_of")
    progress("reading events")
    return train_models(workspace, as_of, read_history(workspace, as_of), progress)


@decides
def plan(
    workspace: Workspace,
    day: date,
    out: Path | None,
    progress: Progress | Steps,
    *,
    judged: bool = False,
    patient: bool = False,
    again: Again | None = None,
) -> Made:
    """The day's plan, made once from the same inputs; `judged`: with a back-test in its report; `patient`:
    late events are waited for; `again`: made anew around what has gone out of it.

    Its steps are kept until it is out: one that was killed goes on where it was, and comes out the same. What
    comes after the files is done again with them, and changes nothing when it was done. Whoever else
    makes it meanwhile is waited for.
    """
    steps = progress if isinstance(progress, Steps) else Steps(progress)
    how = _How(out=out, judged=judged, patient=patient, again=again)
    with alone(workspace, day):
        for _ in range(_TRIES - 1):
            try:
                return _plan(workspace, day, steps, how)
            except Changed as changed:
                steps.stop()
                steps(str(changed))
        return _plan(workspace, day, steps, how)


@dataclass(frozen=True, kw_only=True)
class _How:
    out: Path | None
    judged: bool
    patient: bool
    again: Again | None


def _plan(workspace: Workspace, day: date, steps: Steps, how: _How) -> Made:
    steps.begin("snapshot")
    as_of = plan_instant(workspace, day)
    target = how.out or workspace.root / workspace.settings.plans / day.isoformat()
    if target.exists() and not (target / "plan.json").exists() and any(target.iterdir()):
        raise BadInput("is a folder with something else in it", field="--out", value=str(target))
    late = wait_for_events(workspace, day, steps, patient=how.patient)
    steps.check = watch_for_changes(workspace, day)
    history = read_history(workspace, as_of)
    asked = inputs_of(workspace, day, history.fingerprint())
    steps.end(rows=history.purchases.height)
    standing = standing_plan(workspace, day)
    making = _making(workspace, day, standing, asked, how.again)
    if standing is not None and making.known and _is_there(target, standing.inputs):
        if may_go(workspace, day, standing.version):
            enqueue(workspace, target)  # if that was interrupted
        return Made(folder=target, summary=read_plan(target), new=False)
    steps.work = making.work
    if not making.around:
        return _made(workspace, day, steps, how, making, target, history, late)
    running = steps.do("running", lambda: running_tasks(workspace, day), rows=len)
    with paused(workspace, day, running):
        again = how.again or Again()
        fixed = steps.do("fixed", lambda: fixed_of(workspace, day, again), rows=lambda it: it.touches.height)
        return _made(workspace, day, steps, how, making, target, history, late, fixed, running)


@dataclass(frozen=True, kw_only=True)
class _Making:
    """Which version of a plan is made, and where its work lies."""

    version: int
    #: as the register is to know it, and what it is made from
    inputs: str
    asked: str
    work: PlanWork
    #: it stands already, and nothing of it is left to do
    known: bool
    #: around what has gone out of the version before
    around: bool


def _making(
    workspace: Workspace, day: date, standing: Standing | None, asked: str, again: Again | None
) -> _Making:
    """Raises NotFound where a plan that is not there is to be made anew."""
    if again is not None and standing is None:
        raise NotFound(
            "plan", day, [each.date for each in workspace.plans.newest_of_each_day()], field="date"
        )
    # rules that fired since have used of the limits
    runs = workspace.rule_firings.runs_on(day)

    def work(inputs: str) -> PlanWork:
        return work_of(workspace, day, fingerprint([inputs, runs]) if runs else inputs)

    older = workspace.plans.find(day, asked)
    if standing is None:
        return _Making(version=1, inputs=asked, asked=asked, work=work(asked), known=False, around=False)
    same = standing.asked == asked
    begun = [each for each in (standing.inputs, asked) if same and work(each).begun]
    if begun or (same and again is None):  # it stands, or its last steps are to be done
        return _Making(
            version=standing.version,
            inputs=standing.inputs,
            asked=asked,
            work=work(begun[0] if begun else asked),
            known=not begun,
            around=bool(begun) and standing.replanned,
        )
    version = standing.version + 1
    if again is not None:
        anew = fingerprint([asked, "again", standing.version, again.only])
        return _Making(version=version, inputs=anew, asked=asked, work=work(anew), known=False, around=True)
    # inputs that an older version was made from stand in the register already
    inputs = asked if older is None else fingerprint([asked, version])
    return _Making(version=version, inputs=inputs, asked=asked, work=work(asked), known=False, around=False)


def _made(
    workspace: Workspace,
    day: date,
    steps: Steps,
    how: _How,
    making: _Making,
    target: Path,
    history: History,
    late: tuple[str, ...],
    fixed: Fixed | None = None,
    running: Sequence[str] = (),
) -> Made:
    made = make_day(workspace, day, history, steps, fixed)

    def judge() -> dict[str, Any]:
        return _judged(workspace, day, made)

    judged = steps.do("back-test", judge, rows=lambda it: len(it.get("dates", ()))) if how.judged else None
    steps.check()
    steps.begin("publication")
    version = making.version
    make_way(workspace, day, target, version)
    summary = publish(
        workspace,
        made,
        target,
        version=version,
        inputs=making.inputs,
        asked=making.asked,
        backtest=judged,
        late=late,
        replanned=None if fixed is None else told_of(fixed, version - 1, made.limits),
    )
    workspace.registry.used(made.models, plan=day.isoformat(), version=version)
    note_runs(workspace, made, making.inputs)
    _hold(workspace, day, version, late)
    workspace.plans.add(day, making.inputs, str(target), summary["totals"], workspace.clock.now())
    if may_go(workspace, day, version):
        enqueue(workspace, target)
    steps.end(rows=summary["totals"]["touches"])
    _watch(workspace, day, steps, history)
    if running and may_go(workspace, day, version):
        resume(workspace, day, running)
    clear_work(workspace, day)
    return Made(folder=target, summary=summary, new=True)


def _judged(workspace: Workspace, day: date, made: Day) -> dict[str, Any]:
    everything = whole_history(workspace)
    _, backtest = run_backtest(workspace, day, everything)
    offers = {each.name: each.offer[OFFER] for each in made.resources.benefits if OFFER in each.offer}
    return {
        **backtest,
        "reality": compare_with_reality(made.allocation.assignments, offers, everything),
    }


def _hold(workspace: Workspace, day: date, version: int, late: tuple[str, ...]) -> None:
    """Touches of a plan that lacks events wait for a person's word, where `planning` says so."""
    if not late or rhythm_of(workspace).late_data != "hold":
        return
    if workspace.plan_runs.decision(day, version) is None:
        at = workspace.clock.now()
        workspace.plan_runs.decide(day, version, HELD, at=at, who="growth", why="; ".join(late))


def _watch(workspace: Workspace, day: date, progress: Callable[[str], None], history: History) -> None:
    try:
        monitor(workspace, day, progress, history)
    except GrowthError as error:  # the plan stands, whatever became of the watching
        progress(f"not watched: {error}")


def _is_there(target: Path, inputs: str) -> bool:
    return (target / "plan.json").exists() and read_plan(target).get("inputs") == inputs
