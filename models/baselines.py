"""What a team would do without a model: the yardsticks."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernel.clock import parse_window
from kernel.learning import ModelRecipe

Floats = NDArray[np.float64]


def rfm_score(features: pl.DataFrame, window: str) -> Floats:
    """Sum of quintiles (1 … 5) of recency, frequency and money among these users.

    Hughes, "Strategic Database Marketing", 1994: the rule of direct mail. Ties within a quintile sum
    stay ties.
    """

    def quintile(column: str, *, descending: bool) -> pl.Expr:
        rank = pl.col(column).fill_null(0).rank("average", descending=descending)
        return ((rank - 0.5) * 5 / pl.len()).floor().clip(0, 4) + 1

    total = (
        quintile("recency_days", descending=True)
        + quintile(f"purchases_{window}", descending=False)
        + quintile(f"amount_{window}", descending=False)
    )
    return features.select(total.cast(pl.Float64)).to_series().to_numpy()


def trivial(train: pl.DataFrame, test: pl.DataFrame, recipe: ModelRecipe) -> tuple[str, Floats]:
    """Name and predictions of the baseline that a model must beat.

    Response and churn: the base rate, scaled by nothing. Spend: the same user's money in the window
    just gone, by its rate in the history window nearest to the horizon.
    """
    if recipe.predicts != "spend":
        return "base rate", np.full(test.height, float(train["label"].to_numpy().mean()))
    near = min(recipe.history, key=lambda window: abs(parse_window(window) - recipe.horizon))
    return f"last {near}", test[f"amount_{near}"].to_numpy() * (recipe.horizon / timedelta(weeks=1))
