"""What treating adds, measured: learned from experiments and holdouts, and used by the plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import polars as pl

from engine.definitions import Definitions
from engine.experiment_files import read_frame
from engine.holdout import INTENDED
from engine.wiring import Workspace
from engine.world import known_users
from kernel.clock import start_of_day
from kernel.errors import BadInput
from kernel.events import INSTANT
from kernel.ids import fingerprint
from kernel.learning import ModelVersion
from kernel.work import Goal, Task
from models.api import (
    CONTROL,
    Experiment,
    History,
    Holdout,
    UpliftModel,
    UpliftRecipe,
    UpliftSample,
    bucket_users,
    train_uplift,
    treated_by,
    uplift_record,
    uplift_sample,
    user_features,
)
from planner.api import Resources

UPLIFT, AVERAGE, ASSUMED = "uplift", "average effect", "assumption"
#: raised when what an uplift recipe means changes
_DEFINITION = "1"


@dataclass(frozen=True, kw_only=True)
class Valued:
    """By what the candidates of one goal and benefit are valued, and why by no better."""

    goal: str
    benefit: str
    #: `uplift` (single users' effects), `average effect` (measured, the same for all), or `assumption`
    by: str
    #: version of the uplift model; None: there is none
    model: ModelVersion | None
    #: money that a touch adds on average, with its interval; None: not measured
    adds: tuple[float, float, float] | None
    #: one sentence
    reason: str

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"goal": self.goal, "benefit": self.benefit, "by": self.by}
        if self.model is not None:
            found |= {"model": self.model.name, "version": self.model.version, "run_id": self.model.run_id}
        if self.adds is not None:
            found["adds"] = dict(zip(("mean", "low", "high"), self.adds, strict=True))
        return found | {"reason": self.reason}


@dataclass(frozen=True, kw_only=True)
class PlanEffects:
    """What was measured, for the candidates of one plan."""

    #: user, goal, benefit, touchpoint, adds, adds_low, adds_high; see `planner.Scores`
    frame: pl.DataFrame
    valued: tuple[Valued, ...]

    @property
    def versions(self) -> tuple[ModelVersion, ...]:
        found = {each.model.name: each.model for each in self.valued if each.model is not None}
        return tuple(found.values())


def uplift_recipes(workspace: Workspace) -> tuple[UpliftRecipe, ...]:
    return workspace.definitions().of(UpliftRecipe)


def train_effects(
    workspace: Workspace, as_of: datetime, history: History, data: str, progress: Callable[[str], None]
) -> list[tuple[ModelVersion, bool]]:
    """Every uplift model from what was known at `as_of`, and whether it was learned only now. One that cannot
    be learned yet is told to `progress`, and the plan goes on with what it has."""
    definitions, found = workspace.definitions(), []
    for recipe in definitions.of(UpliftRecipe):
        progress(f"learning {recipe.name}")
        try:
            found.append(_trained(workspace, definitions, recipe, as_of, history, data))
        except BadInput as error:
            progress(f"{recipe.name} is not learned: {error}")
    return found


def _trained(
    workspace: Workspace,
    definitions: Definitions,
    recipe: UpliftRecipe,
    as_of: datetime,
    history: History,
    data: str,
) -> tuple[ModelVersion, bool]:
    goal, registry, seed = _goal(definitions, recipe), workspace.registry, workspace.settings.seed
    sample = sample_of(workspace, definitions, recipe, as_of, history)
    told = [_DEFINITION, data, sample.fingerprint(), as_of, recipe.model_dump(mode="json"), goal.margin, seed]
    key = fingerprint(told)
    known = registry.find(recipe.name, key)
    if known is not None:
        return known, False
    champion = _usable(workspace, recipe.name, as_of)
    trained = train_uplift(
        sample,
        recipe,
        worth=recipe.profit(goal),
        seed=seed,
        champion=None if champion is None else champion[0],
    )
    return registry.record(uplift_record(trained, data), data_fingerprint=data, key=key), True


def sample_of(
    workspace: Workspace, definitions: Definitions, recipe: UpliftRecipe, as_of: datetime, history: History
) -> UpliftSample:
    """The rows that the recipe learns from, as of an instant. Raises BadInput when there are too few."""
    within = recipe.window(_goal(definitions, recipe))
    if recipe.experiment is None:
        assigned = _from_plans(workspace, definitions, recipe, as_of)
    else:
        assigned = _from_experiment(workspace, definitions, recipe, as_of)
    assigned = workspace.tombstones.without(assigned).filter(pl.col("at") <= as_of)
    return uplift_sample(history, assigned, recipe, within, as_of)


def _from_experiment(
    workspace: Workspace, definitions: Definitions, recipe: UpliftRecipe, as_of: datetime
) -> pl.DataFrame:
    """user, at, treatment, p_…: variants under the names of the benefits that they give."""
    experiment = next(each for each in definitions.of(Experiment) if each.name == recipe.experiment)
    where = f"uplift {recipe.name}"
    begin = datetime.combine(experiment.starts, time(0), UTC)
    if begin > as_of:
        raise BadInput("begins later", where=where, field="experiment", value=experiment.name)
    if recipe.assigned is None:
        # whoever came later was not dealt in on the first day
        people = known_users(workspace, begin)
        dealt = bucket_users(people["user"], experiment, definitions.one(Holdout))
        dealt = dealt.with_columns(at=pl.lit(begin).cast(INSTANT))
    else:
        dealt = read_frame(workspace.root / recipe.assigned, f"{where} assigned")
    for name in ("user", "variant", "at"):
        if name not in dealt.columns:
            raise BadInput("is missing", where=f"{where} assigned", field=name)
    if dealt.schema["at"] != INSTANT:
        raise BadInput("is not a time in UTC", where=f"{where} assigned", field="at")
    dealt = dealt.drop_nulls("variant").sort("at").unique("user", keep="first", maintain_order=True)
    unknown = dealt.filter(~pl.col("variant").is_in(list(experiment.variants)))
    if unknown.height:
        raise BadInput("is no variant of the experiment", where=f"{where} assigned", field="variant",
                       value=unknown["variant"][0])  # fmt: skip
    names = {experiment.holdout: CONTROL, **experiment.gives}
    rows = dealt.filter(pl.col("variant").is_in(list(names)))
    return rows.select(
        "user",
        # features know what the day began with: one look a day, and nothing of the exposure itself
        pl.col("at").dt.truncate("1d"),
        pl.col("variant").replace_strict(names, return_dtype=pl.String).alias("treatment"),
        *_chances(rows, experiment),
    )


def _chances(rows: pl.DataFrame, experiment: Experiment) -> list[pl.Expr]:
    """P(each benefit), among those who got one of them or none: as told user by user, else the shares."""
    variants = [experiment.holdout, *experiment.gives]
    told = {name: pl.col(f"p_{name}") for name in variants if f"p_{name}" in rows.columns}
    each = told if len(told) == len(variants) else {n: pl.lit(experiment.variants[n]) for n in variants}
    every = pl.sum_horizontal(each.values())
    return [
        (pl.sum_horizontal(each[n] for n, given in experiment.gives.items() if given == benefit) / every)
        .alias(f"p_{benefit}")
        for benefit in sorted(set(experiment.gives.values()))
    ]  # fmt: skip


def _from_plans(
    workspace: Workspace, definitions: Definitions, recipe: UpliftRecipe, as_of: datetime
) -> pl.DataFrame:
    """user, at, treatment, p_…: everyone for whom plans meant this benefit for this goal before any other."""
    holdout = definitions.one(Holdout)
    if holdout is None:
        raise BadInput("has no holdout to learn from", where=f"uplift {recipe.name}", field="holdout")
    mine = (pl.col("goal") == recipe.goal) & (pl.col("benefit") == recipe.benefit)
    if recipe.touchpoints is not None:
        mine = mine & pl.col("touchpoint").is_in(recipe.touchpoints)
    rows = first_intentions(workspace, holdout, as_of)
    if rows.is_empty():
        raise BadInput(
            "has no past plan that held anybody out", where=f"uplift {recipe.name}", field="benefit",
            value=recipe.benefit,
        )  # fmt: skip
    return rows.filter(mine).select(
        "user",
        "at",
        pl.when("treated").then(pl.lit(recipe.benefit)).otherwise(pl.lit(CONTROL)).alias("treatment"),
        pl.lit(1 - holdout.share).alias(f"p_{recipe.benefit}"),
    )


def first_intentions(workspace: Workspace, holdout: Holdout, until: datetime) -> pl.DataFrame:
    """What plans meant first for each user since this holdout began: user, at, treated, then the columns of
    `intended.parquet`; without rows where there was none.

    Only the first is a trial. What a plan means for a user later, and what the user looks like by then, is
    the work of the first already, and differs between those who got it and those who were held out. Who was
    kept from it by an experiment is left out.
    """
    held = f"holdout {holdout.name}"
    parts = [
        frame.with_columns(pl.lit(at).cast(INSTANT).alias("at"))
        for at, frame in planned(workspace, until)
        if held in frame["why"].unique().to_list()
    ]
    if not parts:
        return pl.DataFrame(schema={"user": pl.Int64, "at": INSTANT, "goal": pl.String, "benefit": pl.String})
    rows = pl.concat(parts, how="diagonal_relaxed").sort("at", maintain_order=True)
    first = workspace.tombstones.without(rows).unique("user", keep="first", maintain_order=True)
    return first.filter(pl.col("why").is_null() | (pl.col("why") == held)).with_columns(
        pl.col("why").is_null().alias("treated")
    )


def planned(workspace: Workspace, until: datetime) -> list[tuple[datetime, pl.DataFrame]]:
    """(instant, intentions) of the newest plan of each day before `until`, earliest first, where anybody was
    held out and the files are still there."""
    found = []
    for entry in workspace.plans.newest_of_each_day():
        path = Path(entry.folder) / INTENDED
        at = start_of_day(entry.date, workspace.settings.zone)
        if at < until and path.exists():
            found.append((at, pl.read_parquet(path)))
    return found


def plan_effects(
    workspace: Workspace,
    resources: Resources,
    tasks: tuple[Task, ...],
    known: History,
    audiences: pl.DataFrame,
    as_of: datetime,
) -> PlanEffects | None:
    """The measured effects on everyone in an audience, for today's tasks; None where no uplift model is
    defined: then everything is the operator's assumption, as the report says."""
    definitions = workspace.definitions()
    recipes = definitions.of(UpliftRecipe)
    if not recipes:
        return None
    experiments = {each.name: each for each in definitions.of(Experiment)}
    people = audiences.select("user").unique(maintain_order=True).sort("user")
    parts, valued = [_nothing(people)], {}
    for task in tasks:
        why = "no uplift model is defined for it"
        valued[task.goal, task.benefit] = Valued(
            goal=task.goal, benefit=task.benefit, by=ASSUMED, model=None, adds=None, reason=why
        )
    for recipe in recipes:
        goal = _goal(definitions, recipe)
        ways = {
            (task.benefit, task.touchpoint)
            for task in tasks
            if task.goal == recipe.goal
            and task.benefit in treated_by(recipe, experiments)
            and (recipe.touchpoints is None or task.touchpoint in recipe.touchpoints)
        }
        if not ways:
            continue
        usable = _usable(workspace, recipe.name, as_of)
        if usable is None:
            for benefit in {benefit for benefit, _ in ways}:
                reason = f"uplift model {recipe.name} has not been learned by then; run: growth train"
                valued[goal.name, benefit] = Valued(
                    goal=goal.name, benefit=benefit, by=ASSUMED, model=None, adds=None, reason=reason
                )
            continue
        model, version = usable
        rows = people.join(
            user_features(known, as_of, recipe.history), on="user", how="left", maintain_order="left"
        )
        money = _in_money(model.effects(rows), recipe.profit(goal), recipe.value_at == "low")
        for benefit, touchpoint in sorted(ways):
            mine = money.filter(pl.col("treatment") == benefit)
            parts.append(
                mine.select(
                    "user",
                    pl.lit(goal.name).alias("goal"),
                    pl.lit(benefit).alias("benefit"),
                    pl.lit(touchpoint).alias("touchpoint"),
                    "adds",
                    "adds_low",
                    "adds_high",
                )
            )
            valued[goal.name, benefit] = _valued(goal, benefit, model, version, recipe)
    return PlanEffects(frame=pl.concat(parts), valued=tuple(valued[key] for key in sorted(valued)))


def _nothing(people: pl.DataFrame) -> pl.DataFrame:
    labels = dict.fromkeys(("goal", "benefit", "touchpoint"), pl.String)
    numbers = dict.fromkeys(("adds", "adds_low", "adds_high"), pl.Float64)
    return pl.DataFrame(schema={"user": people.schema["user"], **labels, **numbers})


def _in_money(effects: pl.DataFrame, profit: float, low: bool) -> pl.DataFrame:
    ends = [pl.col("low") * profit, pl.col("high") * profit]
    money = effects.with_columns(
        adds=pl.col("effect") * profit, adds_low=pl.min_horizontal(ends), adds_high=pl.max_horizontal(ends)
    )
    return money.with_columns(adds=pl.col("adds_low")) if low else money


def _valued(
    goal: Goal, benefit: str, model: UpliftModel, version: ModelVersion, recipe: UpliftRecipe
) -> Valued:
    average, profit = model.averages[benefit], recipe.profit(goal)
    low, high = sorted((average.low * profit, average.high * profit))
    trusted = model.trusts(benefit)
    reason = model.reasons[benefit] if trusted else f"single effects are refused: {model.reasons[benefit]}"
    if recipe.value_at == "low":
        reason += "; valued by the low ends of the intervals"
    return Valued(
        goal=goal.name,
        benefit=benefit,
        by=UPLIFT if trusted else AVERAGE,
        model=version,
        adds=(average.mean * profit, low, high),
        reason=reason,
    )


def versions_used(workspace: Workspace, as_of: datetime) -> list[tuple[str, int]]:
    """(model, version) of the uplift models that a plan as of then uses."""
    found = []
    for recipe in uplift_recipes(workspace):
        version = _usable_version(workspace, recipe.name, as_of)
        if version is not None:
            found.append((recipe.name, version.version))
    return sorted(found)


def _usable_version(workspace: Workspace, name: str, as_of: datetime) -> ModelVersion | None:
    """The champion if it knows nothing later, else the newest that does not; None when there is none."""
    if not any(each.as_of <= as_of for each in workspace.registry.versions(name)):
        return None
    return workspace.registry.usable_version(name, as_of)


def _usable(workspace: Workspace, name: str, as_of: datetime) -> tuple[UpliftModel, ModelVersion] | None:
    """`_usable_version`, loaded. Raises BadInput for a model of another kind."""
    version = _usable_version(workspace, name, as_of)
    if version is None:
        return None
    model = workspace.registry.load(name, version.version)[0]
    if not isinstance(model, UpliftModel):
        raise BadInput("is no uplift model", where=f"version {version.version}", field="model", value=name)
    return model, version


def _goal(definitions: Definitions, recipe: UpliftRecipe) -> Goal:
    goals: Mapping[str, Goal] = {each.name: each for each in definitions.of(Goal)}
    return goals[recipe.goal]
