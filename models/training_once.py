"""A model is learned once from the same data, instant, recipe and seed."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from kernel.errors import BadInput
from kernel.ids import fingerprint, frame_fingerprint
from kernel.learning import ModelRecipe, ModelVersion
from models.compare import Kept, weigh
from models.history import History
from models.tracking import Registry
from models.tracking_trained import record_of
from models.training import Predictor, train

#: raised when what a recipe means changes, so that models learned before are not taken for it
DEFINITION = "2"


def training_key(data_fingerprint: str, as_of: datetime, recipe: ModelRecipe, seed: int) -> str:
    """Everything that a training depends on, in sixteen digits."""
    # what has been said without it since before it could be said
    silent = {"interval"} if recipe.interval == "levels" else None
    told = recipe.model_dump(mode="json", exclude=silent)
    return fingerprint([DEFINITION, data_fingerprint, as_of.isoformat(), told, seed])


def train_once(
    history: History,
    as_of: datetime,
    recipe: ModelRecipe,
    registry: Registry,
    *,
    data: str,
    seed: int,
    segments: pl.DataFrame | None = None,
) -> tuple[ModelVersion, bool]:
    """The version learned from this data as of this instant, and whether it was learned only now.

    It becomes the champion when it passes the gate (`weigh`). `segments`: user and the recipe's segments.
    """
    split = "" if segments is None else frame_fingerprint(segments.sort("user"))
    key = training_key(f"{data}{split}", as_of, recipe, seed)
    known = registry.find(recipe.name, key)
    if known is not None:
        return known, False
    trained = train(history, as_of, recipe, seed, segments=segments)
    champion = registry.champion(recipe.name)
    verdict = weigh(trained, None if champion is None else kept(registry, champion), history)
    record = record_of(trained, verdict, data_fingerprint=data)
    return registry.record(record, data_fingerprint=data, key=key), True


def kept(registry: Registry, version: ModelVersion) -> Kept:
    """A version as it is compared. Raises BadInput for one of a kind that is not."""
    final, judged = registry.load(version.name, version.version)
    if not isinstance(final, Predictor):
        raise BadInput(
            "is of a kind that is judged when it is learned, not compared", field="model", value=version.name
        )
    return Kept(version=version.version, as_of=version.as_of, final=final, judged=judged)
