"""Whether what a model sees has moved since it was learned, day by day."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import polars as pl

from engine.wiring import Workspace
from engine.world import plan_instant, read_history
from kernel.errors import BadInput
from kernel.learning import ModelVersion
from models.api import FeatureDrift, History, feature_drift, recipe_features

#: the model's own output among the features
SCORE = "score"


def model_drift(
    space: Workspace, model: str, since: date, until: date, *, every: int = 1, fdr: float = 0.01
) -> FeatureDrift:
    """Features of every buyer, and the scores, as each day began, against those at the model's instant.

    Of a response model, which scores user × offer, the features of users only. Raises BadInput for days in
    the wrong order or outside the data, or when the model does not know users yet on the first of them.
    """
    if until < since:
        raise BadInput("is before --from", field="--to", value=until.isoformat())
    if every < 1:
        raise BadInput("is below 1", field="--every", value=every)
    days = [since + timedelta(days=n) for n in range(0, (until - since).days + 1, every)]
    instants = {day: plan_instant(space, day, "--from" if day == since else "--to") for day in days}
    version = space.registry.usable_version(model, instants[since])
    history = read_history(space, max(instants.values()))
    return drift_at(space, version, history, list(instants.values()), fdr, days)


def drift_at(
    space: Workspace,
    version: ModelVersion,
    history: History,
    instants: list[datetime],
    fdr: float,
    days: list[date] | None = None,
) -> FeatureDrift:
    """The same of one version as of some instants, told under `days` where these are given."""
    predictor = space.registry.load(version.name, version.version)[0]
    scored = predictor.recipe.predicts != "response" and predictor.trusted

    def seen(at: datetime) -> pl.DataFrame:
        frame = recipe_features(history, at, predictor.recipe)
        mine = frame.select("user", *(name for name in predictor.features if name in frame.columns))
        return mine.with_columns(pl.Series(SCORE, predictor.predict(frame))) if scored else mine

    reference = seen(version.as_of)
    labels = days or [at.date() for at in instants]
    parts = [
        seen(at).with_columns(pl.lit(day).alias("day")) for day, at in zip(labels, instants, strict=True)
    ]
    features = [name for name in reference.columns if name != "user"]
    return feature_drift(reference, pl.concat(parts, how="diagonal_relaxed"), features, day="day", fdr=fdr)
