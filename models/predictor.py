"""A learned model as the plan uses it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernel.errors import BadInput
from kernel.learning import ModelRecipe
from models.calibration import Calibrator
from models.conformal import Band
from models.datasets import matrix
from models.learners import Learned
from models.quantiles import Heads

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A frame of features in, probabilities, money or days out."""

    recipe: ModelRecipe
    features: tuple[str, ...]
    model: Learned
    #: of probabilities; for amounts a factor that makes the mean right
    calibrator: Calibrator
    factor: float
    #: what everyone gets when the model did not earn trust
    average: float
    #: the model beat every trivial baseline on held-out time
    trusted: bool
    #: of amounts: where the outcome will be, nine times in ten; None of probabilities
    band: Band | None = None
    #: the same with a width of each row's own; then they tell the interval
    heads: Heads | None = None
    #: nothing after this instant was known to it; None of models from before this was kept
    knows_until: datetime | None = None

    def predict(self, frame: pl.DataFrame) -> Floats:
        """One number a row: P(outcome), money in the window, or days. The average where it is not trusted."""
        if not self.trusted:
            return np.full(frame.height, self.average)
        return self._told(matrix(frame, self.features))

    def interval(self, frame: pl.DataFrame) -> tuple[Floats, Floats]:
        """Lower and upper ends of the outcome, one a row, nine in ten. Raises BadInput for a model of
        probabilities: what happens is 0 or 1."""
        if self.heads is not None:
            return self.heads(matrix(frame, self.features))
        if self.band is None:
            raise BadInput("has no interval: it tells a probability", field="model", value=self.recipe.name)
        return self.band(replace(self, trusted=True).predict(frame))

    def _told(self, x: Floats) -> Floats:
        return self.finish(self.model.predict(x))

    def finish(self, predicted: Floats) -> Floats:
        """What the learner predicted, as it is told: calibrated, right in the mean, within the window."""
        told = np.asarray(self.calibrator(predicted) * self.factor)
        if self.recipe.predicts == "next_purchase":
            told = np.minimum(told, self.recipe.horizon / timedelta(days=1))
        return told
