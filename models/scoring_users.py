"""Every user's score by one model."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from models.features import recipe_features
from models.history import History
from models.training import Predictor


def score_users(
    predictor: Predictor, history: History, users: pl.DataFrame, as_of: datetime, name: str
) -> pl.DataFrame:
    """user, `name`: P(outcome) or money in the window, one row for every user of `users`.

    A user without a purchase has no features: money is then 0, churn certain, and the next purchase as far
    away as the window is long.
    """
    rows = recipe_features(history, as_of, predictor.recipe)
    return score_frame(predictor, rows, users, name)


def score_frame(predictor: Predictor, rows: pl.DataFrame, users: pl.DataFrame, name: str) -> pl.DataFrame:
    """The same from features that are at hand: `rows` has one row a user who has any."""
    scored = rows.select("user", pl.Series(name, predictor.predict(rows), dtype=pl.Float64))
    days = predictor.recipe.horizon / timedelta(days=1)
    without = {"spend": 0.0, "next_purchase": days}.get(predictor.recipe.predicts, 1.0)
    return (
        users.select("user")
        .join(scored, on="user", how="left", maintain_order="left")
        .with_columns(pl.col(name).fill_null(without))
    )
