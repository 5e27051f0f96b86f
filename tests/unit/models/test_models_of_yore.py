"""A model that an earlier build pickled predicts as it did, and says nothing of what it does not know."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime

import numpy as np
import polars as pl

from kernel.learning import ModelRecipe
from models import tracking
from models.calibration import Calibrator
from models.datasets import Dataset
from models.predictor import Predictor
from models.tracking_store import Served
from models.training import fit

#: what a predictor and a recipe were made of before
_FIELDS = ("recipe", "features", "model", "calibrator", "factor", "average", "trusted")
_RECIPE = ("kind", "name", "label", "description", "predicts", "within", "history", "matured", "every")


def test_it_predicts_as_it_did() -> None:
    at = [datetime(2017, 1, 1 + day, tzinfo=UTC) for day in (0, 1)] * 40
    rng = np.random.default_rng(1)
    label = [0.0, 1.0, 1.0, 0.0] * 20
    frame = pl.DataFrame({"user": range(80), "at": at, "label": label, "x": rng.random(80)})
    recipe = ModelRecipe(name="churn", predicts="churn")
    now = fit(Dataset(frame=frame, as_of=at[1]), recipe, 1)
    of_yore = ModelRecipe.__new__(ModelRecipe)
    said = {
        "__dict__": {name: getattr(recipe, name) for name in _RECIPE},
        "__pydantic_fields_set__": {"name"},
        "__pydantic_extra__": None,
        "__pydantic_private__": None,
    }
    of_yore.__setstate__(said)
    old = Predictor.__new__(Predictor)
    old.__dict__.update({name: getattr(now, name) for name in _FIELDS} | {"recipe": of_yore})
    assert isinstance(now.calibrator, Calibrator)
    served = Served.__new__(Served)
    served.__dict__.update({"predictor": old})
    found = pickle.loads(pickle.dumps(served))  # noqa: S301 # made above
    np.testing.assert_array_equal(found.predictor.predict(frame), now.predict(frame))
    assert found.predictor.recipe == recipe
    assert (found.judged, found.predictor.band, found.predictor.knows_until) == (None, None, None)


def test_it_is_found_under_its_old_name() -> None:
    assert tracking._Served is Served
