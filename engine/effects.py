"""What treating adds, measured: learned from experiments and holdouts, and used by the plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import polars as pl

from engine.definitions import Definitions
from engine.effect_money import effect_money
from engine.effects_samples import goal_of, sample_of
from engine.plan_models import asked_model, checked
from engine.wiring import Workspace
from kernel.errors import BadInput
from kernel.ids import fingerprint
from kernel.learning import ModelVersion
from kernel.work import Goal, Task
from models.api import (
    Experiment,
    Exploration,
    History,
    UpliftModel,
    UpliftRecipe,
    train_uplift,
    treated_by,
    uplift_record,
    user_features,
)
from planner.api import Resources

UPLIFT, AVERAGE, ASSUMED = "uplift", "average effect", "assumption"
#: raised when what an uplift recipe means changes
_DEFINITION = "2"


@dataclass(frozen=True, kw_only=True)
class Valued:
    """By what candidates of a goal, by a benefit through touchpoints, are valued, and why by no better."""

    goal: str
    benefit: str
    touchpoints: tuple[str, ...]
    #: `uplift` (single users' effects), `average effect` (measured, the same for all), or `assumption`
    by: str
    #: version of the uplift model; None: there is none
    model: ModelVersion | None
    #: money that a touch adds on average, with its interval; None: not measured
    adds: tuple[float, float, float] | None
    #: one sentence
    reason: str

    @property
    def what(self) -> str:
        return f"{self.goal} by {self.benefit} ({', '.join(self.touchpoints)})"

    def as_json(self) -> dict[str, Any]:
        what = {"goal": self.goal, "benefit": self.benefit, "touchpoints": list(self.touchpoints)}
        found: dict[str, Any] = {**what, "by": self.by}
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
    #: models that were to say more and fail, a sentence each
    warnings: tuple[str, ...] = ()

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
    goal, registry, seed = goal_of(definitions, recipe), workspace.registry, workspace.settings.seed
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
        worth=effect_money(definitions, recipe, goal, history, as_of).typical,
        seed=seed,
        champion=None if champion is None else champion[0],
    )
    return registry.record(uplift_record(trained, data), data_fingerprint=data, key=key), True


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
    drawing = {each.name: each for each in definitions.of(Exploration)}
    people = audiences.select("user").unique(maintain_order=True).sort("user")
    parts, valued, warnings = [_nothing(people)], list[Valued](), list[str]()
    left = {(task.goal, task.benefit, task.touchpoint) for task in tasks}
    for recipe in recipes:
        goal = goal_of(definitions, recipe)
        ways = {
            (task.benefit, task.touchpoint)
            for task in tasks
            if task.goal == recipe.goal
            and task.benefit in treated_by(recipe, experiments, drawing)
            and (recipe.touchpoints is None or task.touchpoint in recipe.touchpoints)
        }
        if not ways:
            continue
        left -= {(goal.name, *way) for way in ways}
        if _usable_version(workspace, recipe.name, as_of) is None:
            reason = f"uplift model {recipe.name} has not been learned by then; run: growth train"
            valued += _assumptions(goal.name, ways, reason)
            continue
        rows = people.join(
            user_features(known, as_of, recipe.history), on="user", how="left", maintain_order="left"
        )
        asked, version, failed = asked_model(
            workspace, recipe.name, as_of, partial(_effects, rows, recipe), _assumed, "what is assumed"
        )
        warnings += failed
        if asked is None or version is None:
            valued += _assumptions(goal.name, ways, failed[-1])
            continue
        model, effects = asked
        told = effect_money(definitions, recipe, goal, known, as_of)
        effects = told.worth(effects)
        for benefit, touchpoint in sorted(ways):
            mine = effects.filter(pl.col("treatment") == benefit)
            money = _in_money(mine, told.factor(benefit, touchpoint), recipe.value_at == "low")
            parts.append(
                money.select(
                    "user",
                    pl.lit(goal.name).alias("goal"),
                    pl.lit(benefit).alias("benefit"),
                    pl.lit(touchpoint).alias("touchpoint"),
                    "adds",
                    "adds_low",
                    "adds_high",
                )
            )
        for benefit, through in _through(ways).items():
            factor = sum(told.factor(benefit, each) for each in through) / len(through)
            valued.append(_valued(goal, benefit, through, model, version, recipe, told.typical * factor))
    for goal_name in {goal_name for goal_name, _, _ in left}:
        ways = {(benefit, touchpoint) for each, benefit, touchpoint in left if each == goal_name}
        valued += _assumptions(goal_name, ways, "no uplift model is defined for it")
    return PlanEffects(
        frame=pl.concat(parts),
        valued=tuple(sorted(valued, key=lambda each: each.what)),
        warnings=tuple(warnings),
    )


def _through(ways: set[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """benefit → its touchpoints."""
    benefits = sorted({benefit for benefit, _ in ways})
    return {each: tuple(sorted(point for benefit, point in ways if benefit == each)) for each in benefits}


def _assumptions(goal: str, ways: set[tuple[str, str]], reason: str) -> list[Valued]:
    return [
        Valued(
            goal=goal, benefit=benefit, touchpoints=through, by=ASSUMED, model=None, adds=None, reason=reason
        )
        for benefit, through in _through(ways).items()
    ]


def _effects(
    rows: pl.DataFrame, recipe: UpliftRecipe, model: object
) -> tuple[UpliftModel, pl.DataFrame] | None:
    """Raises BadInput for a model of another kind, or one whose answers are no numbers."""
    if not isinstance(model, UpliftModel):
        raise BadInput("is no uplift model", where="models")
    if recipe.by_reach and not model.as_seen:
        raise BadInput("was learned of touches whether seen or not; run: growth train", where="models")
    return model, checked(model.effects(rows), "effect")


def _assumed() -> None:
    return None


def _nothing(people: pl.DataFrame) -> pl.DataFrame:
    labels = dict.fromkeys(("goal", "benefit", "touchpoint"), pl.String)
    numbers = dict.fromkeys(("adds", "adds_low", "adds_high"), pl.Float64)
    return pl.DataFrame(schema={"user": people.schema["user"], **labels, **numbers})


def _in_money(effects: pl.DataFrame, factor: float, low: bool) -> pl.DataFrame:
    profit = pl.col("worth") * factor
    ends = [pl.col("low") * profit, pl.col("high") * profit]
    money = effects.with_columns(
        adds=pl.col("effect") * profit, adds_low=pl.min_horizontal(ends), adds_high=pl.max_horizontal(ends)
    )
    return money.with_columns(adds=pl.col("adds_low")) if low else money


def _valued(
    goal: Goal,
    benefit: str,
    through: tuple[str, ...],
    model: UpliftModel,
    version: ModelVersion,
    recipe: UpliftRecipe,
    profit: float,
) -> Valued:
    """`profit`: of a unit of the outcome, of a typical user, through the touchpoints on average."""
    average = model.averages[benefit]
    low, high = sorted((average.low * profit, average.high * profit))
    trusted = model.trusts(benefit)
    reason = model.reasons[benefit] if trusted else f"single effects are refused: {model.reasons[benefit]}"
    if recipe.trust == "shrunken":
        reason = f"single effects as far as users held back bear them out; of the model: {reason}"
    if recipe.value_at == "low":
        reason += "; valued by the low ends of the intervals"
    return Valued(
        goal=goal.name,
        benefit=benefit,
        touchpoints=through,
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
