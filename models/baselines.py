"""What a team would do without a model: the yardsticks."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernel.learning import ModelRecipe
from models.history import History
from models.survival_labels import usual_gaps

Floats = NDArray[np.float64]
#: how the baselines are called
AVERAGE, BASE_RATE, LAST = "average", "base rate", "last value"


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


def last_value(history: History, keys: pl.DataFrame, recipe: ModelRecipe) -> Floats:
    """What each row (`user`, `at`) showed the last time, known at `at`; no features are needed.

    Response: 1 for users who answered an offer before. Spend: money in the window just gone. Churn: 1 for
    no purchase in it. Lapse: 1 for a silence that is too long already. Next purchase: the user's usual gap
    in days, at most the window.
    """
    parts = []
    rows = keys.select("user", "at").with_row_index("row")
    for (at,), part in rows.group_by("at", maintain_order=True):
        parts.append(part.join(_last(history, at, recipe), on="user", how="left", maintain_order="left"))
    missing = {"churn": 1.0, "lapse": 1.0, "next_purchase": recipe.horizon / timedelta(days=1)}
    found = pl.concat(parts).sort("row")["last"].fill_null(missing.get(recipe.predicts, 0.0))
    return found.cast(pl.Float64).to_numpy()


def _last(history: History, at: object, recipe: ModelRecipe) -> pl.DataFrame:
    """user, last."""
    if recipe.predicts == "response":
        _, responses = history.contacts()
        before = responses.filter(pl.col("at") < pl.lit(at))
        return before.select("user").unique().with_columns(last=pl.lit(1.0))
    if recipe.predicts in ("lapse", "next_purchase"):
        gaps = usual_gaps(history, at)
        days = recipe.horizon / timedelta(days=1)
        if recipe.predicts == "next_purchase":
            return gaps.select("user", pl.col("gap").clip(upper_bound=days).alias("last"))
        late = pl.col("silent") > (recipe.silence * pl.col("gap")).clip(upper_bound=days)
        return gaps.select("user", late.cast(pl.Float64).alias("last"))
    inside = history.purchases.lazy().filter(
        (pl.col("at") <= pl.lit(at)) & (pl.col("at") > pl.lit(at) - recipe.horizon)
    )
    total = pl.lit(0.0) if recipe.predicts == "churn" else pl.col("amount").sum().cast(pl.Float64)
    return inside.group_by("user").agg(total.alias("last")).collect()


def trivial(y: Floats, last: Floats, later: Floats, recipe: ModelRecipe) -> dict[str, Floats]:
    """Predictions for the held-out rows by each rule that a model must beat, the plainest first.

    `y`, `last`: outcomes and last values of the rows learned from; `later`: last values of those held out.
    Of probabilities the last value's rule is the share of outcomes among those of the same last value.
    """
    if recipe.predicts in ("spend", "next_purchase"):
        return {AVERAGE: np.full(len(later), y.mean()), LAST: later}
    rate = float(y.mean())
    told = np.full(len(later), rate)
    for value in np.unique(later):
        same = y[last == value]
        # one average row stands in where the value was never seen
        told[later == value] = (same.sum() + rate) / (len(same) + 1)
    return {BASE_RATE: np.full(len(later), rate), LAST: told}
