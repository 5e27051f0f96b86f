"""Prices of the limits: the multipliers at which the Lagrangian bound is least."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conflict.problem import Floats, Problem
from conflict.programs import Answer, Solver, solve
from conflict.rows import program_of


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
    """Prices by the linear relaxation."""
    solved = solve(program_of(problem, whole=False), Solver.GLOP, seconds=seconds)
    values = np.zeros(problem.summed.size)
    if solved.prices is not None:
        values = signed(problem, solved.prices[: values.size])
    return Prices(
        values=values,
        bound=solved.bound if solved.answer is Answer.OPTIMAL else np.inf,
        infeasible=solved.answer is Answer.INFEASIBLE,
        method="linear program",
    )


def signed(problem: Problem, values: Floats) -> Floats:
    """Prices without the sign that a limit's missing side forbids, and without the dust of a solver."""
    values = np.where(np.isinf(problem.at_most), np.minimum(values, 0.0), values)
    values = np.where(np.isinf(problem.at_least), np.maximum(values, 0.0), values)
    return np.where(np.abs(values) < 1e-12, 0.0, values)
