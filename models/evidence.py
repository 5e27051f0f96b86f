"""How a model did on the latest part of its data, beside what is done without one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernel.learning import Interval, ModelRecipe
from kernel.randomness import derive_seed
from models.baselines import last_value, trivial
from models.conformal import coverage
from models.datasets import Dataset
from models.evaluation import (
    AMOUNT,
    MONEY,
    PROBABILITY,
    Metric,
    gains,
    losses,
    mean_by_user,
    readout,
    reliability,
)
from models.history import History
from models.predictor import Predictor
from models.profit import ProfitCurve, profit_curve
from models.survival import Hazard
from models.uplift_gate import Margin

Floats = NDArray[np.float64]
#: rows whose contributions are drawn
_SHOWN = 500
_FEWEST = 30


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One label of the held-out users."""

    #: field and label
    field: str
    label: str
    rows: int
    #: mean outcome, mean prediction
    found: float
    foreseen: float
    #: AUC of a probability, mean absolute error of an amount
    figure: Interval
    #: loss of the strongest baseline less the model's, a row; above 0 the model helps
    better: Interval
    #: part of the outcomes that lay in their intervals; None of probabilities
    covered: float | None = None

    @property
    def said(self) -> str:
        if self.better.low > 0:
            return "helped"
        return "hurt" if self.better.high < 0 else "no difference seen"


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """Of a model learned on the earlier rows, judged on the later ones."""

    held_out_from: datetime
    rows_learned: int
    rows_held_out: int
    figures: dict[str, Interval]
    #: the strongest of the trivial baselines, and its figures
    baseline: str
    baseline_figures: dict[str, Interval]
    #: loss of each trivial baseline less the model's
    margins: tuple[Margin, ...]
    #: (mean predicted, mean outcome, count) by tenth
    reliability: list[tuple[float, float, int]]
    #: feature → mean |contribution| to the raw score
    importance: dict[str, float]
    #: (share chosen, share of all outcomes among them), by the model and by the strongest baseline
    gains: list[tuple[float, float]]
    baseline_gains: list[tuple[float, float]]
    profit: ProfitCurve | None
    segments: tuple[Segment, ...]
    #: outcomes and predictions of the held-out rows
    outcome: Floats
    predicted: Floats
    #: names, values (rows × features) and contributions of some held-out rows, the strongest feature first
    shown: tuple[tuple[str, ...], Floats, Floats]

    @property
    def margin(self) -> float:
        """Over the strongest trivial baseline, in standard errors."""
        return min(each.errors for each in self.margins)


def judge(
    judged: Predictor,
    early: Dataset,
    late: Dataset,
    history: History,
    seed: int,
    segments: pl.DataFrame | None,
) -> Evidence:
    """`judged` was learned on `early`; `segments`: user and the labels to split by."""
    recipe, y, users = judged.recipe, late.labels, late.frame["user"].to_numpy()
    predicted = judged.predict(late.frame)
    probability = judged.band is None
    last = last_value(history, late.frame, recipe)
    rules = trivial(early.labels, last_value(history, early.frame, recipe), last, recipe)
    own = losses(y, predicted, probability=probability)
    better = {name: losses(y, naive, probability=probability) - own for name, naive in rules.items()}
    margins = tuple(margin(name, each, users, probability=probability) for name, each in better.items())
    strongest = min(margins, key=lambda each: each.errors).baseline
    naive = rules[strongest]
    metrics = metrics_of(recipe)
    figures = readout(y, predicted, metrics, seed=seed, users=users)
    x = late.matrix(judged.features)
    x = x[np.random.default_rng(seed).permutation(len(x))[:_SHOWN]]
    parts = judged.model.explain(x)
    weight = np.abs(parts).mean(axis=0)
    order = np.argsort(-weight, kind="stable")
    ranked = tuple(judged.features[each] for each in order)
    stakes = recipe.stakes
    inside = None if probability else coverage(judged.interval(late.frame), y)
    return Evidence(
        held_out_from=late.frame["at"].min(),  # type: ignore[arg-type]
        rows_learned=early.frame.height,
        rows_held_out=late.frame.height,
        figures=figures | _of_intervals(judged, late, users) | _of_spans(judged, late),
        baseline=strongest,
        baseline_figures=readout(y, naive, metrics, seed=seed, users=users),
        margins=margins,
        reliability=reliability(y, predicted),
        importance=dict(zip(ranked, weight[order].tolist(), strict=True)),
        gains=gains(y, predicted),
        baseline_gains=gains(y, naive),
        profit=None
        if stakes is None
        else profit_curve(
            predicted,
            y,
            value=stakes.outcome,
            cost=stakes.contact,
            average=float(early.labels.mean()),
            seed=derive_seed(seed, "profit"),
        ),
        segments=_segments(late, predicted, better[strongest], last, seed, segments, recipe, inside),
        outcome=y,
        predicted=predicted,
        shown=(ranked, x[:, order], parts[:, order]),
    )


def margin(name: str, better: Floats, users: NDArray[np.generic], *, probability: bool) -> Margin:
    """Over a baseline, from the loss of the baseline less the model's, row by row."""
    mean, error = mean_by_user(better, users)
    return Margin(
        baseline=name,
        measure="log loss" if probability else "absolute error",
        difference=Interval(mean=mean, low=mean - 1.96 * error, high=mean + 1.96 * error),
        errors=mean / error if 0 < error < float("inf") else 0.0,
    )


def metrics_of(recipe: ModelRecipe) -> dict[str, Metric]:
    """By what a model of this kind is measured."""
    if recipe.predicts == "spend":
        return MONEY
    return AMOUNT if recipe.predicts == "next_purchase" else PROBABILITY


def _of_intervals(judged: Predictor, late: Dataset, users: NDArray[np.generic]) -> dict[str, Interval]:
    """How often the outcome was in its interval, and how wide that was."""
    if judged.band is None:
        return {}
    low, high = judged.interval(late.frame)
    inside, error = mean_by_user(coverage((low, high), late.labels), users)
    width, spread = mean_by_user(high - low, users)
    share = f"{judged.band.level * 100:.0f}"
    return {
        f"coverage_{share}": Interval(mean=inside, low=inside - 1.96 * error, high=inside + 1.96 * error),
        f"width_{share}": Interval(mean=width, low=width - 1.96 * spread, high=width + 1.96 * spread),
    }


def _of_spans(judged: Predictor, late: Dataset) -> dict[str, Interval]:
    """Of a time to an event: P(happened by the middle of the window) beside how often it had."""
    if not isinstance(judged.model, Hazard):
        return {}
    bought = judged.model.bought(late.matrix(judged.features))
    most = judged.recipe.horizon / timedelta(days=1)
    found = {}
    for span in (0, len(judged.model.ends) // 2 - 1, len(judged.model.ends) - 1):
        end = judged.model.ends[span]
        happened = ((late.labels <= end) & (late.labels < most)).astype(np.float64)
        gap = bought[:, span] - happened
        mean, error = mean_by_user(gap, late.frame["user"].to_numpy())
        found[f"bias_by_day_{end:.0f}"] = Interval(
            mean=mean, low=mean - 1.96 * error, high=mean + 1.96 * error
        )
    return found


def _segments(
    late: Dataset,
    predicted: Floats,
    better: Floats,
    last: Floats,
    seed: int,
    given: pl.DataFrame | None,
    recipe: ModelRecipe,
    inside: Floats | None,
) -> tuple[Segment, ...]:
    """By the last value, and by the declared labels."""
    labels = {"last value": _levels(last)}
    if given is not None:
        told = late.frame.select("user").join(given, on="user", how="left", maintain_order="left")
        for field in given.columns:
            if field != "user":
                labels[field] = told[field].cast(pl.String).fill_null("not known").to_numpy()
    users, y = late.frame["user"].to_numpy(), late.labels
    name, metric = next(iter(metrics_of(recipe).items()))
    found = []
    for field, label in labels.items():
        for each in np.unique(label):
            own = label == each
            if own.sum() < _FEWEST:
                continue
            figure = readout(
                y[own], predicted[own], {name: metric}, seed=seed, users=users[own], resamples=100
            )
            mean, error = mean_by_user(better[own], users[own])
            found.append(
                Segment(
                    field=field,
                    label=str(each),
                    rows=int(own.sum()),
                    found=float(y[own].mean()),
                    foreseen=float(predicted[own].mean()),
                    figure=figure[name],
                    better=Interval(mean=mean, low=mean - 1.96 * error, high=mean + 1.96 * error),
                    covered=None if inside is None else float(inside[own].mean()),
                )
            )
    return tuple(found)


def _levels(last: Floats) -> NDArray[np.str_]:
    """Few values as they are; many as none, and thirds of the others."""
    if len(np.unique(last)) <= 3:
        return np.array([f"{each:g}" for each in last])
    some = last[last > 0]
    low, high = np.quantile(some, [1 / 3, 2 / 3])
    return np.select(
        [last <= 0, last <= low, last <= high],
        ["none", f"up to {low:.0f}", f"up to {high:.0f}"],
        f"above {high:.0f}",
    )
