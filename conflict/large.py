"""Allocations whose candidates no frame holds: from files in pieces, or spread over a Spark cluster.

Assignments go straight to where they are wanted; what comes back tells of them but does not hold them.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from conflict.allocate import asked_of, choice_of, conflicts_of, told
from conflict.problem import Mask, Problem, Rules, compile_rules, label_columns, summed_columns
from conflict.reply import Here
from conflict.scan import open_source
from conflict.sink import write
from conflict.solve import Progress, Stop, solve
from conflict.stream import load
from conflict.write import write_report
from kernel.choices import Allocation, Limits
from kernel.errors import BadInput

#: rows above which a file is read in pieces
STREAMED = 3_000_000


def rows_of(path: Path) -> int:
    """Rows in the Parquet files, without reading them."""
    return open_source(path).rows


def allocate_file(
    path: Path,
    limits: Limits,
    out: Path | None,
    *,
    time_limit: float,
    gap: float,
    seed: int = 0,
    stops: tuple[Stop, ...] = (),
    progress: Callable[[Progress], None] = lambda _: None,
) -> Allocation:
    """As `allocate`, reading files in pieces and writing both files of the result to `out`."""
    start = time.monotonic()
    loaded = load(path, limits)
    problem = loaded.problem
    asked = asked_of(problem, seed)
    solution = solve(
        Here(problem=replace(asked, origin=None)),
        seconds=time_limit, gap=gap, seed=seed, stops=stops, say=progress,
    )  # fmt: skip
    chosen = choice_of(asked, solution)
    guilty: tuple[str, ...] = ()
    relaxed: dict[str, float] = {}
    if solution.infeasible:
        labels = label_columns(limits)
        kinds = loaded.source.labels(labels)

        def without(fewer: Limits) -> Rules:
            return compile_rules(kinds, fewer, summed_columns(limits))

        guilty, relaxed = conflicts_of(problem, limits, without, seed, time_limit)
    at = np.flatnonzero(chosen) if chosen is not None else np.zeros(0, np.int64)
    answer = told(
        limits, problem, solution, problem.rules.use(problem.table(at)), guilty, relaxed,
        pl.DataFrame(schema=loaded.source.schema), start, int(at.size),
    )  # fmt: skip
    if out is not None:
        whole: Mask = chosen if chosen is not None else np.zeros(problem.size, np.bool_)
        _make(out)
        write(loaded, whole, out / "assignments.parquet")
        write_report(answer, out)
    return answer


def allocate_on_spark(
    url: str,
    path: Path,
    limits: Limits,
    out: Path | None,
    *,
    time_limit: float,
    gap: float,
    seed: int = 0,
    stops: tuple[Stop, ...] = (),
    progress: Callable[[Progress], None] = lambda _: None,
) -> Allocation:
    """As `allocate`, with candidates spread over a cluster; assignments become a folder of Parquet files.

    The time limit begins when the candidates are in place. Contradictions
    are not looked for: the answer is then mostly UNKNOWN.
    """
    from conflict import spark

    session = spark.open_spark(url)
    try:
        crowd = spark.read_crowd(session, str(path), limits)
        start = time.monotonic()
        solution = solve(crowd, seconds=time_limit, gap=gap, seed=seed, stops=stops, say=progress)
        choice = None
        if solution.chosen is not None:
            choice = spark.choice_of(solution.prices.levels, solution.pool, solution.chosen)
        used, count = np.zeros(crowd.rules.limits), 0
        if choice is not None and out is not None:
            _make(out)
            place, draft = out / "assignments.parquet", out / ".assignments.draft"
            shutil.rmtree(draft, ignore_errors=True)
            totals = crowd.write(choice, str(draft))
            if place.is_dir():
                shutil.rmtree(place)
            elif place.exists():
                place.unlink()
            os.replace(draft, place)
            used, count = totals.used, totals.chosen
        elif choice is not None:
            totals = crowd.totals(choice)
            used, count = totals.used, totals.chosen
        rounds = [round_.seconds for round_ in crowd.rounds]
        solution.method.update(
            {"engine": url, "rounds": len(rounds), "rounds_seconds": round(sum(rounds), 3)}
        )
        answer = told(
            limits, Problem.nothing(crowd.rules), solution, used, (), {}, pl.DataFrame(), start, count
        )  # fmt: skip
        answer.method.update({"candidates": crowd.size, "users": crowd.users})
        if out is not None:
            write_report(answer, out)
        crowd.close()
        return answer
    finally:
        spark.close_spark(session)


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror}", where=str(out), field="out") from None
