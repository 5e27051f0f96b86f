"""Whom does an e-mail bring to the shop? Qini on Hillstrom's randomised test, ours and peers' learners.

Every contestant sees the same 70 % of the users and is judged on the same 30 %, by one scorer, in as many
splits as seeds. Peers' learners have LightGBM with the settings that suit the data (60 trees, 7 leaves,
200 users a leaf), or a logistic regression. A package that is not installed is left out, and said so; the
learners that such packages have (T, X, DR) are written out as their papers have them.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
import polars as pl
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.case import Case, Line
from benchmarks.offers import HILLSTROM, Floats
from benchmarks.uplift_worlds import WORLDS
from models.qini import qini
from models.uplift import KINDS, STACK, Uplift
from models.uplift_evidence import evaluate_uplift

OURS = "ours"
SPLITS, HELD_OUT = 20, 0.3
MAILS = {"women's mail": "Womens E-Mail", "men's mail": "Mens E-Mail"}
_TREES = {
    "n_estimators": 60,
    "num_leaves": 7,
    "min_child_samples": 200,
    "learning_rate": 0.05,
    "n_jobs": 1,
    "verbose": -1,
}

#: (X, treated, y, X of those held out, seed) → their effects
Contestant = Callable[[Floats, Floats, Floats, Floats, int], Floats]


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size` users at most of each mail and none; two splits where they are few."""
    found = []
    for name in MAILS:
        users, treated, y = _mail(name, size, seed)
        splits = SPLITS if size > 5000 else 2
        found += _lines(name, users, treated, y, [1000 * seed + each for each in range(splits)])
    return found


def _mail(name: str, size: int, seed: int) -> tuple[pl.DataFrame, Floats, Floats]:
    """Users, treated, visits; a planted world where the data are not at hand."""
    if not HILLSTROM.exists():
        world = WORLDS["linear"](min(size, 4000), seed)
        return world.users, world.treatment.astype(float), (world.y > 0.5).astype(float)
    frame = pl.read_parquet(HILLSTROM).filter(pl.col("segment").is_in([MAILS[name], "No E-Mail"]))
    frame = frame.sample(min(size, frame.height), seed=seed, shuffle=True)
    labels = frame.select("zip_code", "channel").to_dummies()
    users = frame.select("recency", "history", "mens", "womens", "newbie").hstack(labels)
    treated = (frame["segment"] == MAILS[name]).to_numpy().astype(np.float64)
    return users, treated, frame["visit"].to_numpy().astype(np.float64)


def _lines(name: str, users: pl.DataFrame, treated: Floats, y: Floats, seeds: list[int]) -> list[Line]:
    x, arm, half = users.to_numpy().astype(np.float64), treated.astype(int), {"1": 0.5}
    values: dict[str, list[float]] = {}
    spent: dict[str, float] = {}
    let_through, least = 0, []
    for seed in seeds:
        late = np.random.default_rng(seed).random(len(y)) < HELD_OUT
        new = users.filter(late)
        start = time.process_time()
        fitted = Uplift(seed=seed).fit(users.filter(~late), arm[~late], y[~late], propensity=half)
        effects = {OURS: fitted.effects(new)[:, 0]}
        spent[OURS] = spent.get(OURS, 0.0) + time.process_time() - start
        found = evaluate_uplift(fitted, new, arm[late], y[late], seed=seed, propensity=half, resamples=2)
        let_through += found["1"].verdict.promote
        least.append(min(each.errors for each in found["1"].verdict.margins))
        for who, learn in contestants(users.columns, everyone=name == "women's mail").items():
            start = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                effects[who] = learn(x[~late], treated[~late], y[~late], x[late], seed)
            spent[who] = spent.get(who, 0.0) + time.process_time() - start
        for who, effect in effects.items():
            values.setdefault(who, []).append(qini(y[late], effect, treated[late]))
    ours = np.array(values[OURS])
    peers = {who: float(np.mean(each)) for who, each in values.items() if not who.startswith(OURS)}
    best = max(peers, key=lambda who: peers[who])
    gate = f"{let_through} of {len(seeds)}; least margin {np.median(least):.1f} standard errors at the median"
    return [
        Line(
            size=len(y),
            who=who,
            ratio=1.0 if who == OURS else _ratio(float(np.mean(each)), float(ours.mean())),
            times=1.0 if who == OURS else spent[who] / max(spent[OURS], 1e-9),
            seconds=spent[who],
            notes={
                "mail": name,
                "Qini": f"{np.mean(each):.4f} ± {_reach(np.array(each)):.4f}",
                "ours − its": "–" if who == OURS else _difference(ours - np.array(each)),
                "best peer": "yes" if who == best else "",
                "the gate lets through": gate if who == OURS else "",
            },
        )
        for who, each in values.items()
    ]


def _ratio(theirs: float, ours: float) -> float | None:
    """None where ours found nothing."""
    return theirs / ours if ours > 0 else None


def _reach(values: Floats) -> float:
    """Half of the 95 % interval of the mean over splits, which share users: of the splitting only."""
    return float(1.96 * values.std(ddof=1) / math.sqrt(len(values)))


def _difference(values: Floats) -> str:
    return f"{values.mean():.4f} ± {_reach(values):.4f}"


def contestants(names: list[str], *, everyone: bool) -> Mapping[str, Contestant]:
    """What ours is made of, and what is installed; or only what needs no package."""
    found: dict[str, Contestant] = {
        "response only (logistic)": _response,
        "plain T, logistic": _plain_t,
        "plain T, LightGBM": _plain_t_trees,
        "plain X, LightGBM": _plain_x,
        "plain DR, LightGBM": _plain_dr,
    }
    if not everyone:
        return found
    found |= {f"ours: {kind}": _ours(kind, names) for kind in KINDS if kind != STACK}
    for package, make in _PACKAGES.items():
        if find_spec(package) is not None:
            found |= make()
    return found


def _ours(kind: str, names: list[str]) -> Contestant:
    def learn(x: Floats, t: Floats, y: Floats, new: Floats, seed: int) -> Floats:
        learner = Uplift(kind=kind, seed=seed)
        fitted = learner.fit(pl.DataFrame(x, schema=names), t.astype(int), y, propensity={"1": 0.5})
        return fitted.effects(pl.DataFrame(new, schema=names))[:, 0]

    return learn


def _logistic() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))


def _response(x: Floats, t: Floats, y: Floats, new: Floats, seed: int) -> Floats:
    return np.asarray(_logistic().fit(x[t == 1], y[t == 1]).predict_proba(new)[:, 1])


def _plain_t(x: Floats, t: Floats, y: Floats, new: Floats, seed: int) -> Floats:
    arms = [_logistic().fit(x[t == arm], y[t == arm]).predict_proba(new)[:, 1] for arm in (0, 1)]
    return np.asarray(arms[1] - arms[0])


def _plain_t_trees(x: Floats, t: Floats, y: Floats, new: Floats, seed: int) -> Floats:
    """Two models (Künzel, Sekhon, Bickel, Yu 2019)."""
    arms = [LGBMClassifier(**_TREES, random_state=seed).fit(x[t == arm], y[t == arm]) for arm in (0, 1)]
    return np.asarray(arms[1].predict_proba(new)[:, 1] - arms[0].predict_proba(new)[:, 1])


def _plain_dr(x: Floats, t: Floats, y: Floats, new: Floats, seed: int) -> Floats:
    """Doubly robust scores, cross-fitted in two, and a regression on them (Kennedy 2023)."""
    half = np.random.default_rng(seed).random(len(y)) < 0.5
    scores = np.empty(len(y))
    for here in (half, ~half):
        rest = ~here
        m0, m1 = (
            LGBMClassifier(**_TREES, random_state=seed)
            .fit(x[rest & (t == arm)], y[rest & (t == arm)])
            .predict_proba(x[here])[:, 1]
            for arm in (0, 1)
        )
        told, own = np.where(t[here] == 1, m1, m0), 2 * t[here] - 1
        # mail was sent by a coin
        scores[here] = m1 - m0 + own * (y[here] - told) / 0.5
    return np.asarray(LGBMRegressor(**_TREES, random_state=seed).fit(x, scores).predict(new))


def _plain_x(x: Floats, t: Floats, y: Floats, new: Floats, seed: int) -> Floats:
    """As in the same paper."""
    outcome = [LGBMClassifier(**_TREES, random_state=seed).fit(x[t == arm], y[t == arm]) for arm in (0, 1)]
    gained = y[t == 1] - outcome[0].predict_proba(x[t == 1])[:, 1]
    missed = outcome[1].predict_proba(x[t == 0])[:, 1] - y[t == 0]
    effects = [
        LGBMRegressor(**_TREES, random_state=seed).fit(x[t == arm], each).predict(new)
        for arm, each in ((1, gained), (0, missed))
    ]
    return np.asarray((effects[0] + effects[1]) / 2)


def _sklift() -> dict[str, Contestant]:
    from sklift.models import ClassTransformation, SoloModel, TwoModels

    def of(make: Callable[[int], Any]) -> Contestant:
        def learn(x: Floats, t: Floats, y: Floats, new: Floats, seed: int) -> Floats:
            return np.asarray(make(seed).fit(x, y, t).predict(new))

        return learn

    def trees(seed: int) -> Any:
        return LGBMClassifier(**_TREES, random_state=seed)

    return {
        "scikit-uplift solo (S)": of(lambda seed: SoloModel(trees(seed))),
        "scikit-uplift two models (T)": of(lambda seed: TwoModels(trees(seed), trees(seed + 1))),
        "scikit-uplift class transformation": of(lambda seed: ClassTransformation(trees(seed))),
    }


def _causalml() -> dict[str, Contestant]:
    from causalml.inference.meta import BaseDRRegressor, BaseRRegressor, BaseTRegressor, BaseXRegressor

    def of(make: Any, known: bool) -> Contestant:
        def learn(x: Floats, t: Floats, y: Floats, new: Floats, seed: int) -> Floats:
            model = make(learner=LGBMRegressor(**_TREES, random_state=seed))
            half = {"p": np.full(len(y), 0.5)} if known else {}
            model.fit(X=x, treatment=t.astype(int), y=y, **half)
            asked = {"p": np.full(len(new), 0.5)} if known else {}
            return np.asarray(model.predict(X=new, **asked)).ravel()

        return learn

    return {
        "causalml T": of(BaseTRegressor, False),
        "causalml X": of(BaseXRegressor, True),
        "causalml R": of(BaseRRegressor, True),
        "causalml DR": of(BaseDRRegressor, True),
    }


def _econml() -> dict[str, Contestant]:
    from econml.dr import DRLearner
    from econml.metalearners import SLearner, XLearner

    def trees(seed: int) -> Any:
        return LGBMRegressor(**_TREES, random_state=seed)

    def of(make: Callable[[int], Any]) -> Contestant:
        def learn(x: Floats, t: Floats, y: Floats, new: Floats, seed: int) -> Floats:
            return np.asarray(make(seed).fit(y, t, X=x).effect(new)).ravel()

        return learn

    def half(seed: int) -> Any:
        return LogisticRegression(C=1e-4)

    return {
        "econml S": of(lambda seed: SLearner(overall_model=trees(seed))),
        "econml X": of(lambda seed: XLearner(models=trees(seed), propensity_model=half(seed))),
        "econml DR": of(
            lambda seed: DRLearner(
                model_propensity=half(seed),
                model_regression=trees(seed),
                model_final=trees(seed),
                random_state=seed,
            )
        ),
    }


#: package → what it brings
_PACKAGES: Mapping[str, Callable[[], dict[str, Contestant]]] = {
    "sklift": _sklift,
    "causalml": _causalml,
    "econml": _econml,
}


def _installed() -> str:
    there = [name for name in _PACKAGES if find_spec(name) is not None]
    absent = [name for name in _PACKAGES if name not in there]
    return f"Packages that ran: {', '.join(there) or 'none'}; not installed: {', '.join(absent) or 'none'}."


CASE = Case(
    about=(
        "Hillstrom's e-mail test (MineThatData, 2008): Qini of visits, in scikit-uplift's definition, on "
        "30 % of the users held out, 20 splits. Peers have LightGBM (60 trees, 7 leaves, 200 users a leaf) "
        f"or a logistic regression; plain ones are written out here. {_installed()} Ours is what one gets "
        "by default: of five learners the one that did best within the part learned from; they are told "
        "apart too. ± is the 95 % interval over splits, which share their users. Seconds are of the "
        "processor, all splits together."
    ),
    measure="Qini",
    sizes=(64_000,),
    smoke=400,
    run=run,
    packages=("lightgbm", "scikit-learn", "numpy"),
)
