"""The daily cycle: history → scores → cells and audiences → candidates → allocation → touches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial

import polars as pl
from pyroaring import BitMap

from conflict.api import allocate, verify
from engine.cells import Moved, earlier_cells, lay_out_cells, moved
from engine.coupon_touches import with_codes
from engine.definitions import Definitions
from engine.effects import PlanEffects, plan_effects, train_effects, versions_used
from engine.frequency import frequency_inputs, steering
from engine.holdout import intentions, withheld_from
from engine.identities import merges_of
from engine.model_training import recipes_to_learn, segments_of
from engine.people import entity_frames
from engine.rule_given import less_given
from engine.rules import firings_on, rule_audiences, rule_inputs
from engine.selection_published import Published
from engine.wiring import Workspace
from engine.world import (
    known_users,
    plan_instant,
    shopping_hours,
    zones_and_consent,
)
from insight.api import CellMap, Group, Population
from kernel.choices import Allocation, DailyLimits, Limits, Status
from kernel.contact import Cap, QuietHours
from kernel.errors import BadInput, GrowthError, Infeasible
from kernel.events import OFFER
from kernel.ids import fingerprint
from kernel.learning import ModelVersion
from kernel.work import Goal
from models.api import (
    History,
    Predictor,
    score_offers,
    score_users,
    settled_recipe,
    train_once,
    user_features,
)
from planner.api import (
    Candidates,
    Composed,
    Firing,
    Resources,
    Scores,
    compose,
    day_limits,
    derive_candidates,
    rule_limits,
    rule_tasks,
)
from touchpoint.api import TouchPlan, plan_touches, verify_touches

#: told the name of each step when it begins
Progress = Callable[[str], None]
#: raised when the meaning of a plan changes, so that an old one is not taken for it
VERSION = "1"


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


def derive_day(
    workspace: Workspace, day: date, history: History, progress: Progress, alone: Firing | None = None
) -> Derived:
    """Who could get what that day, and what it would be worth; nothing is reserved or written.

    `alone`: only what this firing of a rule asks for, under its own limits and those for every user.
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

    progress("scoring users")
    spend, spend_version = workspace.registry.usable(definitions.recipe("spend").name, as_of)
    churn, churn_version = workspace.registry.usable(definitions.recipe("churn").name, as_of)
    learned = [] if known.treatments is None else [definitions.recipe("response").name]
    response, response_version = next(
        (workspace.registry.usable(name, as_of) for name in learned), (None, None)
    )
    scores = _user_scores(spend, churn, known, users, as_of)

    progress("laying out cells")
    earlier = earlier_cells(workspace, day)
    cells = lay_out_cells(workspace, definitions, known, users, scores, as_of, earlier)

    progress("finding audiences")
    goals = resources.goals if alone is None else ()
    audiences = _audiences(workspace, goals, cells, as_of, fired)

    progress("scoring offers")
    if response is None:
        responses = assumed_responses(resources, composed, audiences)
    else:
        responses = _responses(response, known, resources, composed, audiences, as_of)
    steered = steering(workspace, day, cells.cells)
    daily = definitions.one(DailyLimits)
    effects = plan_effects(workspace, resources, composed.tasks, known, audiences, as_of)
    told = Scores(
        users=scores,
        responses=responses,
        window=spend.recipe.horizon,
        effects=None if effects is None else effects.frame,
    )
    withheld = withheld_from(definitions, audiences["user"], as_of)
    candidates = derive_candidates(
        composed.tasks, resources, audiences, told, None, daily, withheld, steered=steered
    )
    limits = day_limits(daily if alone is None else None, resources, candidates.frame, rule_limits(fired))
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
            *([response_version] if response_version else []),
            spend_version,
            churn_version,
            *(effects.versions if effects else ()),
        ),
        scores=scores,
        effects=effects,
        firings=fired,
    )


def make_day(workspace: Workspace, day: date, history: History, progress: Progress) -> Day:
    """The plan, verified, reserved in the ledger, not yet written."""
    settings, definitions = workspace.settings, workspace.definitions()
    as_of = plan_instant(workspace, day)
    derived = derive_day(workspace, day, history, progress)
    candidates, limits = derived.candidates, derived.limits
    if candidates.frame.is_empty():
        raise BadInput("has no candidate worth its cost", field="date", value=day.isoformat())

    progress("allocating")
    allocation = allocate(candidates.frame, limits, time_limit=settings.time_limit, seed=settings.seed)
    check_allocation(candidates.frame, limits, allocation)

    progress("planning touches")
    known, resources = history.until(as_of), derived.resources
    touches = _touches(workspace, definitions, resources, known, allocation.assignments, day)
    return Day(
        date=day,
        as_of=as_of,
        allocation=allocation,
        touches=touches,
        intended=intentions(candidates, limits, allocation),
        **vars(derived),
    )


def _user_scores(
    spend: Predictor, churn: Predictor, known: History, users: pl.DataFrame, as_of: datetime
) -> pl.DataFrame:
    longest = spend.recipe.history[-1]
    weeks = spend.recipe.horizon / timedelta(weeks=1)
    usual = user_features(known, as_of, spend.recipe.history).select(
        "user", (pl.col(f"amount_{longest}") * weeks).alias("habit")
    )
    return (
        score_users(spend, known, users, as_of, "spend")
        .join(score_users(churn, known, users, as_of, "churn"), on="user", maintain_order="left")
        .join(usual, on="user", how="left", maintain_order="left")
        .with_columns(pl.col("habit").fill_null(0.0))
    )


def population(
    workspace: Workspace, as_of: datetime, groups: Mapping[str, Group] | None = None
) -> Population:
    """The users as of an instant, with these groups (by default those in force), static ones as pinned."""
    people = Population(
        workspace.catalog,
        as_of,
        workspace.definitions().groups if groups is None else groups,
        cache=workspace.leaves,
        merges=merges_of(workspace),
        dictionary=workspace.dictionary,
    )
    for name, group in people.groups.items():
        pin = workspace.groups.pinned(name, group.fingerprint) if group.mode == "static" else None
        if pin is not None:
            people.pinned[name] = people.users(BitMap.deserialize(workspace.groups.members(pin)))
    people.published = Published(workspace, people).members
    return people


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


def assumed_responses(resources: Resources, composed: Composed, audiences: pl.DataFrame) -> pl.DataFrame:
    """[user, benefit, response] as each benefit's definition assumes: nothing was offered yet that a model
    could have learned from. Raises BadInput for a benefit that assumes nothing."""
    wanted = {task.benefit for task in composed.tasks}
    rows = []
    for benefit in resources.benefits:
        if benefit.name not in wanted:
            continue
        if benefit.response is None:
            problem = "is required: no event has role treatment, so no model of responses is learned"
            raise BadInput(problem, where=f"benefit {benefit.name}", field="response")
        rows.append({"benefit": benefit.name, "response": benefit.response})
    people = audiences.select("user").unique(maintain_order=True).sort("user")
    return people.join(pl.DataFrame(rows), how="cross")


def _responses(
    predictor: Predictor,
    known: History,
    resources: Resources,
    composed: Composed,
    audiences: pl.DataFrame,
    as_of: datetime,
) -> pl.DataFrame:
    """[user, benefit, response] for every audience member and every benefit of a task today."""
    wanted = {task.benefit for task in composed.tasks}
    benefits = [benefit for benefit in resources.benefits if benefit.name in wanted]
    treatments, _ = known.contacts()
    kind = treatments.schema[OFFER]
    rows = []
    for benefit in benefits:
        missing = [trait for trait in known.traits if trait not in benefit.offer]
        unknown = [trait for trait in benefit.offer if trait not in (OFFER, *known.traits)]
        for trait in (*missing, *unknown):
            problem = (
                "is required: the response model knows offers by it"
                if trait in missing
                else "is no trait of offers"
            )
            raise BadInput(problem, where=f"benefit {benefit.name}", field=f"offer.{trait}")
        rows.append({**{trait: benefit.offer[trait] for trait in known.traits},
                     OFFER: benefit.offer.get(OFFER), "benefit": benefit.name})  # fmt: skip
    offers = pl.DataFrame(rows, schema_overrides={OFFER: kind}, strict=False)
    # a benefit that is no known offer has traits, and no items
    people = audiences["user"].unique().sort()
    scored = score_offers(predictor, known, people, offers.drop("benefit"), as_of)
    return scored.select("user", offers["benefit"].gather(scored["place"]).alias("benefit"), "response")


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
) -> TouchPlan:
    zone = workspace.settings.zone
    caps, quiet = definitions.of(Cap), definitions.of(QuietHours)
    channels = tuple(sorted({each.channel for each in resources.touchpoints}))
    zones, consent = zones_and_consent(workspace, channels)
    entities = entity_frames(workspace, caps)
    planned = plan_touches(
        assignments=assignments,
        touchpoints=resources.touchpoints,
        caps=caps,
        quiet_hours=quiet,
        consent=consent,
        zones=zones,
        default_zone=zone,
        habits=shopping_hours(known, str(zone)),
        ledger=workspace.ledger,
        plan_date=day,
        run=f"plan {day}",
        seed=workspace.settings.seed,
        entities=entities,
    )
    check = partial(verify_touches, planned.touches, resources.touchpoints, caps, quiet, consent, zones, zone)
    broken = check(None, entities)
    if broken:
        raise GrowthError(f"a touch breaks a promise: {broken[0]}")
    workspace.ledger.expire()
    return with_codes(workspace, planned, resources.benefits, day)
