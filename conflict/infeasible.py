"""Which limits and rules cannot hold together: a set from which none can be left out.

Deletion filter (Chinneck and Dravnieks, 1991): drop one after the other; what cannot be dropped without the
contradiction going away stays. Judged on the linear relaxation when that is contradictory already, else on
whole numbers; problems too large for a linear program are judged by prices alone.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from conflict.bundle import contradicts
from conflict.prices import LINEAR
from conflict.problem import Problem
from conflict.programs import Answer, Solver, solve
from conflict.rows import program_of


def conflicting(problem: Problem, names: tuple[str, ...], *, seconds: float) -> tuple[str, ...]:
    """Names of limits and of rules (`per_user.…`) that contradict each other.

    `names` are the limits', in their order. Minimal if there was time; what could not be judged in time
    is left in.
    """
    end = time.monotonic() + seconds
    rules = ["per_user.max_tasks", "per_user.min_tasks", *dict.fromkeys(problem.families)]
    kept = [*names, *rules]
    problem = replace(problem, value=np.zeros(problem.size))
    linear = _contradicts(problem, names, kept, whole=False, seconds=seconds)
    for each in reversed(tuple(kept)):
        left = [other for other in kept if other != each]
        if _contradicts(problem, names, left, whole=not linear, seconds=end - time.monotonic()):
            kept = left
    return tuple(kept)


def _contradicts(
    problem: Problem, names: tuple[str, ...], kept: list[str], *, whole: bool, seconds: float
) -> bool:
    relaxed = _only(problem, names, kept)
    if problem.size > LINEAR:
        return contradicts(relaxed, seconds=seconds)
    program = program_of(relaxed, whole=whole)
    solved = solve(program, Solver.HIGHS if whole else Solver.GLOP, seconds=seconds)
    return solved.answer is Answer.INFEASIBLE


def _only(problem: Problem, names: tuple[str, ...], kept: list[str]) -> Problem:
    stays = np.array([name in kept for name in names], np.bool_)
    families = [row for row, name in enumerate(problem.families) if name in kept]
    many = int(np.diff(problem.starts).max(initial=0))
    return replace(
        problem,
        at_most=np.where(stays, problem.at_most, np.inf),
        at_least=np.where(stays, problem.at_least, -np.inf),
        slots=problem.slots[families],
        families=tuple(problem.families[row] for row in families),
        max_tasks=problem.max_tasks if "per_user.max_tasks" in kept else max(many, problem.min_tasks),
        min_tasks=problem.min_tasks if "per_user.min_tasks" in kept else 0,
    )
