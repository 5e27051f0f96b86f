"""One run of rules that fire by themselves: all that are due compete for what the day has left."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import polars as pl

from conflict.api import allocate, write_allocation
from engine.blocked import not_today
from engine.coupon_touches import with_codes
from engine.day import check_allocation
from engine.holdout import withheld_from
from engine.people import entity_frames
from engine.population import population
from engine.rule_given import given_on, run_folder
from engine.rule_scores import DayScores
from engine.rules import DEALT, came_to, dealt_to, firing_of, rule_audiences
from engine.wiring import Workspace
from engine.world import zones_and_consent
from kernel.choices import Allocation, DailyLimits, Limit, Limits, PerUser
from kernel.contact import Cap, QuietHours
from kernel.errors import GrowthError, Unavailable
from kernel.work import Task
from planner.api import (
    Composed,
    Firing,
    Resources,
    Rule,
    day_limits,
    derive_candidates,
    rest_of_day,
    rule_limits,
    rule_tasks,
    task_table,
)
from storage.lake import folder, write_json
from storage.rule_firings import Run
from storage.rules import RuleState
from touchpoint.api import TouchPlan, plan_touches

#: relative gap that is good enough between two plans, and seconds that the search may take
_GAP, _SECONDS = 1e-4, 20.0
#: part of a bound by which rounding may pass it
_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Fired:
    """What a run came to."""

    #: rule → as `engine.rules.ran` tells of it
    told: Mapping[str, dict[str, Any]]
    #: rule → why it could not fire
    failed: Mapping[str, str]


def fire(workspace: Workspace, run: Run, scores: DayScores) -> Fired:
    """Works a run out and writes its folder: tasks, assignments, touches (reserved), who was dealt what.

    Interrupted, it is worked out again: reservations of the same run are replaced, codes are the same ones.
    A rule that cannot fire does not keep the others from it. Raises Unavailable.
    """
    definitions = workspace.definitions()
    rules = {each.name: each for each in definitions.of(Rule)}
    failed = {each.rule: "is no rule any more" for each in run.claims if each.rule not in rules}
    shares = {each.rule: each.shares for each in run.claims if each.rule in rules}
    firings = tuple(firing_of(rules[name], RuleState(shares=share)) for name, share in sorted(shares.items()))
    dealt, troubled = _audiences(workspace, firings, run.at)
    failed |= troubled
    firings = tuple(each for each in firings if each.rule.name not in failed)
    resources = definitions.resources()
    try:
        work = _decide(workspace, run, scores, firings, dealt, resources)
    except Unavailable:
        raise
    except GrowthError as error:
        return Fired(told={}, failed={**failed, **{each.rule.name: str(error) for each in firings}})
    told = _told(firings, work)
    _write(workspace, run, work, told, failed)
    return Fired(told=told, failed=failed)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """Everything about a run that its folder holds."""

    composed: Composed
    audiences: pl.DataFrame
    candidates: pl.DataFrame
    limits: Limits
    #: None where nobody is worth it
    allocation: Allocation | None
    touches: TouchPlan | None


def _audiences(
    workspace: Workspace, firings: Sequence[Firing], at: datetime
) -> tuple[pl.DataFrame, dict[str, str]]:
    """[user, audience]; and rule → why its group is not known. Each group is looked up once."""
    people, trouble = population(workspace, at), dict[str, str]()
    groups = {each.rule.group for each in firings}
    for group in sorted(groups):
        try:
            people.members(group)
        except Unavailable:
            raise
        except GrowthError as error:
            trouble[group] = str(error)
    good = tuple(each for each in firings if each.rule.group not in trouble)
    parts = rule_audiences(people, good)
    frame = pl.concat(parts) if parts else pl.DataFrame(schema={"user": pl.String, "audience": pl.String})
    failed = {each.rule.name: trouble[each.rule.group] for each in firings if each.rule.group in trouble}
    return workspace.tombstones.without(frame), failed


def _decide(
    workspace: Workspace,
    run: Run,
    scores: DayScores,
    firings: Sequence[Firing],
    audiences: pl.DataFrame,
    resources: Resources,
) -> _Work:
    definitions, day, settings = workspace.definitions(), run.day, workspace.settings
    composed = Composed(tasks=_valid(resources, rule_tasks(firings, resources), day), idle=())
    daily = _ceilings(definitions.one(DailyLimits))
    frame, limits, left, own = pl.DataFrame(), Limits(), Limits(), list[Limit]()
    if composed.tasks and audiences.height:
        users = audiences["user"].unique().sort()
        known = scores.of(day, composed.tasks, users, resources)
        withheld = withheld_from(definitions, users, run.at)
        blocked = not_today(workspace, resources, users, day)
        found = derive_candidates(
            composed.tasks, resources, audiences, known, blocked, daily, withheld, steered=scores.steered(day)
        )
        given = given_on(workspace, day, plan=True, without=run.run)
        frame, left = rest_of_day(found.frame, day_limits(daily, resources, found.frame), given)
        own = _binding(rule_limits(firings), frame)  # of one firing each, whatever others have used
        limits = Limits(per_user=left.per_user, limits=(*left.limits, *own))
    work = partial(_Work, composed=composed, audiences=audiences, candidates=frame, limits=limits)
    if frame.is_empty():
        return work(allocation=None, touches=None)
    seconds = min(settings.time_limit, _SECONDS)
    allocation = allocate(frame, limits, time_limit=seconds, gap=_GAP, seed=settings.seed)
    check_allocation(frame, left, allocation)
    _check_own(own, allocation.assignments)
    return work(allocation=allocation, touches=_touches(workspace, run, resources, allocation.assignments))


def _valid(resources: Resources, tasks: Sequence[Task], day: date) -> tuple[Task, ...]:
    """Those whose benefit can be given that day."""
    valid = {
        each.name for each in resources.benefits if (each.valid_from or day) <= day <= (each.valid_to or day)
    }
    return tuple(task for task in tasks if task.benefit in valid)


def _ceilings(daily: DailyLimits | None) -> DailyLimits | None:
    """Least volumes are the plan's to reach: a rule that fires later owes nobody anything."""
    if daily is None:
        return None
    rules = daily.per_user
    return daily.model_copy(
        update={
            "per_user": PerUser(
                max_tasks=rules.max_tasks, max_by=rules.max_by, never_together=rules.never_together
            ),
            "limits": tuple(
                each.model_copy(update={"at_least": None})
                for each in daily.limits
                if each.at_most is not None
            ),
        }
    )


def _binding(limits: Sequence[Limit], candidates: pl.DataFrame) -> list[Limit]:
    """Rules' own limits, less those that all of their candidates together cannot reach: of thousands of
    rules, most never come near theirs."""
    sums = _sums(candidates)
    return [each for each in limits if each.at_most is not None and _used(each, sums) > each.at_most]


def _check_own(limits: Sequence[Limit], assignments: pl.DataFrame) -> None:
    """As `check_allocation`, of thousands of limits in one pass."""
    sums = _sums(assignments)
    for each in limits:
        most = each.at_most or 0.0
        if (found := _used(each, sums)) > most + _TOLERANCE * max(1.0, most):
            raise GrowthError(f"the allocation breaks {each.name}: {found} of {most}")


def _sums(rows: pl.DataFrame) -> dict[str, tuple[int, float]]:
    """Task → how many, and what they cost."""
    summed = rows.group_by("task").agg(pl.len(), pl.col("cost").sum())
    return {task: (many, cost) for task, many, cost in summed.iter_rows()}


def _used(limit: Limit, sums: Mapping[str, tuple[int, float]]) -> float:
    """Of a rule's own limit, which is over its tasks alone."""
    tasks = limit.where["task"]
    names = tasks if isinstance(tasks, tuple) else (tasks,)
    return math.fsum(sums.get(str(name), (0, 0.0))[1 if limit.sum else 0] for name in names)


def _touches(workspace: Workspace, run: Run, resources: Resources, assignments: pl.DataFrame) -> TouchPlan:
    definitions = workspace.definitions()
    caps = definitions.of(Cap)
    zones, consent = zones_and_consent(
        workspace, tuple(sorted({each.channel for each in resources.touchpoints}))
    )
    planned = plan_touches(
        assignments=assignments,
        touchpoints=resources.touchpoints,
        caps=caps,
        quiet_hours=definitions.of(QuietHours),
        consent=consent,
        zones=zones,
        default_zone=workspace.settings.zone,
        habits=None,
        ledger=workspace.ledger,
        plan_date=run.day,
        run=f"rules {run.run}",
        seed=workspace.settings.seed,
        entities=entity_frames(workspace, caps),
        plan=f"rules/{run.run}",
        earliest=run.at + timedelta(seconds=1),
    )
    return with_codes(workspace, planned, resources.benefits, run.day)


def _told(firings: Sequence[Firing], work: _Work) -> dict[str, dict[str, Any]]:
    chosen = None if work.allocation is None else work.allocation.assignments
    refusals = None if work.touches is None else work.touches.refusals
    return came_to(firings, work.audiences, work.candidates, chosen, refusals)


def _write(
    workspace: Workspace, run: Run, work: _Work, told: Mapping[str, Any], failed: Mapping[str, str]
) -> None:
    """Whole or not at all; `plan.json` carries what the outbox needs to know of a plan."""
    with folder(run_folder(workspace, run.run)) as fresh:
        if work.allocation is not None and work.touches is not None:
            chosen = work.allocation.assignments
            write_allocation(work.allocation, fresh)
            tasks = task_table(work.composed.tasks, work.audiences, work.candidates, chosen)
            tasks.write_parquet(fresh / "tasks.parquet")
            work.touches.touches.write_parquet(fresh / "touches.parquet")
            work.touches.refusals.write_parquet(fresh / "refusals.parquet")
        dealt_to(work.audiences).write_parquet(fresh / DEALT)
        summary = {
            "date": run.run,
            "version": 1,
            "day": run.day.isoformat(),
            "at": run.at.isoformat(),
            "touches": 0 if work.touches is None else work.touches.touches.height,
            "rules": dict(told),
            "failed": dict(failed),
        }
        write_json(fresh / "plan.json", summary)
