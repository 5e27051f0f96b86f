"""The same method over a Spark cluster of two worker processes, against one process."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.campaigns import PER_USER, campaigns
from benchmarks.case import Case, Line
from conflict.prices import bound_of
from conflict.problem import compile_problem
from conflict.reply import Crowd, Here
from conflict.solve import Solution, solve
from conflict.spark import choice_of, close_spark, open_spark, read_crowd

_URL = "local-cluster[2,1,2048]"
#: relative gap at which a search may stop
_GAP = 1e-7


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """Ours is the cluster; its time is that of the search, with reading and writing in the notes."""
    frame, limits = campaigns(size // PER_USER, seed)
    problem, _ = compile_problem(frame, limits)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "candidates.parquet")
        frame.write_parquet(path)
        del frame
        start = time.perf_counter()
        spark = open_spark(_URL)
        opened = time.perf_counter() - start
        try:
            crowd = read_crowd(spark, path, limits)
            before = len(crowd.rounds)
            there, took = _solve(crowd, seed, seconds)
            rounds = crowd.rounds[before:]
            notes = _notes(crowd, there)
            assert there.chosen is not None
            totals = crowd.write(
                choice_of(there.prices.levels, there.pool, there.chosen), str(Path(folder) / "out")
            )
        finally:
            close_spark(spark)
    assert abs(totals.objective - there.objective) <= 1e-9 * abs(totals.objective)
    assert (totals.used <= crowd.rules.at_most + 1e-6 * np.maximum(1.0, np.abs(crowd.rules.at_most))).all()
    assert (totals.used >= crowd.rules.at_least - 1e-6 * np.maximum(1.0, np.abs(crowd.rules.at_least))).all()
    here, took_here = _solve(Here(problem=problem), seed, seconds)
    by = {each.what: each.seconds for each in crowd.rounds}
    in_rounds = sum(each.seconds for each in rounds)
    return [
        Line(
            size=size,
            who="ours",
            ratio=1.0,
            times=1.0,
            seconds=took,
            notes={
                **notes,
                "rounds": len(rounds),
                "seconds in rounds": f"{in_rounds:.2f}",
                "start": f"{opened:.1f}",
                "check and pack": f"{by['check'] + by['pack']:.1f}",
                "totals and write": f"{by['totals'] + by['write']:.1f}",
            },
        ),
        Line(
            size=size,
            who="one process",
            ratio=here.objective / there.objective,
            times=took_here / took,
            seconds=took_here,
            notes=_notes(Here(problem=problem), here),
        ),
    ]


def _solve(crowd: Crowd, seed: int, seconds: float) -> tuple[Solution, float]:
    start = time.perf_counter()
    solution = solve(crowd, seconds=seconds, gap=_GAP, seed=seed)
    return solution, time.perf_counter() - start


def _notes(crowd: Crowd, solution: Solution) -> dict[str, object]:
    at = solution.prices.values
    linear = bound_of(crowd.rules, at, crowd.worth(at))
    return {
        "linear bound": f"{linear:.6f}",
        "prices, s": solution.method.get("prices_seconds", "–"),
        "gap": f"{(solution.bound - solution.objective) / abs(solution.objective):.1e}",
        "objective": round(solution.objective, 4),
    }


CASE = Case(
    about=(
        "Candidates and limits as of `allocation`, on a Spark cluster of two workers with one core each "
        f"(`{_URL}`) against one process with two, in the same run. Start of Spark, reading and writing are "
        "in columns of their own; a round is one pass of the cluster over its candidates."
    ),
    measure="objective",
    sizes=(1_000_000, 10_000_000),
    smoke=4_000,
    run=run,
    packages=("pyspark", "ortools", "numba", "numpy"),
)
