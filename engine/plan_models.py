"""Models as a plan uses them: for one that fails, an earlier one, or what is true on average."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import polars as pl

from engine.wiring import Workspace
from kernel.errors import BadInput, GrowthError
from kernel.learning import ModelRecipe, ModelVersion
from models.api import History, Predictor, score_users, user_features
from planner.api import Planning

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What the models say of every user."""

    #: user, spend, churn, habit
    frame: pl.DataFrame
    #: window that spend and habit are sums over
    window: timedelta
    #: those that were used
    versions: tuple[ModelVersion, ...]
    #: a sentence for each that could not be
    warnings: tuple[str, ...]


def rhythm_of(workspace: Workspace) -> Planning:
    """The workspace's own, or what everyone starts from."""
    return workspace.definitions().one(Planning) or Planning(name="planning")


def asked_model(
    workspace: Workspace,
    name: str,
    as_of: datetime,
    use: Callable[[Any], Answer],
    average: Callable[[], Answer],
    said: str,
) -> tuple[Answer, ModelVersion | None, tuple[str, ...]]:
    """What `use` makes of the model in force; of an earlier version where that one fails; else `average`,
    which is `said` in words. By the workspace's `model_failure`.

    Raises BadInput when nothing was learned by then, GrowthError where a failure is to end the plan.
    """
    warnings: list[str] = []
    policy = rhythm_of(workspace).model_failure
    for version in _tried(workspace, name, as_of, earlier=policy == "previous"):
        try:
            found = use(workspace.registry.load(name, version.version)[0])
        except MemoryError:
            raise
        except Exception as error:
            why = str(error).strip().splitlines()
            told = f"version {version.version} of model {name} fails"
            told += f" ({type(error).__name__}{f': {why[0][:200]}' if why else ''})"
            if policy == "fail":
                raise GrowthError(f"{told}, and planning says model_failure: fail") from error
            warnings.append(told)
            continue
        return found, version, _told(warnings, f"version {version.version} stands in")
    return average(), None, _told(warnings, f"everyone gets {said}")


def score_everyone(workspace: Workspace, known: History, users: pl.DataFrame, as_of: datetime) -> Scored:
    """Spend and churn in the window ahead, and the user's habit.

    Without a model spend is the habit, and churn the share of buyers who bought nothing in the last window.
    """
    definitions = workspace.definitions()
    recipes = {kind: definitions.recipe(kind) for kind in ("spend", "churn")}

    def told(kind: str) -> Callable[[Predictor], tuple[ModelRecipe, pl.DataFrame]]:
        return lambda model: (model.recipe, checked(score_users(model, known, users, as_of, kind), kind))

    def share() -> tuple[ModelRecipe, pl.DataFrame]:
        recipe = recipes["churn"]
        last = known.purchases.group_by("user").agg(pl.col("at").max())
        silent = last.filter(pl.col("at") <= as_of - recipe.horizon).height / max(last.height, 1)
        return recipe, users.select("user", pl.lit(silent).alias("churn"))

    def usual() -> tuple[ModelRecipe, pl.DataFrame]:
        recipe = recipes["spend"]
        return recipe, users.join(habit_of(known, recipe, as_of), on="user", how="left").select(
            "user", pl.col("habit").fill_null(0.0).alias("spend")
        )

    (recipe, spend), of_spend, late = asked_model(
        workspace, recipes["spend"].name, as_of, told("spend"), usual, "their usual spend"
    )
    (_, churn), of_churn, later = asked_model(
        workspace, recipes["churn"].name, as_of, told("churn"), share, "the same, the share that churned"
    )
    frame = (
        spend.join(churn, on="user", maintain_order="left")
        .join(habit_of(known, recipe, as_of), on="user", how="left", maintain_order="left")
        .with_columns(pl.col("habit").fill_null(0.0))
    )
    return Scored(
        frame=frame,
        window=recipe.horizon,
        versions=tuple(each for each in (of_spend, of_churn) if each is not None),
        warnings=(*late, *later),
    )


def habit_of(known: History, recipe: ModelRecipe, as_of: datetime) -> pl.DataFrame:
    """[user, habit]: money of a usual window, by the longest look back."""
    weeks = recipe.horizon / timedelta(weeks=1)
    return user_features(known, as_of, recipe.history).select(
        "user", (pl.col(f"amount_{recipe.history[-1]}") * weeks).alias("habit")
    )


def checked(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Raises BadInput for a model whose answers are no numbers."""
    if not frame[column].cast(pl.Float64).is_finite().fill_null(value=False).all():
        raise BadInput("is not a number for everyone", where="model", field=column)
    return frame


def _tried(workspace: Workspace, name: str, as_of: datetime, *, earlier: bool) -> Iterator[ModelVersion]:
    best = workspace.registry.usable_version(name, as_of)
    yield best
    if earlier:
        others = [each for each in workspace.registry.versions(name) if each.as_of <= as_of]
        yield from sorted(
            (each for each in others if each.version != best.version),
            key=lambda each: (each.as_of, each.version),
            reverse=True,
        )


def _told(warnings: list[str], then: str) -> tuple[str, ...]:
    return (f"{'; '.join(warnings)}: {then}",) if warnings else ()
