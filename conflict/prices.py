"""Prices of the limits: the multipliers at which the Lagrangian bound is least."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from conflict.bundle import contradicts, descend
from conflict.problem import Floats, Problem
from conflict.programs import Answer, Solver, solve
from conflict.rows import program_of

#: most candidates whose linear program is solved at once
LINEAR = 30_000
#: candidates of the first sample
_SAMPLE = 15_000
#: part of a limit, or of one unit, by which it is loosened to tell its price
_HAIR = 1e-5


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What one unit of each limit is worth."""

    #: ≥ 0 for a ceiling, ≤ 0 for a floor, in value per unit, [L]
    values: Floats
    #: no choice is worth more; inf when unknown
    bound: float
    #: proven: no choice, not even of fractions, keeps all limits
    infeasible: bool
    #: how they were found
    method: str


def find_prices(problem: Problem, *, seconds: float) -> Prices:
    """Prices by the linear relaxation, or where that is too large by descent on growing samples of users.

    Users stand in no order, so the first of them are a fair sample, and limits shrink in proportion.
    """
    end = time.monotonic() + seconds
    if problem.size <= LINEAR:
        return _linear(problem, seconds=seconds)
    values, size = np.zeros(problem.summed.size), _SAMPLE
    if not _empty_choice_holds(problem) and contradicts(problem, seconds=0.3 * seconds):
        return Prices(values=values, bound=np.inf, infeasible=True, method="proof by prices")
    box = 0.3
    steps: list[int] = []
    while 2 * size < problem.size:
        part = _sample(problem, size)
        if not steps:
            values = _linear(part, seconds=end - time.monotonic()).values
        else:
            values, _ = descend(part, values, box, seconds=0.3 * (end - time.monotonic()))
        steps.append(part.size)
        # the error of a sample's prices shrinks with the root of its size
        size, box = 8 * size, box / np.sqrt(8.0)
    values, bound = descend(problem, values, box, seconds=end - time.monotonic())
    return Prices(
        values=signed(problem, values),
        bound=bound,
        infeasible=False,
        method=f"descent after samples of {steps}",
    )


def _empty_choice_holds(problem: Problem) -> bool:
    return problem.min_tasks == 0 and bool((problem.at_least <= 0).all() and (problem.at_most >= 0).all())


def _sample(problem: Problem, size: int) -> Problem:
    users = int(np.searchsorted(problem.starts, size))
    inside = np.arange(problem.size) < problem.starts[users]
    share = users / problem.users
    kept = problem.keep(inside)
    return replace(
        kept,
        starts=kept.starts[: users + 1],
        at_most=problem.at_most * share,
        at_least=problem.at_least * share,
    )


def _linear(problem: Problem, *, seconds: float) -> Prices:
    """Prices of limits loosened by a hair: where several prices fit, what one more unit would bring."""
    above = _HAIR * np.maximum(1.0, np.abs(problem.at_most))
    below = _HAIR * np.maximum(1.0, np.abs(problem.at_least))
    loose = replace(problem, at_most=problem.at_most + above, at_least=problem.at_least - below)
    solved = solve(program_of(loose, whole=False), Solver.GLOP, seconds=seconds)
    values, bound = np.zeros(problem.summed.size), np.inf
    if solved.prices is not None:
        values = signed(problem, solved.prices[: values.size])
    if solved.answer is Answer.OPTIMAL:
        # the same prices prove a bound without the hair
        hair = np.where(values > 0, above, np.where(values < 0, below, 0.0))
        bound = solved.bound - float(np.abs(values) @ hair)
    return Prices(
        values=values, bound=bound, infeasible=solved.answer is Answer.INFEASIBLE, method="linear program"
    )


def signed(problem: Problem, values: Floats) -> Floats:
    """Prices without the sign that a limit's missing side forbids, and without the dust of a solver."""
    values = np.where(np.isinf(problem.at_most), np.minimum(values, 0.0), values)
    values = np.where(np.isinf(problem.at_least), np.maximum(values, 0.0), values)
    return np.where(np.abs(values) < 1e-12, 0.0, values)
