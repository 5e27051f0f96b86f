"""Off-policy estimates of one policy from the other's log, against that policy's own mean.

Where `obp` is not installed, a simulated log with a known truth is judged alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.case import Case, Line
from benchmarks.open_bandit import CAMPAIGNS, folder, impressions, target
from kernel.learning import Interval
from kernel.randomness import derive_seed
from realtime.offpolicy import ESTIMATORS, LoggedChoices, evaluate

#: bootstrapped logs, as many as the published figures rest on
RUNS = 20
OURS = "dr"
#: (campaign, log, judged) → estimator → error ± deviation, published for this very sample: the dataset's own
#: repository, examples/obd, logistic regression as reward model, 20 runs. The paper's tables are for
#: the full set of 26 million rows, whose errors are not those of 10,000
PUBLISHED = {("all", "random", "bts"): {"dm": "0.180 ± 0.115", "ips": "0.333 ± 0.350", "dr": "0.304 ± 0.348"}}


def resampled(log: LoggedChoices, rng: np.random.Generator) -> LoggedChoices:
    rows = rng.integers(0, len(log.rewards), len(log.rewards))
    return replace(
        log,
        rewards=log.rewards[rows],
        chosen=log.chosen[rows],
        propensities=log.propensities[rows],
        target=log.target[rows],
        contexts=log.contexts[rows],
    )


def judged(
    label: str,
    log: LoggedChoices,
    truth: float,
    noise: float,
    *,
    runs: int,
    seed: int,
    published: dict[str, str],
) -> list[Line]:
    """One line an estimator: its relative errors over bootstrapped logs, and its estimate on the log
    itself. `noise`: standard error of the truth, where that is a mean of its own."""
    rng, result = np.random.default_rng(derive_seed(seed, "resampled", label)), evaluate(log)
    errors: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    begun = time.perf_counter()
    for _ in range(runs):
        # rows that were drawn twice stand in both halves, and would foretell themselves
        again = evaluate(resampled(log, rng), ridge=result.ridge)
        for name in ESTIMATORS:
            errors[name].append(abs(getattr(again, name).mean - truth) / truth)
    seconds = (time.perf_counter() - begun) / runs
    ours = float(np.mean(errors[OURS]))
    lines = []
    for name in (OURS, *(each for each in ESTIMATORS if each != OURS)):
        interval = getattr(result, name)
        mean, deviation = float(np.mean(errors[name])), float(np.std(errors[name]))
        lines.append(
            Line(
                size=len(log.rewards),
                who=f"{label}: {name}",
                ratio=mean / ours,
                times=1.0,
                seconds=seconds,
                notes={
                    "relative error": f"{mean:.3f} ± {deviation:.3f}",
                    "published": published.get(name, "–"),
                    "estimate": f"{interval.mean:.5f} [{interval.low:.5f}, {interval.high:.5f}]",
                    "its own mean": f"{truth:.5f} ± {noise:.5f}",
                    "agree": "yes" if _agree(interval, truth, noise) else "no",
                    "effective": round(result.effective),
                    "largest weight": round(result.largest, 1),
                    "warning": result.warning or "–",
                },
            )
        )
    return lines


def _agree(interval: Interval, truth: float, noise: float) -> bool:
    """Are the two apart by no more than both their errors allow, at the interval's level?"""
    reach = (interval.high - interval.low) / 2
    return abs((interval.low + interval.high) / 2 - truth) <= float(np.hypot(reach, 1.96 * noise))


def simulated(size: int, seed: int) -> tuple[LoggedChoices, float]:
    """Rare clicks on ten actions under a soft policy; the target prefers what the log hardly shows."""
    rng = np.random.default_rng(derive_seed(seed, "simulated"))
    planted = rng.normal(size=(3, 4, 10))

    def soft(scores: np.ndarray) -> np.ndarray:
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def chances(contexts: np.ndarray) -> np.ndarray:
        return np.asarray(0.05 / (1 + np.exp(-contexts @ planted[0])))

    many = rng.normal(size=(200_000, 4))
    truth = float((soft(many @ planted[1]) * chances(many)).sum(axis=1).mean())
    contexts = rng.normal(size=(size, 4))
    logging, rows = soft(0.7 * contexts @ planted[2]), np.arange(size)
    chosen = (rng.random((size, 1)) > logging.cumsum(axis=1)).sum(axis=1).clip(max=9)
    log = LoggedChoices(
        rewards=(rng.random(size) < chances(contexts)[rows, chosen]).astype(np.float64),
        chosen=chosen,
        propensities=logging[rows, chosen],
        target=soft(contexts @ planted[1]),
        contexts=contexts,
    )
    return log, truth


def real(root: Path, size: int, runs: int, seed: int) -> list[Line]:
    lines = []
    for campaign in CAMPAIGNS:
        for source, other in (("random", "bts"), ("bts", "random")):
            own = impressions(root, other, campaign).clicks
            log = impressions(root, source, campaign).under(target(root, other, campaign, seed))
            if size < len(log.rewards):
                continue
            lines += judged(
                f"{campaign}, {source} → {other}",
                log,
                float(own.mean()),
                float(own.std(ddof=1) / np.sqrt(len(own))),
                runs=runs,
                seed=seed,
                published=PUBLISHED.get((campaign, source, other), {}),
            )
    return lines


def run(size: int, seed: int, _seconds: float, *, where: Callable[[], Path | None] = folder) -> list[Line]:
    root, runs = where(), RUNS if size >= 10_000 else 2
    log, truth = simulated(size, seed)
    lines = judged("simulated", log, truth, 0.0, runs=runs, seed=seed, published={})
    if root is not None:
        lines += real(root, size, runs, seed)
    return [replace(lines[0], who="ours"), *lines[1:]]


CASE = Case(
    about="A policy's value from another's log: relative errors over 20 bootstrapped logs (mean ± standard "
    "deviation). Simulated with a known truth (`ours` is its DR), and on the Open Bandit Dataset's sample, "
    "where each policy is judged from the other's log against its own mean, which itself is known to 12 to "
    "16 % only.",
    measure="relative error of DR on the same log",
    sizes=(10_000,),
    smoke=500,
    run=run,
    packages=("numpy", "polars"),
)
