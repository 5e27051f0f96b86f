"""From a dataset to a predictor with its evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from kernel.learning import Interval, ModelRecipe
from kernel.randomness import derive_seed
from models.baselines import trivial
from models.calibration import Calibrator, choose_calibrator
from models.datasets import Dataset, check_labels, horizon_dataset, matrix, response_dataset
from models.evaluation import MONEY, PROBABILITY, readout, reliability
from models.history import History
from models.learners import Boosted, fit_amount, fit_probability

Floats = NDArray[np.float64]
#: part of the rows, the latest, on which a model is judged
HELD_OUT = 0.25


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A learned model as the plan uses it: a frame of features in, probabilities or money out."""

    recipe: ModelRecipe
    features: tuple[str, ...]
    model: Boosted
    #: of probabilities; for money a factor that makes the mean right
    calibrator: Calibrator
    factor: float
    #: what everyone gets when the model did not earn trust
    average: float
    #: the model beat the trivial baseline on held-out time
    trusted: bool

    def predict(self, frame: pl.DataFrame) -> Floats:
        """One number a row: P(outcome), or money in the window. Rows without history get the average."""
        if not self.trusted:
            return np.full(frame.height, self.average)
        x = matrix(frame, self.features)
        return _apply(self.model, self.calibrator, self.factor, x)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """How a model did on the latest part of its data, learned on the rest."""

    held_out_from: datetime
    rows_learned: int
    rows_held_out: int
    figures: dict[str, Interval]
    baseline: str
    baseline_figures: dict[str, Interval]
    #: mean loss of the baseline less the model's, per row, in standard errors
    margin: float
    #: (mean predicted, mean outcome, count) by tenth
    reliability: list[tuple[float, float, int]]
    #: feature → mean |contribution| to the raw score
    importance: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Trained:
    predictor: Predictor
    evidence: Evidence
    dataset: Dataset


def train(history: History, as_of: datetime, recipe: ModelRecipe, seed: int) -> Trained:
    """Learns on the earlier rows, judges on the later ones, then learns on all of them."""
    seed = derive_seed(seed, "train", recipe.name)
    data = (response_dataset if recipe.predicts == "response" else horizon_dataset)(history, as_of, recipe)
    early, late = data.split(HELD_OUT)
    if recipe.predicts != "response":
        early = _outcome_known(early, late, recipe)
    for part in (early, late):
        check_labels(part, recipe.predicts)
    judged = fit(early, recipe, seed)
    evidence = _judge(judged, early, late, seed)
    final = fit(data, recipe, seed)
    trusted = evidence.margin > 2.0
    return Trained(
        predictor=Predictor(**{**vars(final), "trusted": trusted}), evidence=evidence, dataset=data
    )


def _outcome_known(early: Dataset, late: Dataset, recipe: ModelRecipe) -> Dataset:
    """Early rows whose window had closed when the held-out time began, where there are enough."""
    begin = late.frame["at"].min()
    closed = early.frame.filter(pl.col("at") + recipe.horizon <= pl.lit(begin))
    return Dataset(frame=closed, as_of=early.as_of) if closed["at"].n_unique() > 1 else early


def fit(data: Dataset, recipe: ModelRecipe, seed: int) -> Predictor:
    """Learned on all of `data`, calibrated on predictions for instants that a fold had not seen."""
    names = data.features
    x, y = data.matrix(names), data.labels
    learn: Callable[..., Boosted] = fit_amount if recipe.predicts == "spend" else fit_probability
    unseen = _out_of_fold(learn, x, y, data.frame["at"].to_physical().to_numpy(), names, seed)
    money = recipe.predicts == "spend"
    return Predictor(
        recipe=recipe,
        features=tuple(names),
        model=learn(x, y, names, seed),
        calibrator=Calibrator(method="none") if money else choose_calibrator(unseen, y, seed),
        factor=float(y.sum() / max(unseen.sum(), 1e-9)) if money else 1.0,
        average=float(y.mean()),
        trusted=True,
    )


def _out_of_fold(
    learn: Callable[..., Boosted],
    x: Floats,
    y: Floats,
    instants: NDArray[np.int64],
    names: list[str],
    seed: int,
) -> Floats:
    """Predictions for rows by models that saw no row of the same instant."""
    groups = np.unique(instants, return_inverse=True)[1]
    folds = min(4, int(groups.max()) + 1)
    if folds < 2:
        groups, folds = np.arange(len(y)) % 4, 4
    unseen = np.empty_like(y)
    for fold, (seen, rest) in enumerate(GroupKFold(folds).split(x, y, groups)):
        if y[seen].min() == y[seen].max():
            unseen[rest] = y[seen].mean()
            continue
        unseen[rest] = learn(x[seen], y[seen], names, seed + fold).predict(x[rest])
    return unseen


def _apply(model: Boosted, calibrator: Calibrator, factor: float, x: Floats) -> Floats:
    return np.asarray(calibrator(model.predict(x)) * factor)


def _judge(judged: Predictor, early: Dataset, late: Dataset, seed: int) -> Evidence:
    recipe, y = judged.recipe, late.labels
    predicted = judged.predict(late.frame)
    name, naive = trivial(early.frame, late.frame, recipe)
    money = recipe.predicts == "spend"
    metrics = MONEY if money else PROBABILITY
    loss = (lambda p: np.abs(y - p)) if money else (lambda p: _log_loss(y, p))
    better = loss(naive) - loss(predicted)
    error = better.std(ddof=1) / np.sqrt(len(better))
    shares = judged.model.contributions(late.matrix(judged.features))
    ranked = sorted(zip(judged.features, shares.tolist(), strict=True), key=lambda each: -each[1])
    return Evidence(
        held_out_from=late.frame["at"].min(),  # type: ignore[arg-type]
        rows_learned=early.frame.height,
        rows_held_out=late.frame.height,
        figures=readout(y, predicted, metrics, seed=seed),
        baseline=name,
        baseline_figures=readout(y, naive, metrics, seed=seed),
        margin=float(better.mean() / max(error, 1e-12)),
        reliability=reliability(y, predicted),
        importance=dict(ranked),
    )


def _log_loss(y: Floats, p: Floats) -> Floats:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return np.asarray(-(y * np.log(p) + (1 - y) * np.log(1 - p)))
