"""Sizes that no frame holds: the allocator on compact columns, in 32 bits, up to a billion candidates."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.campaigns import PER_USER
from benchmarks.case import Case, Line
from benchmarks.crowd import crowd
from conflict.reply import Here, worth
from conflict.solve import solve


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """The search at `size` candidates, and at most at 100 M the same with values and costs in steps."""
    return [_line(size, seed, seconds, tied) for tied in ((False, True) if size <= 100_000_000 else (False,))]


def _line(size: int, seed: int, seconds: float, tied: bool) -> Line:
    # small ones go on for as long as they are let
    seconds = min(seconds, 15.0 if size <= 1_000_000 else 60.0 if size <= 10_000_000 else seconds)
    problem, _ = crowd(max(size // PER_USER, 1), seed, tied=tied)
    found = solve(Here(problem=problem), seconds=seconds, gap=1e-8 if not tied else 1e-7, seed=seed)
    took = found.trace[-1][0] if found.trace else seconds
    began = time.perf_counter()
    worth(problem, found.prices.values)
    one = time.perf_counter() - began
    columns = problem.value.nbytes + problem.amounts.nbytes + problem.kind.nbytes + problem.starts.nbytes
    source, target = np.ones(32_000_000), np.ones(32_000_000)
    began = time.perf_counter()
    np.copyto(target, source)
    copied = 2 * source.nbytes / (time.perf_counter() - began)
    return Line(
        size=size,
        who="ours, values and costs in steps" if tied else "ours",
        ratio=1.0,
        times=1.0,
        seconds=took,
        notes={
            "gap": f"{(found.bound - found.objective) / max(abs(found.objective), 1e-9):.1e}",
            "prices after s": found.method.get("prices_seconds", "–"),
            "one pass s": f"{one:.3f}",
            "of copy bandwidth": f"{columns / one / copied:.1%}",
            "columns GiB": f"{columns / 2**30:.2f}",
        },
    )


CASE = Case(
    about=(
        "Campaigns as in `allocation`, made in place as 32-bit columns. Seconds until the last gain; a "
        "pass is every user's best reply at the last prices, its bandwidth a share of a plain copy's."
    ),
    measure="objective",
    sizes=(1_000_000, 10_000_000, 100_000_000, 1_000_000_000),
    smoke=4_000,
    run=run,
    packages=("ortools", "numba", "numpy"),
)
