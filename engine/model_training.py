"""Which models a workspace learns, and by which labels of users their evidence is split."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from engine.definitions import Definitions
from engine.wiring import Workspace
from engine.world import known_users
from insight.api import read_fields
from kernel.learning import ModelRecipe
from models.api import History


def needed_models(history: History) -> tuple[str, ...]:
    """What a plan asks. Response needs offers in the data; the others only purchases."""
    return ("spend", "churn") if history.treatments is None else ("spend", "churn", "response")


def recipes_to_learn(definitions: Definitions, history: History) -> list[ModelRecipe]:
    """The models that a plan needs, then every other one that is defined and can be learned."""
    needed = [definitions.recipe(kind) for kind in needed_models(history)]
    names = {each.name for each in needed}
    more = [each for each in definitions.of(ModelRecipe) if each.name not in names]
    if history.treatments is None:
        more = [each for each in more if each.predicts != "response"]
    return [*needed, *more]


def segments_of(workspace: Workspace, recipe: ModelRecipe, as_of: datetime) -> pl.DataFrame | None:
    """user, then the recipe's segments as text; None where it names none. As the fields are now: they only
    say whom a model helps, and are not learned from.

    Raises BadInput for a field that the catalog does not have.
    """
    if not recipe.segments:
        return None
    for name in recipe.segments:
        workspace.catalog.field(name, f"model {recipe.name}", "segments")
    labels = read_fields(workspace.catalog, recipe.segments).unique("user", keep="first", maintain_order=True)
    users = known_users(workspace, as_of).select("user")
    found = users.join(labels, on="user", how="left", maintain_order="left")
    return found.with_columns(pl.col(recipe.segments).cast(pl.String))
