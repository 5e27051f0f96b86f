"""Solve part of a problem exactly and leave the rest as it is: the step that every integer answer takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from conflict.problem import Floats, Mask, Problem
from conflict.programs import Answer, Solver, solve
from conflict.rows import program_of

#: of a limit's bound, or of one unit: half of what the verifier allows
_HAIR = 5e-7
#: times that a limit broken by a solver's tolerance is tightened
_TIGHTENINGS = 4


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is best when only some candidates are free."""

    #: OPTIMAL, FEASIBLE, INFEASIBLE and UNKNOWN speak of the part, not of the whole
    answer: Answer
    #: the whole choice; None when nothing was found
    chosen: Mask | None
    #: no choice that differs only in the part is worth more
    bound: float


def solve_part(
    problem: Problem,
    free: Mask,
    fixed: Mask,
    *,
    seconds: float,
    gap: float,
    seed: int,
    worth: float = -np.inf,
) -> Part:
    """Choose among `free` candidates, the others staying as in `fixed`; both [n].

    Only users with something free enter the program. A result that passes a limit by the solver's tolerance
    is solved again with that limit tighter by as much. `gap` is a part of the value of the whole.
    """
    owner = problem.user_of()
    touched = np.zeros(problem.users, np.bool_)
    touched[owner[free]] = True
    inside = touched[owner]
    rest = fixed & ~inside
    used = problem.used(rest)
    part = replace(problem.keep(inside), at_most=problem.at_most - used, at_least=problem.at_least - used)
    whole = program_of(part, whole=True)
    held = ~free[inside]
    whole = replace(
        whole,
        low=np.where(held & fixed[inside], 1.0, 0.0),
        high=np.where(held & ~fixed[inside], 0.0, 1.0),
    )
    elsewhere = float(problem.value[rest].sum())
    here, all_ = float(part.value[fixed[inside]].sum()), float(problem.value[fixed].sum())
    if here > 0 and all_ > here:
        gap *= all_ / here
    bound = np.inf
    for _ in range(_TIGHTENINGS):
        solved = solve(whole, Solver.HIGHS, seconds=seconds, gap=gap, seed=seed)
        if bound == np.inf:
            bound = solved.bound + elsewhere
        if solved.x is None:
            return Part(answer=solved.answer, chosen=None, bound=bound)
        chosen = rest.copy()
        chosen[inside] = solved.x > 0.5
        over = overuse(problem, chosen)
        if not over.any():
            return Part(answer=solved.answer, chosen=chosen, bound=bound)
        limits = over.size
        high, low = whole.row_high.copy(), whole.row_low.copy()
        high[:limits] -= 2.0 * np.maximum(over, 0.0)
        low[:limits] += 2.0 * np.maximum(-over, 0.0)
        whole = replace(whole, row_high=high, row_low=low)
    return Part(answer=Answer.UNKNOWN, chosen=None, bound=bound)


def overuse(problem: Problem, chosen: Mask) -> Floats:
    """By how much each limit is passed: above 0 its ceiling, below 0 its floor, 0 where it holds, [L]."""
    used = problem.used(chosen)
    above = used - problem.at_most
    below = used - problem.at_least
    over = np.where(above > _HAIR * np.maximum(1.0, np.abs(problem.at_most)), above, 0.0)
    return np.where(below < -_HAIR * np.maximum(1.0, np.abs(problem.at_least)), below, over)


def keeps_rules(problem: Problem, chosen: Mask) -> bool:
    """Whether every user's own rules hold."""
    owner = problem.user_of()[chosen]
    counts = np.bincount(owner, minlength=problem.users)
    if counts.size and (counts.max() > problem.max_tasks or counts.min() < problem.min_tasks):
        return False
    for slots in problem.slots:
        keys, times = np.unique(owner * problem.caps.size + slots[chosen], return_counts=True)
        if (times > problem.caps[keys % problem.caps.size]).any():
            return False
    return True


def feasible(problem: Problem, chosen: Mask) -> bool:
    return not overuse(problem, chosen).any() and keeps_rules(problem, chosen)
