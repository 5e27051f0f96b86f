"""Training frames: features as of an instant, labels from the time after it, never mixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernel.clock import parse_window
from kernel.errors import BadInput
from kernel.events import OFFER
from kernel.learning import ModelRecipe
from models.exact_sums import exact_sum
from models.feature_batch import STEADY
from models.feature_check import check_rows, check_trainable
from models.features import declared_in, offer_features, recipe_features, usual_of
from models.history import History

#: columns of a dataset that are no features
KEYS = ("user", OFFER, "at", "label")
#: fewest examples, and fewest of the rarer label, that a model is learned from
FEWEST_ROWS, FEWEST_LABELS = 50, 10


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Rows of `user`, `at` (features know nothing later), maybe `offer`, `label`, then features."""

    frame: pl.DataFrame
    #: no label looks past this instant
    as_of: datetime
    #: columns that only baselines look at, not the model
    hidden: frozenset[str] = frozenset()

    @property
    def features(self) -> list[str]:
        return [name for name in self.frame.columns if name not in KEYS and name not in self.hidden]

    @property
    def labels(self) -> NDArray[np.float64]:
        return self.frame["label"].to_numpy().astype(np.float64)

    def matrix(self, features: Sequence[str]) -> NDArray[np.float64]:
        """Rows × features; missing is NaN."""
        return matrix(self.frame, features)

    def split(self, share: float) -> tuple[Dataset, Dataset]:
        """Earlier and later: the later part holds at least `share` of the rows, cut between instants."""
        instants = self.frame.group_by("at").len().sort("at", descending=True)
        after = instants.with_columns(pl.col("len").cum_sum()).filter(
            pl.col("len") >= share * self.frame.height
        )
        if instants.height < 2 or after.is_empty():
            raise BadInput("cannot be split by time: all rows are of one instant", field="dataset")
        cut = max(after["at"][0], instants["at"].sort()[1])
        early, late = (self.frame.filter(side) for side in (pl.col("at") < cut, pl.col("at") >= cut))
        return self.of(early), self.of(late)

    def of(self, frame: pl.DataFrame) -> Dataset:
        """Other rows of the same kind."""
        return replace(self, frame=frame)


def matrix(frame: pl.DataFrame, features: Sequence[str]) -> NDArray[np.float64]:
    """Rows × features as floats; missing is NaN. Raises BadInput for a feature that is not there."""
    for name in features:
        if name not in frame.columns:
            raise BadInput("is a feature of the model and missing from the frame", field=name)
    return frame.select(pl.col(list(features)).cast(pl.Float64).fill_null(float("nan"))).to_numpy()


def response_rows(
    history: History, targets: pl.DataFrame, offers: pl.DataFrame, as_of: datetime, recipe: ModelRecipe
) -> pl.DataFrame:
    """Features of user × offer as of `as_of`: `targets` (user, offer), `offers` (offer, traits)."""
    longest = recipe.history[-1]
    people = recipe_features(history, as_of, recipe)
    affinity = offer_features(history, offers[OFFER].to_list(), as_of, longest)
    frame = (
        targets.select("user", OFFER)
        .join(people, on="user", how="left", maintain_order="left")
        .join(affinity, on=["user", OFFER], how="left", maintain_order="left")
        .join(trait_features(history, offers, as_of), on=OFFER, how="left", maintain_order="left")
    )
    near = [name for name in frame.columns if name.startswith("affinity_")]
    # affinity is a sum over the window, the user's own amount a weekly rate: only their order matters
    share = pl.col("affinity_amount") / (pl.col(f"amount_{longest}").fill_null(0) + 0.1)
    return frame.with_columns(pl.col(near).fill_null(0)).with_columns(
        share.alias("affinity_share"), pl.lit(as_of).alias("at")
    )


def trait_features(history: History, offers: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """offer, then its traits as numbers: text traits one column a known label."""
    frame = offers.select(OFFER)
    for name in history.traits:
        if offers.schema[name].is_numeric():
            frame = frame.with_columns(offers[name].cast(pl.Float64).alias(f"trait_{name}"))
            continue
        treatments = history.contacts()[0].filter(pl.col("at") <= as_of)
        labels = sorted(str(each) for each in treatments[name].drop_nulls().unique())
        for label in labels[:20]:
            is_it = (offers[name].cast(pl.String) == label).cast(pl.Float64)
            frame = frame.with_columns(is_it.alias(f"trait_{name}_{label.replace(' ', '_')}"))
    if history.offer_items is not None:
        sizes = history.offer_items.group_by(OFFER).agg(pl.col("item").n_unique().alias("offer_items"))
        frame = frame.join(sizes, on=OFFER, how="left", maintain_order="left")
    return frame


def response_dataset(history: History, as_of: datetime, recipe: ModelRecipe) -> Dataset:
    """One row a user × offer received and matured before `as_of`; label: responded by then."""
    check_trainable(declared_in(recipe))
    known = history.until(as_of)
    offers = known.offers().filter(pl.col("at") <= as_of - parse_window(recipe.matured)).sort("at", OFFER)
    treatments, responses = known.contacts()
    parts = []
    for (at,), same in offers.group_by("at", maintain_order=True):
        targets = treatments.join(same.select(OFFER), on=OFFER, how="semi").select("user", OFFER)
        rows = _response_part(history, targets.unique().sort("user", OFFER), same, at, recipe)
        parts.append(rows)
    if not parts:
        raise BadInput("has no offers old enough to learn from", field="as_of", value=as_of.isoformat())
    frame = _labelled(pl.concat(parts, how="diagonal_relaxed"), responses, offers, recipe)
    return _checked(frame, as_of, "response", _hidden(history, recipe))


def response_outcomes(history: History, at: datetime, recipe: ModelRecipe) -> pl.DataFrame:
    """Rows as above of the offers first received at `at`, labelled by all that `history` knows."""
    offers = history.offers().filter(pl.col("at") == at).sort("offer")
    treatments, responses = history.contacts()
    targets = treatments.join(offers.select(OFFER), on=OFFER, how="semi").select("user", OFFER)
    rows = _response_part(history, targets.unique().sort("user", OFFER), offers, at, recipe)
    return _labelled(rows, responses, offers, recipe)


def _labelled(
    rows: pl.DataFrame, responses: pl.DataFrame, offers: pl.DataFrame, recipe: ModelRecipe
) -> pl.DataFrame:
    """label 1: a response within the window after the offer was first received, else 0."""
    answered = responses.join(offers.select(OFFER, pl.col("at").alias("start")), on=OFFER)
    answered = answered.filter(
        (pl.col("at") >= pl.col("start")) & (pl.col("at") <= pl.col("start") + recipe.horizon)
    ).select("user", OFFER, pl.lit(1.0).alias("label"))
    found = rows.join(answered.unique(), on=["user", OFFER], how="left", maintain_order="left")
    return found.with_columns(pl.col("label").fill_null(0.0))


def _response_part(
    history: History, targets: pl.DataFrame, offers: pl.DataFrame, at: datetime, recipe: ModelRecipe
) -> pl.DataFrame:
    declared = declared_in(recipe)
    own = None if declared is None else declared.fingerprint
    key = ("response", at, recipe.history, own, tuple(offers[OFFER].to_list()), targets.height)
    return history.remember(key, lambda: response_rows(history, targets, offers, at, recipe))


def horizon_dataset(history: History, as_of: datetime, recipe: ModelRecipe) -> Dataset:
    """One row a user × instant: label is money spent (spend) or no purchase at all (churn) in the window.

    Instants go back from `as_of - within` by `every`, as long as there is as much history before them
    as the window is long.
    """
    check_trainable(declared_in(recipe))
    known = history.until(as_of)
    parts = []
    at = as_of - recipe.horizon
    while at - recipe.horizon >= history.begin:
        rows = recipe_features(history, at, recipe).with_columns(pl.lit(at).alias("at"))
        inside = known.purchases.filter((pl.col("at") > at) & (pl.col("at") <= at + recipe.horizon))
        spent = inside.group_by("user").agg(exact_sum(pl.col("amount")).alias("label")).with_columns(STEADY)
        rows = rows.join(spent, on="user", how="left", maintain_order="left")
        if recipe.predicts == "churn":
            rows = rows.with_columns(pl.col("label").is_null().cast(pl.Float64))
        parts.append(rows.with_columns(pl.col("label").fill_null(0.0)))
        at -= parse_window(recipe.every)
    if not parts:
        raise BadInput(
            f"leaves too little history: {recipe.name} needs twice {recipe.within} of purchases",
            field="as_of",
            value=as_of.isoformat(),
        )
    frame = pl.concat(parts, how="diagonal_relaxed").sort("at", "user")
    return _checked(frame, as_of, recipe.predicts, _hidden(history, recipe))


def _hidden(history: History, recipe: ModelRecipe) -> frozenset[str]:
    """The usual features, where a recipe's own set is to stand alone."""
    declared = declared_in(recipe)
    alone = declared is not None and not declared.usual
    return frozenset(usual_of(history, recipe.history).columns) if alone else frozenset()


def _checked(frame: pl.DataFrame, as_of: datetime, name: str, hidden: frozenset[str]) -> Dataset:
    if frame.height < FEWEST_ROWS:
        raise BadInput(f"has {frame.height} examples; {FEWEST_ROWS} are needed", field=f"dataset {name}")
    check_rows(frame, name, [key for key in KEYS[:3] if key in frame.columns])
    data = Dataset(frame=frame, as_of=as_of, hidden=hidden)
    check_labels(data, name)
    return data


def check_labels(data: Dataset, name: str) -> None:
    """Raises BadInput when there are too few of a kind to learn from or to judge by."""
    positive, rows = int(data.labels.sum()), data.frame.height
    if name != "spend" and min(positive, rows - positive) < FEWEST_LABELS:
        raise BadInput(
            f"has {positive} of {rows} positive; {FEWEST_LABELS} of each kind are needed",
            field=f"dataset {name}",
        )
