"""A small problem, solved exactly and all at once by branch and cut."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from conflict.feasible import HAIR, passed
from conflict.problem import Floats, Mask, Problem
from conflict.programs import Answer, Solver, solve
from conflict.rows import program_of

#: times that a limit broken by a solver's tolerance is tightened
_TIGHTENINGS = 4


#: part of a row's largest entry by which solvers let its bounds be passed
_TOLERANCE = 1e-7

#: part of a limit, or of one unit, by which it is loosened to tell its price
_HAIR = 1e-5


def wild(problem: Problem) -> bool:
    """Whether amounts cancel that are so large that a solver's tolerance is more than what limits allow.

    What a solver says of such a problem proves nothing; a choice can be checked, and prices still bound it.
    """
    rules = problem.rules
    for row, amounts in enumerate(problem.amounts):
        here = (rules.summed == row + 1) & np.isinf(rules.penalty)
        bounds = np.abs(np.r_[rules.at_most[here], rules.at_least[here]])
        bounds = bounds[np.isfinite(bounds)]
        low, high = float(amounts.min(initial=0.0)), float(amounts.max(initial=0.0))
        allowed = HAIR * max(1.0, float(bounds.min(initial=np.inf)))
        if low < 0 < high and bounds.size and _TOLERANCE * max(-low, high) > allowed:
            return True
    return False


def linear_prices(problem: Problem, *, seconds: float) -> tuple[Floats, float, bool]:
    """(prices [L], the bound there, whether the limits contradict each other) by the linear relaxation.

    Prices are those of limits loosened by a hair: where several fit, what one more unit would bring.
    """
    rules = problem.rules
    above = _HAIR * np.maximum(1.0, np.abs(rules.at_most))
    below = _HAIR * np.maximum(1.0, np.abs(rules.at_least))
    loose = problem.bounded(rules.at_most + above, rules.at_least - below)
    solved = solve(program_of(loose, whole=False), Solver.GLOP, seconds=seconds)
    if solved.prices is None:
        return np.zeros(rules.limits), np.inf, solved.answer is Answer.INFEASIBLE
    prices = solved.prices[: rules.limits]
    prices = np.where(np.isinf(rules.at_most), np.minimum(prices, 0.0), prices)
    prices = np.where(np.isinf(rules.at_least), np.maximum(prices, 0.0), prices)
    prices = np.where(np.abs(prices) < 1e-12, 0.0, prices)
    # the same prices prove a bound without the hair
    hair = np.where(prices > 0, above, np.where(prices < 0, below, 0.0))
    bound = solved.bound - float(np.abs(prices) @ hair) + problem.elsewhere
    return prices, bound if solved.answer is Answer.OPTIMAL else np.inf, False


@dataclass(frozen=True, kw_only=True)
class Whole:
    """What branch and cut found."""

    #: [n]; None when nothing was found
    chosen: Mask | None
    #: no choice is worth more
    bound: float
    #: proven: no choice keeps all limits and rules
    infeasible: bool


def solve_whole(problem: Problem, *, seconds: float, gap: float, seed: int) -> Whole:
    """The best choice; where a solver's tolerance passes a limit, that is drawn in and it looks again."""
    rules = problem.rules
    program = program_of(problem, whole=True)
    bound = np.inf
    for tightened in range(_TIGHTENINGS):
        solved = solve(program, Solver.HIGHS, seconds=seconds, gap=gap, seed=seed)
        bound = min(bound, solved.bound + problem.elsewhere) if bound == np.inf else bound
        if solved.x is None:
            # under limits tighter than they are, nothing is proven
            none = solved.answer is Answer.INFEASIBLE and tightened == 0
            return Whole(chosen=None, bound=bound, infeasible=none)
        chosen = solved.x[: problem.size] > 0.5
        over = np.where(np.isinf(rules.penalty), passed(rules, problem.used(chosen)), 0.0)
        if not over.any():
            return Whole(chosen=chosen, bound=bound, infeasible=False)
        high, low = program.row_high.copy(), program.row_low.copy()
        high[: over.size] -= 2.0 * np.maximum(over, 0.0)
        low[: over.size] += 2.0 * np.maximum(-over, 0.0)
        program = replace(program, row_high=high, row_low=low)
    return Whole(chosen=None, bound=bound, infeasible=False)
