"""`growth simulate --rule`: a rule runs for some days on a copy of the workspace, and is read as any other.

The users of the days to come are drawn from the workspace's own past (`future`); a touch works as the
definitions assume: P(used) is the benefit's or the model's, and of those who use it `lift` would not have
bought without. So it says what the rule costs, whom it reaches, and how well its effect would be seen; what
the effect is, only real days say.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from engine.cycle import plan, train
from engine.day import Progress
from engine.definitions import read_definitions
from engine.model_training import needed_models
from engine.publish import read_plan
from engine.rule_results import read_rule
from engine.rule_trial import try_rule
from engine.simulate.copying import copy_workspace
from engine.simulate.future import Future
from engine.usecases import apply_all, latest_day
from engine.wiring import Workspace, open_workspace
from engine.world import plan_instant, read_history
from kernel.clock import parse_window, start_of_day
from kernel.errors import BadInput
from kernel.randomness import derive_seed
from kernel.work import Goal
from planner.api import Rule

#: days over which purchases that a touch adds are spread
_WORKS = 3


@dataclass
class Showing:
    """A clock that shows the simulated day."""

    at: datetime

    def now(self) -> datetime:
        return self.at


def rule_days(
    root: Path, file: Path, days: int, progress: Progress, *, first: date | None = None, seed: int = 0
) -> dict[str, Any]:
    """`{rule, first, days, tried, played, read}`: what one firing would come to, each day, and the readout
    (as `growth rule read`) once the window of the last firing is over. The workspace stays as it is.

    Raises BadInput for a file without exactly one rule, and where no copy can be played in.
    """
    found = read_definitions(file)
    rules = [each for each in found if isinstance(each, Rule)]
    if len(rules) != 1:
        raise BadInput(f"holds {len(rules)} rules instead of one", where=str(file), field="kind")
    rule = rules[0]
    if rule.fires != "with_plan":
        raise BadInput(
            "cannot be simulated: days are planned as a whole; try it with fires: with_plan",
            where=f"rule {rule.name}", field="fires", value=rule.fires,
        )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="growth-simulate-") as scratch:
        progress("copying the workspace")
        copy = Path(scratch) / "copy"
        copy_workspace(root.resolve(), copy)
        begin = first or latest_day(open_workspace(copy))
        clock = Showing(start_of_day(begin, open_workspace(copy).settings.zone))
        space = open_workspace(copy, clock)
        apply_all(space, found, by="simulation")
        goal = next(each for each in space.definitions().of(Goal) if each.name == rule.goal)
        future = Future.of(space, goal.outcome, begin, seed)
        _learned(space, begin, progress)
        tried = try_rule(space, rule.name, begin, progress)
        played = _play(space, clock, rule, future, begin, days, progress)
        end = begin + timedelta(days=days) + parse_window(rule.within)
        read = read_rule(space, rule.name, end.isoformat()).as_json()
    return {
        "rule": rule.name,
        "first": begin.isoformat(),
        "days": days,
        "currency": space.settings.currency,
        "tried": tried,
        "played": played,
        "read": read,
    }


def _learned(space: Workspace, day: date, progress: Progress) -> None:
    """Models as of the first day, where a plan would find none."""
    as_of = plan_instant(space, day)
    names = {space.definitions().recipe(kind).name for kind in needed_models(read_history(space, as_of))}
    there = {name for name in names if any(each.as_of <= as_of for each in space.registry.versions(name))}
    if there < names:
        train(space, day, progress)


def _play(
    space: Workspace,
    clock: Showing,
    rule: Rule,
    future: Future,
    begin: date,
    days: int,
    progress: Progress,
) -> list[dict[str, Any]]:
    """The days one after the other, planned as long as the rule fires; then the last windows go by."""
    zone = space.settings.zone
    goals = {each.name: each for each in space.definitions().of(Goal)}
    due: dict[date, list[Any]] = {}
    told = []
    rest = -(-parse_window(rule.within) // timedelta(days=1))
    for number in range(days + rest):
        day = begin + timedelta(days=number)
        clock.at = start_of_day(day, zone)
        mine: dict[str, Any] = {"day": day.isoformat()}
        if number < days:
            progress(f"{day}: planning")
            made = plan(space, day, None, lambda _: None)
            mine |= {key: value for key, value in _fired(made.folder, rule.name).items() if key != "variants"}
            _answers(made.folder, goals, day, future.seed, due)
        else:
            progress(f"{day}: the last windows go by")
        mine |= future.live(day, due.pop(day, []))
        told.append(mine)
    return told


def _fired(folder: Path, name: str) -> dict[str, Any]:
    nothing = {"users": 0, "candidates": 0, "assigned": 0, "refused": 0, "cost": 0.0, "gain": 0.0}
    found: dict[str, Any] = read_plan(folder).get("rules", {}).get(name, nothing)
    return found


def _answers(folder: Path, goals: dict[str, Goal], day: date, seed: int, due: dict[date, list[Any]]) -> None:
    """Who makes a purchase because of this plan's touches, and when."""
    given = pl.read_parquet(folder / "assignments.parquet").sort("user", "task")
    refused = pl.read_parquet(folder / "refusals.parquet")
    if refused.height:
        given = given.join(
            refused.select("user", "task"), on=["user", "task"], how="anti", maintain_order="left"
        )
    rng = np.random.default_rng(derive_seed(seed, "answers", day))
    for user, goal, response in given.select("user", "goal", "response").iter_rows():
        chance, later = rng.random(), int(rng.integers(_WORKS))
        if chance < response * goals[goal].lift:
            due.setdefault(day + timedelta(days=later), []).append(user)
