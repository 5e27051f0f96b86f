"""Whether what a model sees has moved since it was learned, day by day."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from engine.wiring import Workspace
from engine.world import plan_instant, read_history
from kernel.errors import BadInput
from models.api import FeatureDrift, feature_drift, user_features

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
    predictor, version = space.registry.usable(model, instants[since])
    history = read_history(space, max(instants.values()))
    windows = predictor.recipe.history
    scored = predictor.recipe.predicts != "response" and predictor.trusted

    def seen(frame: pl.DataFrame) -> pl.DataFrame:
        mine = frame.select("user", *(name for name in predictor.features if name in frame.columns))
        return mine.with_columns(pl.Series(SCORE, predictor.predict(frame))) if scored else mine

    reference = seen(user_features(history, version.as_of, windows))
    parts = [
        seen(user_features(history, at, windows)).with_columns(pl.lit(day).alias("day"))
        for day, at in instants.items()
    ]
    features = [name for name in reference.columns if name != "user"]
    return feature_drift(reference, pl.concat(parts, how="diagonal_relaxed"), features, day="day", fdr=fdr)
