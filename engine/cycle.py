"""The use cases that the shells call: train, plan, evaluate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from engine.approval import may_go
from engine.backtest import compare_with_reality, run_backtest, whole_history
from engine.day import Progress, inputs_of, make_day, train_models
from engine.deciding import decides
from engine.monitoring import monitor
from engine.outbox import enqueue
from engine.publish import publish, read_plan
from engine.rules import note_runs
from engine.wiring import Workspace
from engine.world import plan_instant, read_history
from kernel.errors import BadInput, GrowthError
from kernel.events import OFFER
from kernel.learning import ModelVersion


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
    workspace: Workspace, day: date, out: Path | None, progress: Progress, *, judged: bool = False
) -> Made:
    """The day's plan, made once from the same inputs; `judged`: with a back-test in its report.

    The register is written after the files: an interrupted plan is simply made again.
    """
    as_of = plan_instant(workspace, day)
    target = out or workspace.root / workspace.settings.plans / day.isoformat()
    if target.exists() and not (target / "plan.json").exists() and any(target.iterdir()):
        raise BadInput("is a folder with something else in it", field="--out", value=str(target))
    progress("reading events")
    history = read_history(workspace, as_of)
    inputs = inputs_of(workspace, day, history.fingerprint())
    known = workspace.plans.find(day, inputs)
    if known is not None and _is_there(target, inputs):
        summary = read_plan(target)
        if may_go(workspace, day, summary["version"]):
            enqueue(workspace, target)  # if that was interrupted
        return Made(folder=target, summary=summary, new=False)
    made = make_day(workspace, day, history, progress)
    backtest = None
    if judged:
        progress("back-testing")
        everything = whole_history(workspace)
        _, backtest = run_backtest(workspace, day, everything)
        offers = {each.name: each.offer[OFFER] for each in made.resources.benefits if OFFER in each.offer}
        backtest["reality"] = compare_with_reality(made.allocation.assignments, offers, everything)
    progress("writing the plan")
    last = workspace.plans.find(day)
    version = known.version if known else (last.version if last else 0) + 1
    summary = publish(workspace, made, target, version=version, inputs=inputs, backtest=backtest)
    workspace.registry.used(made.models, plan=day.isoformat(), version=version)
    workspace.plans.add(day, inputs, str(target), summary["totals"], workspace.clock.now())
    note_runs(workspace, made, inputs)
    if may_go(workspace, day, version):
        enqueue(workspace, target)
    try:
        monitor(workspace, day, progress, history)
    except GrowthError as error:  # the plan stands, whatever became of the watching
        progress(f"not watched: {error}")
    return Made(folder=target, summary=summary, new=True)


def _is_there(target: Path, inputs: str) -> bool:
    return (target / "plan.json").exists() and read_plan(target).get("inputs") == inputs
