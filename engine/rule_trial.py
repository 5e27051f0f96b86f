"""A rule's dry run: what one firing would come to, with nothing reserved, written or sent."""

from __future__ import annotations

import math
from datetime import date
from typing import Any

from conflict.api import allocate
from engine.day import Progress, check_allocation, derive_day
from engine.plan_steps import Steps
from engine.rules import firing_of
from engine.wiring import Workspace
from engine.world import plan_instant, read_history
from kernel.errors import NotFound
from planner.api import Rule


def try_rule(workspace: Workspace, name: str, day: date, progress: Progress) -> dict[str, Any]:
    """`{rule, date, group, users, held_out, candidates, assigned, cost, gain, value, pruned, fires}`.

    The rule alone, under its own limits and the capacities of what it uses; the day's plan, where it competes
    with everything else, can only give it less. Expected money, in major units. Raises NotFound.
    """
    rules = {each.name: each for each in workspace.definitions().of(Rule)}
    if name not in rules:
        raise NotFound("rule", name, rules)
    as_of = plan_instant(workspace, day)
    progress("reading events")
    history = read_history(workspace, as_of)
    firing = firing_of(rules[name], workspace.rules.states().get(name))
    derived = derive_day(workspace, day, history, Steps(progress), firing)
    frame, held = derived.candidates.frame, derived.candidates.withheld
    told = {"rule": name, "date": day.isoformat(), "group": rules[name].group}
    counts = {
        "users": derived.audiences["user"].n_unique(),
        "held_out": 0 if held is None else held["user"].n_unique(),
        "candidates": frame.height,
        "pruned": derived.candidates.pruned,
    }
    if frame.is_empty():
        return {**told, **counts, "assigned": 0, "cost": 0.0, "gain": 0.0, "value": 0.0}
    progress("allocating")
    settings = workspace.settings
    found = allocate(frame, derived.limits, time_limit=settings.time_limit, seed=settings.seed)
    check_allocation(frame, derived.limits, found)
    money = {key: round(math.fsum(found.assignments[key]), 6) for key in ("cost", "gain", "value")}
    return {**told, **counts, "assigned": found.assignments.height, **money}
