"""How often will customers come back? CDNOW, beside BG/NBD.

The split is the literature's (Fader, Hardie & Lee 2005): 2,357 customers who first bought in the first
quarter of 1997, 39 weeks to learn from, 39 weeks to foresee. Features are of the first 39 weeks only. BG/NBD
learns from those alone; ours also from what other customers did later (ten folds of customers, each foreseen
from the other nine), so BG/NBD is shown scaled by the other customers' later level, too.
"""

from __future__ import annotations

import time
import warnings
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.case import Case, Line
from kernel.errors import BadInput
from models.evaluation import mean_by_user
from models.features import user_features
from models.history import History
from models.learners import Parameters, Setting, fit_two_part
from models.value_bgnbd import BetaGeoNbd, fit_bg_nbd, purchase_records

Floats = NDArray[np.float64]
CALIBRATION = datetime(1997, 9, 30, tzinfo=UTC)
AHEAD = 39.0
_FOLDS, _REPEATS = 10, 3


def purchases() -> pl.DataFrame:
    """user, at, event_id, amount: the sample that `lifetimes` ships."""
    spec = find_spec("lifetimes")
    if spec is None or spec.origin is None:
        raise BadInput("is not installed", field="lifetimes")
    text = (Path(spec.origin).parent / "datasets" / "CDNOW_sample.txt").read_text(encoding="utf-8")
    rows = [line.split() for line in text.splitlines() if line.strip()]
    frame = pl.DataFrame({"user": [int(row[1]) for row in rows], "amount": [float(row[4]) for row in rows]})
    days = pl.Series("at", [datetime.strptime(row[2], "%Y%m%d").replace(tzinfo=UTC) for row in rows])
    at = days.cast(pl.Datetime("us", "UTC"))
    return frame.with_columns(at, event_id=pl.int_range(pl.len())).select("user", "at", "event_id", "amount")


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size` customers; all of them are 2,357."""
    everything = purchases()
    kept = everything["user"].unique().sort().sample(min(size, 2357), seed=seed)
    everything = everything.filter(pl.col("user").is_in(kept.implode()))
    until = pl.col("at") <= CALIBRATION
    records = purchase_records(everything.filter(until), CALIBRATION)
    later = everything.filter(~until & (pl.col("at") <= CALIBRATION + timedelta(weeks=AHEAD)))
    counted = later.group_by("user").agg(pl.col("at").n_unique().alias("y"))
    y = records.join(counted, on="user", how="left", maintain_order="left")["y"].fill_null(0).to_numpy()
    y = y.astype(np.float64)
    x, tx, t = (records[name].to_numpy() for name in ("x", "tx", "t"))

    begin = time.perf_counter()
    fitted = fit_bg_nbd(x, tx, t)
    expected = fitted.expected(x, tx, t, AHEAD)
    plain = time.perf_counter() - begin
    begin = time.perf_counter()
    theirs = _lifetimes(x, tx, t)
    peer = time.perf_counter() - begin
    begin = time.perf_counter()
    usual = _usual(everything.filter(until))
    features = np.column_stack([usual, _posterior(fitted, x, tx, t)])
    repeats = 1 if size < 1000 else _REPEATS
    stacked = (_crossed(features, y, seed, repeats) + expected) / 2
    ours = time.perf_counter() - begin
    begin = time.perf_counter()
    alone = _crossed(usual, y, seed, repeats)
    without = time.perf_counter() - begin
    found = {
        "ours": (stacked, ours),
        "ours, without BG/NBD": (alone, without),
        "BG/NBD, ours": (expected, plain),
        "BG/NBD, lifetimes": (theirs, peer),
        "BG/NBD at the others' later level": (_scaled(expected, y, seed), plain),
        "last value": (x, 0.0),
        "average of the others": (_scaled(np.ones(len(y)), y, seed), 0.0),
    }
    return [_line(len(y), name, p, spent, y, found) for name, (p, spent) in found.items()]


def _line(
    size: int, name: str, p: Floats, spent: float, y: Floats, found: dict[str, tuple[Floats, float]]
) -> Line:
    best, ours = found["ours"]
    users = np.arange(len(y))
    squares, error = mean_by_user(np.square(y - p) - np.square(y - best), users)
    unlikely, spread = mean_by_user(_deviance(y, p) - _deviance(y, best), users)
    return Line(
        size=size,
        who=name,
        ratio=_rmse(y, p) / _rmse(y, best),
        times=spent / max(ours, 1e-9),
        seconds=spent,
        notes={
            "root mean square": f"{_rmse(y, p):.4f}",
            "ours is better by, standard errors": "" if p is best else f"{squares / error:+.1f}",
            "Poisson deviance": f"{_deviance(y, p).mean():.3f}",
            "in deviance by, standard errors": "" if p is best else f"{unlikely / spread:+.1f}",
            "absolute error of whole numbers": f"{np.abs(y - np.floor(p)).mean():.4f}",
            "mean absolute": f"{np.abs(y - p).mean():.4f}",
            "foreseen / found": f"{p.mean() / y.mean():.2f}",
        },
    )


def _rmse(y: Floats, p: Floats) -> float:
    return float(np.sqrt(np.square(y - p).mean()))


def _deviance(y: Floats, p: Floats) -> Floats:
    p = np.maximum(p, 1e-2)
    return np.asarray(2 * (np.where(y > 0, y * np.log(np.maximum(y, 1) / p), 0.0) - (y - p)))


def _usual(known: pl.DataFrame) -> Floats:
    rows = user_features(History(purchases=known), CALIBRATION, ("28d", "84d", "182d")).sort("user")
    names = [name for name in rows.columns if name != "user"]
    return rows.select(pl.col(names).cast(pl.Float64).fill_null(float("nan"))).to_numpy()


def _posterior(fitted: BetaGeoNbd, x: Floats, tx: Floats, t: Floats) -> Floats:
    """What BG/NBD knows of a customer: expectation, life, and the numbers that it looks at."""
    return np.column_stack([x, tx, t, t - tx, fitted.expected(x, tx, t, AHEAD), fitted.alive(x, tx, t)])


def _crossed(features: Floats, y: Floats, seed: int, repeats: int) -> Floats:
    """Each customer foreseen from others only, made right in the mean of those; several ways to fold."""
    names = [f"f{place}" for place in range(features.shape[1])]
    setting = Setting(parameters=Parameters(bags=2))
    told = np.zeros(len(y))
    for repeat in range(repeats):
        fold = np.random.default_rng([seed, repeat]).permutation(len(y)) % _FOLDS
        for each in range(_FOLDS):
            seen = fold != each
            model = fit_two_part(features[seen], y[seen], names, seed, setting)
            right = y[seen].sum() / max(model.predict(features[seen]).sum(), 1e-9)
            told[~seen] += model.predict(features[~seen]) * right
    return told / repeats


def _scaled(p: Floats, y: Floats, seed: int) -> Floats:
    fold = np.random.default_rng([seed, 0]).permutation(len(y)) % _FOLDS
    told = np.empty(len(y))
    for each in range(_FOLDS):
        seen = fold != each
        told[~seen] = p[~seen] * y[seen].sum() / p[seen].sum()
    return told


def _lifetimes(x: Floats, tx: Floats, t: Floats) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lifetimes import BetaGeoFitter

        fitter = BetaGeoFitter(penalizer_coef=0.0)
        fitter.fit(x, tx, t)
        told = fitter.conditional_expected_number_of_purchases_up_to_time(AHEAD, x, tx, t)
    return np.asarray(told, dtype=np.float64)


CASE = Case(
    about=(
        "Repeat purchases of CDNOW's customers in weeks 40 to 78, from weeks 1 to 39. Ours: the mean of "
        "BG/NBD's expectation and a two-part model of the usual features and of what BG/NBD knows, each "
        "customer foreseen from the other nine tenths. An expectation is judged by squared error and by "
        "Poisson deviance (paired over customers); a mean absolute error rewards saying 0, so it is also "
        "given for whole numbers."
    ),
    measure="root mean square error",
    sizes=(2_357,),
    smoke=300,
    run=run,
    packages=("lifetimes", "lightgbm", "numpy", "scipy"),
)
