"""What of a dataset can be learned from: labels, features, signs; and what is refused, by name."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernel.errors import BadInput
from kernel.events import OFFER
from kernel.learning import ModelRecipe
from models.datasets import Dataset, check_labels
from models.learners import Parameters, Setting

Floats = NDArray[np.float64]
#: outcomes that are 0 or 1
PROBABILITIES = ("response", "churn", "lapse")


def check_learnable(data: Dataset, recipe: ModelRecipe) -> None:
    """Raises BadInput for what cannot be learned from or judged by."""
    where, labels = f"dataset {recipe.predicts}", data.frame["label"]
    if (wrong := data.frame.filter(~pl.col("label").cast(pl.Float64).is_finite().fill_null(False))).height:
        raise BadInput("has no finite label", where=where, field="user", value=str(wrong["user"][0]))
    keys = [name for name in ("user", OFFER, "at") if name in data.frame.columns]
    if data.frame.select(keys).is_duplicated().any():
        twice = data.frame.filter(pl.struct(keys).is_duplicated())
        raise BadInput(
            "is there twice at one instant", where=where, field="user", value=str(twice["user"][0])
        )
    if recipe.predicts in PROBABILITIES:
        check_labels(data, recipe.predicts)
    elif labels.n_unique() < 2:
        raise BadInput(
            f"is the same for all {data.frame.height} examples", where=where, field="label",
            value=labels.first(),
        )  # fmt: skip


def check_signs(names: list[str], recipe: ModelRecipe) -> None:
    """Raises BadInput for a pattern that fits no feature."""
    for pattern in recipe.monotone:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise BadInput("fits no feature", where=f"model {recipe.name}", field="monotone", value=pattern)


def signs_of(names: list[str], recipe: ModelRecipe) -> tuple[int, ...]:
    """+1, −1 or 0 a feature."""
    told = {"rises": 1, "falls": -1}
    return tuple(
        next((told[sign] for pattern, sign in recipe.monotone.items() if fnmatchcase(name, pattern)), 0)
        for name in names
    )


def setting_of(data: Dataset, recipe: ModelRecipe, parameters: Parameters) -> Setting:
    signs = signs_of(data.features, recipe) if recipe.monotone else ()
    return Setting(parameters=parameters, signs=signs)


def of_features(setting: Setting, data: Dataset, names: list[str]) -> Setting:
    """The signs of these features."""
    if not setting.signs:
        return setting
    told = dict(zip(data.features, setting.signs, strict=True))
    return replace(setting, signs=tuple(told[name] for name in names))


def varying(data: Dataset) -> list[str]:
    """Features with at least two different values; of one alone nothing is learned."""
    frame = data.frame.select(pl.col(data.features).cast(pl.Float64).fill_nan(None))
    low, high = frame.select(pl.all().min()), frame.select(pl.all().max())
    names = [name for name in data.features if low[name][0] is not None and low[name][0] != high[name][0]]
    if not names:
        raise BadInput("has no feature that varies", field="dataset")
    return names


def learnable_matrix(data: Dataset, names: list[str]) -> Floats:
    x = data.matrix(names)
    if np.isinf(x).any():
        row, column = np.argwhere(np.isinf(x))[0]
        raise BadInput("is infinite", where=f"user {data.frame['user'][int(row)]}", field=names[column])
    return x
