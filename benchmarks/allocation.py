"""The global allocation against what else one could do with the same candidates and limits."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import polars as pl

from benchmarks.campaigns import PER_USER, campaigns
from benchmarks.case import Case, Line
from conflict.api import allocate, verify
from conflict.greedy import greedy
from conflict.problem import Ints, Problem, compile_problem
from conflict.programs import Floats, Solver, solve
from conflict.rows import program_of
from kernel.choices import Limits

#: candidates above which a solver on the whole model is not asked any more: integers, and linear
_STOCK, _LINEAR = 200_000, 1_000_000


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """Lines for `size` candidates: ours, then each peer with the same time."""
    frame, limits = campaigns(size // PER_USER, seed)
    ours = allocate(frame, limits, time_limit=seconds, seed=seed)
    assert ours.objective is not None
    assert ours.bound is not None
    assert verify(frame, limits, ours.assignments) == []
    lines = [
        Line(
            size=size,
            who="ours",
            ratio=1.0,
            times=1.0,
            seconds=ours.seconds,
            notes=_notes(
                ours.objective,
                ours.bound,
                ours.bound,
                str(ours.status),
                broken=0,
                prices=ours.method.get("prices_seconds", "–"),
            ),
        )
    ]
    problem, rows = compile_problem(frame, limits)
    peers: dict[str, Callable[[], tuple[Floats | None, float, str]]] = {
        "greedy by value": lambda: _choice(
            greedy(problem, problem.value.astype(np.float64), np.zeros(problem.size, np.bool_))
        ),
        "first come": lambda: _choice(
            greedy(problem, _arrival(problem, seed), np.ones(problem.size, np.bool_))
        ),
    }
    if size <= _STOCK:
        peers["GLOP, linear bound only"] = lambda: _stock(problem, Solver.GLOP, False, seconds, seed)
        peers["HiGHS on the whole model"] = lambda: _stock(problem, Solver.HIGHS, True, seconds, seed)
    if size <= _LINEAR:
        peers["PDLP at 1e-6, linear bound only"] = lambda: _stock(
            problem, Solver.PDLP, False, 4 * seconds, seed
        )
    for who, peer in peers.items():
        start = time.perf_counter()
        choice, bound, note = peer()
        took = time.perf_counter() - start
        objective = None if choice is None else float(problem.value @ choice)
        broken = None if choice is None else _broken(frame, limits, rows, choice)
        lines.append(
            Line(
                size=size,
                who=who,
                ratio=None if objective is None else objective / ours.objective,
                times=took / ours.seconds,
                seconds=took,
                notes=_notes(objective, bound, min(bound, ours.bound), note, broken=broken),
            )
        )
    return lines


def _notes(
    objective: float | None,
    bound: float,
    best: float,
    status: str,
    *,
    broken: int | None,
    prices: object = "–",
) -> dict[str, object]:
    gap = "–" if objective is None else f"{(best - objective) / abs(objective):.1e}"
    return {
        "gap to the best bound": gap,
        "limits and rules broken": "–" if broken is None else broken,
        "objective": "–" if objective is None else round(objective, 4),
        "bound": round(bound, 4) if np.isfinite(bound) else "–",
        "prices after s": prices,
        "says": status,
    }


def _stock(
    problem: Problem, solver: Solver, whole: bool, seconds: float, seed: int
) -> tuple[Floats | None, float, str]:
    solved = solve(program_of(problem, whole=whole), solver, seconds=seconds, gap=1e-6, seed=seed)
    choice = np.round(solved.x) if whole and solved.x is not None else None
    return choice, solved.bound, str(solved.answer)


def _choice(chosen: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> tuple[Floats, float, str]:
    return chosen.astype(np.float64), np.inf, "–"


def _arrival(problem: Problem, seed: int) -> Floats:
    """Whoever asks first is served: candidates in no order."""
    return np.random.default_rng(seed).random(problem.size)


def _broken(frame: pl.DataFrame, limits: Limits, rows: Ints | None, choice: Floats) -> int:
    at = np.flatnonzero(choice > 0.5)
    return len(verify(frame, limits, frame[at if rows is None else rows[at]]))


CASE = Case(
    about=(
        "10 candidates a user, 31 limits (20 budgets, 5 channels, 1 global budget, 5 minimum volumes), at "
        "most 3 tasks a user, caps by channel, 4 exclusive groups. Peers get the same time, PDLP four times "
        "it; the gap is to the best bound that is known. PDLP's bound is one only to its tolerance."
    ),
    measure="objective",
    sizes=(25_000, 100_000, 1_000_000, 10_000_000),
    smoke=2_000,
    run=run,
    packages=("ortools", "numba", "numpy"),
)
