"""From a dataset to a predictor with its evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from kernel.errors import BadInput
from kernel.learning import ModelRecipe
from kernel.randomness import derive_seed
from models.calibration import Calibrator, choose_calibrator
from models.conformal import fit_band
from models.datasets import Dataset, horizon_dataset, response_dataset
from models.evaluation import losses, mean_by_user
from models.evidence import Evidence, judge
from models.history import History
from models.learners import (
    PLAIN,
    Learned,
    Parameters,
    Setting,
    fit_amount,
    fit_median,
    fit_probability,
    fit_two_part,
)
from models.predictor import Predictor
from models.quantiles import fit_heads
from models.search import Searched, search_parameters
from models.survival import fit_hazard
from models.survival_labels import silence_labels
from models.training_data import (
    PROBABILITIES,
    check_learnable,
    check_signs,
    learnable_matrix,
    of_features,
    setting_of,
    varying,
)

__all__ = ["PROBABILITIES", "Evidence", "Predictor", "Trained", "dataset_of", "fit", "train"]

Floats = NDArray[np.float64]
Learn = Callable[..., Learned]
#: part of the rows, the latest, on which a model is judged
HELD_OUT = 0.25
#: learners of money, the first unless another does better
AMOUNTS: dict[str, Learn] = {"root": fit_amount, "two-part": fit_two_part, "median": fit_median}
_FOLDS = 4


@dataclass(frozen=True, kw_only=True)
class How:
    """What was chosen on the earlier rows, and is kept for all of them."""

    #: `probability`, `hazard`, or one of money: `root`, `two-part`, `median`
    learner: str
    parameters: Parameters = PLAIN.parameters
    #: learner → mean loss on the latest of the earlier rows
    losses: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A model with everything that it is judged by."""

    predictor: Predictor
    evidence: Evidence
    dataset: Dataset
    #: the same, learned on the earlier rows only: what the evidence is about
    judged: Predictor
    #: rows that `judged` had not seen
    held_out: Dataset
    how: How
    searched: Searched | None = None
    #: features without two different values: not learned from
    unused: tuple[str, ...] = ()


def train(
    history: History,
    as_of: datetime,
    recipe: ModelRecipe,
    seed: int,
    *,
    segments: pl.DataFrame | None = None,
) -> Trained:
    """Learns on the earlier rows, judges on the later ones, then learns on all of them.

    `segments`: user and the recipe's segments, by whose labels the evidence is split. Raises BadInput for
    data that nothing can be learned from, naming what is wrong.
    """
    seed = derive_seed(seed, "train", recipe.name)
    data = dataset_of(history, as_of, recipe)
    early, late = _by_time(history, data, recipe)
    for part in (early, late):
        check_learnable(part, recipe)
    check_signs(data.features, recipe)
    searched = _search(early, recipe, seed) if recipe.search else None
    how = _choose(early, recipe, seed, searched.best.parameters if searched else PLAIN.parameters)
    judged = fit(early, recipe, seed, how)
    evidence = judge(judged, early, late, history, seed, segments)
    final = fit(data, recipe, seed, how)
    trusted = all(each.won for each in evidence.margins)
    return Trained(
        predictor=replace(final, trusted=trusted, knows_until=as_of),
        evidence=evidence,
        dataset=data,
        judged=replace(judged, knows_until=evidence.held_out_from),
        held_out=late,
        how=how,
        searched=searched,
        unused=tuple(name for name in data.features if name not in final.features),
    )


def dataset_of(history: History, as_of: datetime, recipe: ModelRecipe) -> Dataset:
    """What the recipe asks for, learned from or judged by."""
    if recipe.predicts == "response":
        return response_dataset(history, as_of, recipe)
    if recipe.predicts not in ("lapse", "next_purchase"):
        return horizon_dataset(history, as_of, recipe)
    rows = horizon_dataset(history, as_of, recipe.model_copy(update={"predicts": "spend"}))
    return rows.of(silence_labels(history.until(as_of), rows.frame, recipe))


def _by_time(history: History, data: Dataset, recipe: ModelRecipe) -> tuple[Dataset, Dataset]:
    """Earlier rows as they were known when the later ones began, and the later ones.

    Where that leaves too little, outcomes that were not known yet count among the earlier ones.
    """
    early, late = data.split(HELD_OUT)
    begin = late.frame["at"].min()
    assert isinstance(begin, datetime)  # noqa: S101 (the column is one of instants)
    if recipe.predicts == "response":
        try:
            known = response_dataset(history, begin, recipe)
        except BadInput:
            return early, late
    else:
        closed = early.frame.filter(pl.col("at") + recipe.horizon <= begin)
        known = early.of(closed)
    return (known if known.frame["at"].n_unique() > 1 else early), late


def _learner(name: str, recipe: ModelRecipe) -> Learn:
    if name == "hazard":
        return partial(fit_hazard, window=recipe.horizon / timedelta(days=1))
    return AMOUNTS.get(name, fit_probability)


def _choose(data: Dataset, recipe: ModelRecipe, seed: int, parameters: Parameters) -> How:
    """Of money the learner with the least error on the latest of these rows, by more than one standard
    error; the first where they are alike."""
    if recipe.predicts != "spend":
        name = "hazard" if recipe.predicts == "next_purchase" else "probability"
        return How(learner=name, parameters=parameters, losses={})
    parts = _folds(data, recipe, 1)
    if not parts:
        return How(learner="root", parameters=parameters, losses={})
    ((seen, rest),) = parts
    setting = setting_of(seen, recipe, parameters).fewer()
    # LightGBM sets the leaves of quantiles anew after growing them, against any sign
    able = {name: learn for name, learn in AMOUNTS.items() if name != "median" or not recipe.monotone}
    found = {name: _loss(learn, seen, rest, recipe, seed, setting) for name, learn in able.items()}
    users, best = rest.frame["user"].to_numpy(), "root"
    for name in found:
        better, error = mean_by_user(found[best] - found[name], users)
        if better > error:
            best = name
    told = {name: float(each.mean()) for name, each in found.items()}
    return How(learner=best, parameters=parameters, losses=told)


def _loss(
    learn: Learn, seen: Dataset, rest: Dataset, recipe: ModelRecipe, seed: int, setting: Setting
) -> Floats:
    """Of every row of `rest` by a model that learned on `seen`, made right in the mean."""
    names = varying(seen)
    model = learn(learnable_matrix(seen, names), seen.labels, names, seed, of_features(setting, seen, names))
    predicted = model.predict(learnable_matrix(rest, names))
    probability = recipe.predicts in PROBABILITIES
    if not probability:
        known = model.predict(learnable_matrix(seen, names))
        predicted = predicted * seen.labels.sum() / max(known.sum(), 1e-9)
    return losses(rest.labels, predicted, probability=probability)


def _search(data: Dataset, recipe: ModelRecipe, seed: int) -> Searched:
    """On three parts of the time, each judged by what was learned from before it."""
    assert recipe.search is not None  # noqa: S101 (the caller asked for it)
    parts = _folds(data, recipe, 3)
    if not parts:
        raise BadInput("has too little time for a search", where=f"model {recipe.name}", field="search")
    learn = _learner("hazard" if recipe.predicts == "next_purchase" else
                     "root" if recipe.predicts == "spend" else "probability", recipe)  # fmt: skip

    def loss(parameters: Parameters) -> tuple[float, ...]:
        return tuple(
            float(_loss(learn, seen, rest, recipe, seed, setting_of(seen, recipe, parameters).fewer()).mean())
            for seen, rest in parts
        )

    return search_parameters(loss, recipe.search, derive_seed(seed, "search"))


def _folds(data: Dataset, recipe: ModelRecipe, count: int) -> list[tuple[Dataset, Dataset]]:
    """Later parts of about equal length, each with the rows whose outcome was known when it began."""
    instants = data.frame["at"].unique().sort()
    cuts = [instants[len(instants) * (each + 1) // (count + 1)] for each in range(count)]
    found = []
    ahead = timedelta(0) if recipe.predicts == "response" else recipe.horizon
    for cut, end in zip(cuts, [*cuts[1:], None], strict=True):
        seen = data.frame.filter(pl.col("at") + ahead <= cut if ahead else pl.col("at") < cut)
        rest = data.frame.filter((pl.col("at") >= cut) & ((pl.col("at") < end) if end else pl.lit(True)))
        parts = data.of(seen), data.of(rest)
        if all(_judgeable(part, recipe) for part in parts):
            found.append(parts)
    return found


def _judgeable(data: Dataset, recipe: ModelRecipe) -> bool:
    try:
        if data.frame.height < 50:
            return False
        check_learnable(data, recipe)
    except BadInput:
        return False
    return True


def fit(data: Dataset, recipe: ModelRecipe, seed: int, how: How | None = None) -> Predictor:
    """Learned on all of `data`, calibrated on predictions for instants that a fold had not seen.

    Without `how` the learner of money is chosen on `data` itself.
    """
    how = how or _choose(data, recipe, seed, PLAIN.parameters)
    names = varying(data)
    x, y = learnable_matrix(data, names), data.labels
    setting = of_features(setting_of(data, recipe, how.parameters), data, names)
    learn = _learner(how.learner, recipe)
    instants = data.frame["at"].to_physical().to_numpy()
    unseen = _out_of_fold(learn, x, y, instants, names, seed, setting.fewer(2))
    amount = recipe.predicts not in PROBABILITIES
    factor = float(y.sum() / max(unseen.sum(), 1e-9)) if amount else 1.0
    most = recipe.horizon / timedelta(days=1) if recipe.predicts == "next_purchase" else float("inf")
    heads = None
    if amount and recipe.interval == "quantiles":
        heads = fit_heads(x, y, names, seed, setting, _instants_apart(instants, len(y)), most=most)
    return Predictor(
        recipe=recipe,
        features=tuple(names),
        model=learn(x, y, names, seed, setting),
        calibrator=Calibrator(method="none") if amount else choose_calibrator(unseen, y, seed),
        factor=factor,
        average=float(y.mean()),
        trusted=True,
        band=fit_band(unseen * factor, y, most=most) if amount else None,
        heads=heads,
    )


def _out_of_fold(
    learn: Learn,
    x: Floats,
    y: Floats,
    instants: NDArray[np.int64],
    names: list[str],
    seed: int,
    setting: Setting,
) -> Floats:
    """Predictions for rows by models that saw no row of the same instant."""
    unseen = np.empty_like(y)
    for fold, (seen, rest) in enumerate(_instants_apart(instants, len(y))):
        if y[seen].min() == y[seen].max():
            unseen[rest] = y[seen].mean()
            continue
        unseen[rest] = learn(x[seen], y[seen], names, seed + fold, setting).predict(x[rest])
    return unseen


def _instants_apart(
    instants: NDArray[np.int64], rows: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """(rows learned from, rows of instants that are not among them), each row unseen once."""
    groups = np.unique(instants, return_inverse=True)[1]
    folds = min(_FOLDS, int(groups.max()) + 1)
    if folds < 2:
        groups, folds = np.arange(rows) % _FOLDS, _FOLDS
    return list(GroupKFold(folds).split(instants[:, None], groups=groups))
