"""The daily cycle: history → scores → cells and audiences → candidates → allocation → touches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial

import polars as pl

from conflict.api import allocate, verify
from engine.blocked import not_today
from engine.cells import Moved, earlier_cells, lay_out_cells, moved
from engine.coupon_touches import with_codes
from engine.day_candidates import Known, Pruning, propose
from engine.definitions import Definitions
from engine.effects import PlanEffects, train_effects, versions_used
from engine.exploration import Explored, drawn_before, exploration_inputs, explore
from engine.frequency import frequency_inputs, steering
from engine.holdout import intentions, withheld_from
from engine.model_training import recipes_to_learn, segments_of
from engine.people import entity_frames
from engine.plan_models import score_everyone
from engine.plan_offers import score_benefits
from engine.plan_steps import Steps, height
from engine.population import population
from engine.replan import Fixed, around, together, with_fixed
from engine.rule_given import less_given
from engine.rules import firings_on, rule_audiences, rule_inputs
from engine.wiring import Workspace
from engine.world import (
    known_users,
    plan_instant,
    shopping_hours,
    zones_and_consent,
)
from insight.api import CellMap
from kernel.choices import Allocation, DailyLimits, Limits, Status
from kernel.contact import Cap, QuietHours
from kernel.errors import BadInput, GrowthError, Infeasible
from kernel.ids import fingerprint
from kernel.learning import ModelVersion
from kernel.work import Goal
from models.api import (
    History,
    settled_recipe,
    train_once,
)
from planner.api import (
    Candidates,
    Composed,
    Firing,
    Planning,
    Resources,
    Scores,
    compose,
    derive_candidates,
    rule_limits,
    rule_tasks,
)
from touchpoint.api import TouchPlan, plan_touches, verify_touches

#: told the name of each step when it begins
Progress = Callable[[str], None]
#: raised when the meaning of a plan changes, so that an old one is not taken for it
VERSION = "1"
#: money: more than any touch may lose
_ANY = 1e6


@dataclass(frozen=True, kw_only=True)
class Day:
    """One day's plan with everything that led to it."""

    date: date
    #: nothing after this instant was known
    as_of: datetime
    users: pl.DataFrame
    cells: CellMap
    #: None for the first plan
    moved: Moved | None
    #: user, audience
    audiences: pl.DataFrame
    composed: Composed
    resources: Resources
    candidates: Candidates
    limits: Limits
    allocation: Allocation
    touches: TouchPlan
    models: tuple[ModelVersion, ...]
    #: user, spend, churn, habit
    scores: pl.DataFrame
    #: what was measured, and for which goals and benefits; None where no uplift model is defined
    effects: PlanEffects | None = None
    #: what was meant for each user, treated or held out; None where nobody is held out
    intended: pl.DataFrame | None = None
    #: rules that fire on the day
    firings: tuple[Firing, ...] = ()
    #: what the plan did without, a sentence each
    warnings: tuple[str, ...] = ()
    #: who is treated by chance today; None where no exploration is defined
    explored: Explored | None = None
    #: what was left out of very many candidates; None where all were kept
    pruning: Pruning | None = None


def train_models(
    workspace: Workspace, as_of: datetime, history: History, progress: Progress
) -> list[tuple[ModelVersion, bool]]:
    """Every model of the workspace from what was known at `as_of`, and whether it was learned only now."""
    definitions, known = workspace.definitions(), history.until(as_of)
    data = known.fingerprint()
    found = []
    registry, seed = workspace.registry, workspace.settings.seed
    for recipe in recipes_to_learn(definitions, history):
        progress(f"learning {recipe.name}")
        split = segments_of(workspace, recipe, as_of)
        recipe = settled_recipe(recipe, known, as_of)
        found.append(train_once(known, as_of, recipe, registry, data=data, seed=seed, segments=split))
    return found + train_effects(workspace, as_of, known, data, progress)


def inputs_of(workspace: Workspace, day: date, data: str) -> str:
    """Everything that a plan depends on, in sixteen digits."""
    as_of = plan_instant(workspace, day)
    settings = workspace.settings
    models = [
        (name, workspace.registry.usable_version(name, as_of).version)
        for name in sorted(workspace.registry.names())
        if name in {workspace.definitions().recipe(kind).name for kind in ("spend", "churn", "response")}
    ]
    definitions = workspace.definitions().as_json()
    everything = [VERSION, day, data, definitions, models, settings.seed, settings.timezone]
    earlier = earlier_cells(workspace, day)
    effects = versions_used(workspace, as_of)
    if effects:
        everything.append(effects)
    everything += [*frequency_inputs(workspace, day), *rule_inputs(workspace, day)]
    everything += exploration_inputs(workspace, day)
    # the first plan has none, and stays what it was
    return fingerprint([*everything, earlier.memory.as_json()] if earlier else everything)


@dataclass(frozen=True, kw_only=True)
class Derived:
    """Everything that a plan decides about, before it decides."""

    users: pl.DataFrame
    cells: CellMap
    moved: Moved | None
    audiences: pl.DataFrame
    composed: Composed
    resources: Resources
    candidates: Candidates
    limits: Limits
    models: tuple[ModelVersion, ...]
    scores: pl.DataFrame
    effects: PlanEffects | None
    firings: tuple[Firing, ...]
    warnings: tuple[str, ...]
    explored: Explored | None = None
    pruning: Pruning | None = None


def derive_day(
    workspace: Workspace,
    day: date,
    history: History,
    steps: Steps,
    alone: Firing | None = None,
    drawn: pl.DataFrame | None = None,
) -> Derived:
    """Who could get what that day, and what it would be worth; nothing is reserved or written.

    `alone`: only what this firing of a rule asks for, under its own limits and those for every user. `drawn`:
    whom chance chose when the day was planned before, `explored.parquet`.
    """
    definitions = workspace.definitions()
    as_of = plan_instant(workspace, day)
    known = history.until(as_of)
    resources = definitions.resources()
    resources.check(definitions.audiences())
    fired = firings_on(workspace, day) if alone is None else (alone,)
    tasks = rule_tasks(fired, resources)
    composed = compose(resources, day, tasks) if alone is None else Composed(tasks=tasks, idle=())
    users = known_users(workspace, as_of)

    scored = steps.do(
        "scores", lambda: score_everyone(workspace, known, users, as_of), rows=lambda it: it.frame.height
    )
    scores = scored.frame

    earlier = earlier_cells(workspace, day)
    cells = steps.do(
        "cells",
        lambda: lay_out_cells(workspace, definitions, known, users, scores, as_of, earlier),
        rows=lambda it: it.cells.height,
    )

    goals = resources.goals if alone is None else ()
    audiences = steps.do("groups", lambda: _audiences(workspace, goals, cells, as_of, fired), rows=height)
    reached = audiences["user"]
    # the ledger changes while it is planned: what it says counts once
    blocked = steps.do("caps", lambda: not_today(workspace, resources, reached, day), rows=height)
    explored = None if alone else explore(workspace, definitions, resources, audiences, blocked, day)
    if explored is not None:
        audiences = audiences.join(explored.resting, on="user", how="anti")
        composed = Composed(tasks=(*composed.tasks, *explored.tasks), idle=composed.idle)

    offered = steps.do(
        "offers",
        lambda: score_benefits(workspace, known, resources, composed, audiences, as_of),
        rows=lambda it: it.responses.height,
    )
    steered = steering(workspace, day, cells.cells)
    daily = definitions.one(DailyLimits)
    effects = offered.effects
    told = Scores(
        users=scores,
        responses=offered.responses,
        window=scored.window,
        effects=None if effects is None else effects.frame,
    )
    withheld = withheld_from(definitions, audiences["user"], as_of)
    if explored is not None:
        if drawn is not None:
            explored = explored.as_before(drawn)
        elif explored.asked.height:
            # ranked are all, also those for whom every way is a loss
            ways = derive_candidates(
                explored.tasks, resources, explored.asked, told, blocked, steered=tuple(steered),
                besides=dict.fromkeys(explored.worth, _ANY),
            )  # fmt: skip
            explored = explored.settled(ways.frame)
        audiences = pl.concat([audiences.join(explored.drawn, on="user", how="anti"), explored.audiences])
    proposed = steps.do(
        "candidates",
        lambda: propose(
            composed.tasks,
            resources,
            Known(
                audiences=audiences, scores=told, blocked=blocked, withheld=withheld, steered=tuple(steered)
            ),
            daily if alone is None else None,
            rule_limits(fired),
            besides=None if explored is None else explored.worth,
            floors=daily,
            keep=(definitions.one(Planning) or Planning(name="planning")).candidates,
            seed=workspace.settings.seed,
            told=steps.rows,
        ),
        rows=lambda it: it.candidates.frame.height,
    )
    candidates, limits = proposed.candidates, proposed.limits
    if alone is None:
        candidates, limits = less_given(workspace, day, candidates, limits)
    return Derived(
        users=users,
        cells=cells,
        moved=moved(earlier, cells),
        audiences=audiences,
        composed=composed,
        resources=resources,
        candidates=candidates,
        limits=limits,
        models=(
            *([offered.version] if offered.version else []),
            *scored.versions,
            *(effects.versions if effects else ()),
        ),
        scores=scores,
        effects=effects,
        firings=fired,
        warnings=(*scored.warnings, *offered.warnings),
        explored=explored,
        pruning=proposed.pruning,
    )


def make_day(
    workspace: Workspace, day: date, history: History, steps: Steps, fixed: Fixed | None = None
) -> Day:
    """The plan, verified, reserved in the ledger, not yet written. `fixed`: what stays of the plan before."""
    settings, definitions = workspace.settings, workspace.definitions()
    as_of = plan_instant(workspace, day)
    drawn = None if fixed is None else drawn_before(workspace, day)
    derived = derive_day(workspace, day, history, steps, drawn=drawn)
    candidates, limits = derived.candidates, derived.limits
    if candidates.frame.is_empty() and fixed is None:
        raise BadInput("has no candidate worth its cost", field="date", value=day.isoformat())

    def allocated() -> Allocation:
        rest = (candidates.frame, limits) if fixed is None else around(candidates.frame, limits, fixed)
        found = allocate(*rest, time_limit=settings.time_limit, seed=settings.seed)
        check_allocation(*rest, found)
        return found if fixed is None else together(found, limits, fixed)

    allocation = steps.do("allocation", allocated, rows=lambda it: it.assignments.height)
    known, resources = history.until(as_of), derived.resources
    touches = steps.do(
        "touches",
        lambda: _touches(workspace, definitions, resources, known, allocation.assignments, day, fixed),
        rows=lambda it: it.touches.height,
    )
    if fixed is not None:
        candidates = replace(candidates, frame=with_fixed(candidates.frame, fixed))
    return Day(
        date=day,
        as_of=as_of,
        allocation=allocation,
        touches=touches,
        intended=intentions(candidates, limits, allocation),
        **{**vars(derived), "candidates": candidates},
    )


def _audiences(
    workspace: Workspace,
    goals: tuple[Goal, ...],
    cells: CellMap,
    as_of: datetime,
    fired: tuple[Firing, ...],
) -> pl.DataFrame:
    """[user, audience] for every audience that a goal or a rule names. Raises BadInput for an empty one of a
    goal; a rule may have nobody today."""
    people = population(workspace, as_of)
    parts = []
    for name in dict.fromkeys(name for goal in goals for name in goal.audiences):
        if name.startswith("stage:"):
            members = cells.cells.filter(pl.col("stage").cast(pl.String) == name.removeprefix("stage:"))[
                "user"
            ]
        else:
            members = people.users(people.members(name))
            if members.is_empty():
                raise BadInput(
                    "has no members", where=f"group {name}", field="as_of", value=as_of.isoformat()
                )
        parts.append(pl.DataFrame({"user": members}).with_columns(audience=pl.lit(name)))
    return pl.concat([*parts, *rule_audiences(people, fired)])


def check_allocation(candidates: pl.DataFrame, limits: Limits, allocation: Allocation) -> None:
    if allocation.status is Status.INFEASIBLE:
        raise Infeasible(allocation.conflicting, where="limits")
    if allocation.status not in (Status.OPTIMAL, Status.FEASIBLE):
        raise GrowthError(f"the allocation ended {allocation.status}: give it more time_limit")
    broken = verify(candidates, limits, allocation.assignments)
    if broken:
        raise GrowthError(f"the allocation breaks {broken[0].rule}: {broken[0].found} of {broken[0].allowed}")


def _touches(
    workspace: Workspace,
    definitions: Definitions,
    resources: Resources,
    known: History,
    assignments: pl.DataFrame,
    day: date,
    fixed: Fixed | None,
) -> TouchPlan:
    zone = workspace.settings.zone
    caps, quiet = definitions.of(Cap), definitions.of(QuietHours)
    channels = tuple(sorted({each.channel for each in resources.touchpoints}))
    zones, consent = zones_and_consent(workspace, channels, assignments["user"])
    entities = entity_frames(workspace, caps)
    if fixed is not None:
        assignments = assignments.join(
            fixed.assignments, on=["user", "task"], how="anti", maintain_order="left"
        )
    planned = plan_touches(
        assignments=assignments,
        touchpoints=resources.touchpoints,
        caps=caps,
        quiet_hours=quiet,
        consent=consent,
        zones=zones,
        default_zone=zone,
        habits=shopping_hours(known, str(zone), assignments["user"]),
        ledger=workspace.ledger,
        plan_date=day,
        run=f"plan {day}",
        seed=workspace.settings.seed,
        entities=entities,
        standing=None if fixed is None else fixed.touches,
    )
    check = partial(verify_touches, planned.touches, resources.touchpoints, caps, quiet, consent, zones, zone)
    broken = check(None, entities)
    if broken:
        raise GrowthError(f"a touch breaks a promise: {broken[0]}")
    workspace.ledger.expire()
    planned = with_codes(workspace, planned, resources.benefits, day)
    if fixed is None:
        return planned
    everything = pl.concat([planned.touches, fixed.touches.select(planned.touches.columns)])
    return replace(planned, touches=everything.sort("send_at", "touch_id"))
