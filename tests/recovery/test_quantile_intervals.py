"""Intervals by quantiles cover as often as they say in every segment, also where only the spread differs."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernel.learning import ModelRecipe
from models.conformal import coverage
from models.datasets import Dataset
from models.learners import PLAIN
from models.predictor import Predictor
from models.training import How, fit

Floats = NDArray[np.float64]
_HOW = How(learner="root", parameters=PLAIN.parameters, losses={})


def world(seed: int, rows: int) -> Dataset:
    """Money of one mean for all: `steady` users spend about as foretold, the others anything."""
    rng = np.random.default_rng(seed)
    steady, size = rng.random(rows) < 0.5, rng.gamma(4.0, 1.0, rows)
    spread = np.where(steady, 0.1, 0.8)
    y = np.square(np.maximum(8 + size + spread * (4 + size) * rng.standard_normal(rows), 0.0))
    at = pl.Series(rng.integers(0, 6, rows)).cast(pl.Datetime("us", "UTC"))
    frame = pl.DataFrame({"user": range(rows), "at": at, "label": y, "size": size,
                          "steady": steady.astype(float), "noise": rng.random(rows)})  # fmt: skip
    return Dataset(frame=frame, as_of=at.max())  # type: ignore[arg-type]


def learned(data: Dataset, interval: str) -> Predictor:
    recipe = ModelRecipe.model_validate({"name": "spend", "predicts": "spend", "interval": interval})
    return fit(data, recipe, 1, _HOW)


def by_segment(predictor: Predictor, data: Dataset) -> tuple[list[float], list[float]]:
    """Coverage and width of steady users, and of the others."""
    low, high = predictor.interval(data.frame)
    inside, steady = coverage((low, high), data.labels), data.frame["steady"].to_numpy() > 0
    parts = (steady, ~steady)
    return [float(inside[part].mean()) for part in parts], [
        float((high - low)[part].mean()) for part in parts
    ]


def test_quantiles_cover_each_segment_where_levels_cover_only_all() -> None:
    ours, levels = [], []
    for seed in range(3):
        data, new = world(seed, 1500), world(50 + seed, 3000)
        covered, wide = by_segment(learned(data, "quantiles"), new)
        ours.append(covered)
        levels.append(by_segment(learned(data, "levels"), new)[0])
        assert wide[0] < wide[1] / 3  # as wide as each asks for
    for told in np.mean(ours, axis=0):
        assert 0.87 < told < 0.965
    assert np.mean(ours) > 0.885
    # a prediction alone cannot know: too wide for the steady, too narrow for the others
    steady, others = np.mean(levels, axis=0)
    assert steady > 0.97
    assert others < 0.86


def test_ends_are_in_order_and_within_what_can_be() -> None:
    data = world(9, 400)
    recipe = ModelRecipe.model_validate(
        {"name": "next", "predicts": "next_purchase", "within": "28d", "interval": "quantiles"}
    )
    days = data.of(data.frame.with_columns(pl.col("label").clip(0, 28)))
    low, high = fit(days, recipe, 1, _HOW).interval(days.frame)
    assert (low <= high).all()
    assert low.min() >= 0
    assert high.max() <= 28
