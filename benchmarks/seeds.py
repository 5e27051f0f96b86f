"""Ten instances and ten searches: whether one figure was luck. Median, least and greatest of each."""

from __future__ import annotations

import numpy as np

from benchmarks.campaigns import PER_USER
from benchmarks.case import Case, Line
from benchmarks.crowd import crowd
from conflict.reply import Here
from conflict.solve import solve

SEEDS = 10
#: seconds each search is let go on at most, and the gap at which it stops, by candidates
ASKED = {100_000: (5.0, 7e-6), 1_000_000: (8.0, 5e-7), 10_000_000: (10.0, 5e-8)}


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """Plain and tied, each with the limits scaled to the size, a seed for the instance and the search."""
    return [_line(size, seed, seconds, tied) for tied in (False, True)]


def _line(size: int, seed: int, seconds: float, tied: bool) -> Line:
    most, asked = ASKED.get(size, (1.0, 1e-4))
    gaps, prices, took = [], [], []
    for each in range(seed, seed + (SEEDS if size in ASKED else 2)):
        problem, _ = crowd(max(size // PER_USER, 1), each, tied=tied)
        found = solve(Here(problem=problem), seconds=min(most, seconds), gap=asked, seed=each)
        known = np.isfinite(found.objective)
        gaps.append((found.bound - found.objective) / max(abs(found.objective), 1e-9) if known else np.inf)
        prices.append(float(str(found.method.get("prices_seconds", np.nan))))
        took.append(found.trace[-1][0] if found.trace else most)
    return Line(
        size=size,
        who="ours, values and costs in steps" if tied else "ours",
        ratio=1.0,
        times=1.0,
        seconds=float(np.median(took)),
        notes={
            "seeds": len(gaps),
            "let go on, s": most,
            "gap": _three(gaps, ".1e"),
            "reached": f"{asked:.0e}: {sum(gap <= asked for gap in gaps)} of {len(gaps)}",
            "prices after s": _three(prices, ".2f"),
            "last gain after s": _three(took, ".1f"),
        },
    )


def _three(values: list[float], form: str) -> str:
    return f"{np.median(values):{form}} ({min(values):{form}} – {max(values):{form}})"


CASE = Case(
    about="Campaigns as in `scale`, ten instances each: median (least – greatest).",
    measure="objective",
    sizes=tuple(ASKED),
    smoke=4_000,
    run=run,
    packages=("ortools", "numba", "numpy"),
)
