"""What policies earn on logs of uniform offers: progressive SNIPS of the net value, ours and peers'.

Each row is judged by the policy that has learned from the rows before it, a hundred at a time, and then
learned from, whatever the policy would have done: all contestants see the same. Swaminathan and Joachims,
The Self-Normalized Estimator for Counterfactual Learning, 2015.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmarks.bandits import CONTESTANTS, Contestant
from benchmarks.case import Case, Line
from benchmarks.offers import LOGS, Floats, Offers

TOGETHER = 100
OURS = "ours"


@dataclass(frozen=True, kw_only=True)
class Result:
    #: one a seed
    values: Floats
    seconds: float


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size` rows at most of each log, in five orders (two for a small size)."""
    seeds = range(seed, seed + (5 if size > 1000 else 2))
    return [line for name in LOGS for line in _of_log(name, size, seeds)]


def _of_log(name: str, size: int, seeds: range) -> list[Line]:
    logs = [log for each in seeds if (log := LOGS[name](size, each)) is not None]
    if not logs:
        return []
    results = {who: _result(who, logs, seeds) for who in CONTESTANTS}
    ours = results[OURS]
    peers = [who for who in results if not who.startswith("ours")]
    best = max(peers, key=lambda who: results[who].values.mean())
    rows = len(logs[0].rewards)
    single = np.array([max(_means(log)) for log in logs])
    return [
        Line(
            size=rows,
            who=who,
            ratio=float(result.values.mean() / ours.values.mean()),
            times=result.seconds / ours.seconds,
            seconds=result.seconds,
            notes={
                "log": name,
                "net value": _interval(result.values),
                "ours − its": "–" if who == OURS else _interval(ours.values - result.values),
                "best single action, in hindsight": f"{single.mean():.4f}",
                "best peer": "yes" if who == best else "",
            },
        )
        for who, result in results.items()
    ]


def _result(who: str, logs: list[Offers], seeds: range) -> Result:
    start = time.process_time()
    values = [progressive(CONTESTANTS[who](log, seed), log) for log, seed in zip(logs, seeds, strict=True)]
    return Result(values=np.array(values), seconds=time.process_time() - start)


def progressive(contestant: Contestant, log: Offers) -> float:
    """Σ P(what was offered) · reward ÷ Σ P(what was offered): the offers were uniform."""
    gained = weights = 0.0
    for start in range(0, len(log.rewards), TOGETHER):
        rows = np.arange(start, min(start + TOGETHER, len(log.rewards)))
        chances = contestant.chances(rows)
        gained += float(chances @ log.rewards[rows])
        weights += float(chances.sum())
        contestant.learn(rows)
    return gained / weights


def _means(log: Offers) -> list[float]:
    return [
        float(log.rewards[log.chosen == each].mean())
        for each in range(len(log.actions))
        if (log.chosen == each).sum() >= TOGETHER
    ] or [math.nan]


def _interval(values: Floats) -> str:
    reach = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return f"{values.mean():.4f} ± {reach:.4f}"


CASE = Case(
    about=(
        "Logs of offers drawn alike; ours is Ridge, with its defaults on every log. Net value = value of "
        "what came − cost of the offer, by progressive SNIPS over five orders of the log, with the 95 % "
        "interval of their mean (it tells what the order and the sampling of rows do, not whether other "
        "people would act alike). Hillstrom: a visit is worth 1, a mail costs 0.06. Open Bandit: the "
        "campaign `men`; a click is worth 1. Seconds are of the processor. Ours keeps 1 % for exploring, "
        "SquareCB, Thompson and Vowpal Wabbit 5 %, MABWiser and contextualbandits nothing unless a floor is "
        "named; exploring costs its part of the gain here, and buys what off-policy evaluation lives on. "
        "Defaults were chosen on other orders than these."
    ),
    measure="net value",
    sizes=(20_000,),
    smoke=400,
    run=run,
    packages=("vowpalwabbit", "mabwiser", "contextualbandits", "numpy"),
)
