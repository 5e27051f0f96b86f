"""Would the model have chosen better? Planned as of past dates, compared with what then happened.

Redemptions are seen only for users who were really reached, so all that can be compared is the order
of the recipients of each later offer: at the same number of coupons, how many of those who responded
would have been among the chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernel.errors import BadInput
from kernel.events import OFFER
from kernel.learning import Interval, ModelRecipe
from kernel.randomness import derive_seed
from models.baselines import rfm_score
from models.datasets import response_dataset, response_rows
from models.history import History
from models.training import fit

Floats = NDArray[np.float64]
#: part of an offer's recipients that would have been chosen
SHARE = 0.2
_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class BackTest:
    """Lift over random of each way to choose, and the model's over RFM, with 95 % intervals."""

    #: part of each offer's recipients chosen
    share: float
    #: one row a plan date × user × offer: plan, user, offer, model, rfm, responded
    rows: pl.DataFrame
    #: one row a plan date: offers, recipients, responders, lift_model, lift_rfm, auc figures
    dates: pl.DataFrame
    #: pooled: `model`, `rfm` over random; `model_over_rfm` their ratio
    lift: dict[str, Interval]
    #: pooled over dates and offers, within-offer AUC
    auc: dict[str, Interval]


def back_test(
    history: History, plans: Sequence[datetime], recipe: ModelRecipe, *, ahead: timedelta, seed: int
) -> BackTest:
    """Ranks the recipients of the offers that began in (plan, plan + ahead] with nothing known after plan.

    Raises BadInput when no plan date has a later offer to compare with.
    """
    folds = [_fold(history, plan, recipe, ahead, seed) for plan in plans]
    rows = (
        pl.concat([fold for fold in folds if fold is not None]) if any(f is not None for f in folds) else None
    )
    if rows is None:
        raise BadInput("has no offer in the weeks after it to compare with", field="plan dates")
    pooled = ranking_figures(rows, seed)
    dates = [
        {
            "plan": plan,
            "offers": part[OFFER].n_unique(),
            "recipients": part.height,
            "responders": int(part["responded"].sum()),
            **{name: value.mean for name, value in ranking_figures(part, seed, resamples=0).items()},
        }
        for (plan,), part in rows.group_by("plan", maintain_order=True)
    ]
    return BackTest(
        share=SHARE,
        rows=rows,
        dates=pl.DataFrame(dates),
        lift={name: pooled[f"lift_{name}"] for name in ("model", "rfm", "model_over_rfm")},
        auc={name: pooled[f"auc_{name}"] for name in ("model", "rfm")},
    )


def _fold(
    history: History, plan: datetime, recipe: ModelRecipe, ahead: timedelta, seed: int
) -> pl.DataFrame | None:
    offers = history.offers().filter((pl.col("at") > plan) & (pl.col("at") <= plan + ahead)).sort("at", OFFER)
    if offers.is_empty():
        return None
    treatments, responses = history.contacts()
    data = response_dataset(history, plan, recipe)
    predictor = fit(data, recipe, derive_seed(seed, "back-test", plan))
    targets = treatments.join(offers.select(OFFER), on=OFFER, how="semi").select("user", OFFER).unique()
    # recipients without a purchase yet are known to no rule: they stay, with missing features
    rows = response_rows(history, targets.sort("user", OFFER), offers, plan, recipe)
    answered = responses.select("user", OFFER, pl.lit(1.0).alias("responded")).unique()
    rows = rows.join(answered, on=["user", OFFER], how="left", maintain_order="left")
    return rows.select(
        pl.lit(plan).alias("plan"),
        "user",
        OFFER,
        pl.Series("model", predictor.predict(rows)),
        pl.Series("rfm", rfm_score(rows, recipe.history[-1])),
        pl.col("responded").fill_null(0.0),
    )


def ranking_figures(
    rows: pl.DataFrame, seed: int, names: Sequence[str] = ("model", "rfm"), resamples: int = _RESAMPLES
) -> dict[str, Interval]:
    """`lift_NAME` and `auc_NAME` of each score over all (plan, offer) groups, and `lift_FIRST_over_NAME`.

    The bootstrap draws users, with all their rows. `rows`: plan, user, offer, responded, one column a score.
    """
    groups = rows.select(pl.struct("plan", OFFER).rank("dense").cast(pl.Int64) - 1).to_series().to_numpy()
    users = rows.select(pl.col("user").rank("dense").cast(pl.Int64) - 1).to_series().to_numpy()
    y = rows["responded"].to_numpy()
    ranked = {name: _Ranked.of(groups, rows[name].to_numpy()) for name in names}
    rng = np.random.default_rng(derive_seed(seed, "back-test"))
    count = int(users.max()) + 1
    exact = _all(groups, y, ranked, np.ones(len(y)))
    draws = [
        _all(groups, y, ranked, rng.multinomial(count, np.full(count, 1 / count))[users].astype(float))
        for _ in range(resamples)
    ]
    found = {}
    for name, value in exact.items():
        low, high = np.nanpercentile([draw[name] for draw in draws], [2.5, 97.5]) if draws else (value, value)
        found[name] = Interval(mean=value, low=float(low), high=float(high))
    return found


@dataclass(frozen=True, kw_only=True)
class _Ranked:
    """Rows by group and falling score; rows that tie are a block, which shares its places evenly."""

    order: NDArray[np.int64]
    #: block of each row in that order
    block: NDArray[np.int64]
    #: first row of each block, and its group
    first: NDArray[np.int64]
    owner: NDArray[np.int64]

    @staticmethod
    def of(groups: NDArray[np.int64], score: Floats) -> _Ranked:
        order = np.lexsort((-score, groups))
        g, s = groups[order], score[order]
        begins = np.concatenate([[True], (np.diff(g) != 0) | (np.diff(s) != 0)])
        first = np.flatnonzero(begins)
        return _Ranked(order=order, block=np.cumsum(begins) - 1, first=first, owner=g[first])


def _all(
    groups: NDArray[np.int64], y: Floats, ranked: dict[str, _Ranked], weight: Floats
) -> dict[str, float]:
    """Responders among the chosen share of each group over those expected at random; and AUC."""
    size = np.bincount(groups, weight)
    hits = np.bincount(groups, weight * y)
    random = float((SHARE * hits).sum())
    pairs = float((hits * (size - hits)).sum())
    before_group = np.cumsum(size) - size
    found: dict[str, float] = {}
    for name, each in ranked.items():
        w = weight[each.order]
        mass, tied = np.bincount(each.block, w), np.bincount(each.block, w * y[each.order])
        before = mass.cumsum() - mass - before_group[each.owner]
        seats = SHARE * size[each.owner]
        taken = np.clip((seats - before) / np.maximum(mass, 1e-12), 0.0, 1.0)
        found[f"lift_{name}"] = float((taken * tied).sum() / max(random, 1e-12))
        misses = mass - tied
        below = np.bincount(each.owner, misses)[each.owner] - _running(each.owner, misses) - misses
        won = (tied * (below + misses / 2)).sum()
        found[f"auc_{name}"] = float(won / max(pairs, 1e-12))
    first, *others = ranked
    for name in others:
        found[f"lift_{first}_over_{name}"] = found[f"lift_{first}"] / max(found[f"lift_{name}"], 1e-12)
    return found


def _weighted(
    groups: NDArray[np.int64], y: Floats, scores: dict[str, Floats], weight: Floats
) -> dict[str, float]:
    """`_all` of scores that are not ranked yet."""
    return _all(groups, y, {name: _Ranked.of(groups, score) for name, score in scores.items()}, weight)


def _running(owner: NDArray[np.int64], mass: NDArray[Any]) -> NDArray[Any]:
    """Sum of `mass` before each entry within its owner."""
    total = np.cumsum(mass) - mass
    first = np.unique(owner, return_index=True)[1]
    return np.asarray(total - total[first][np.searchsorted(owner[first], owner)])
