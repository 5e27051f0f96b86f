"""Whether a choice keeps limits and rules, from the columns: what the search asks of each choice it finds."""

from __future__ import annotations

import numpy as np

from conflict.problem import Floats, Mask, Problem, Rules

#: of a limit's bound, or of one unit: half of what the verifier allows
HAIR = 5e-7


def passed(rules: Rules, used: Floats) -> Floats:
    """By how much each limit is passed: above 0 its ceiling, below 0 its floor, 0 where it holds, [L]."""
    above, below = used - rules.at_most, used - rules.at_least
    over = np.where(above > HAIR * np.maximum(1.0, np.abs(rules.at_most)), above, 0.0)
    return np.where(below < -HAIR * np.maximum(1.0, np.abs(rules.at_least)), below, over)


def fine_of(rules: Rules, used: Floats) -> float:
    """What it costs that limits with a penalty are passed; inf where one without is."""
    by = np.abs(passed(rules, used))
    return float(np.sum(by[by > 0] * rules.penalty[by > 0]))


def worth_of(problem: Problem, chosen: Mask) -> float:
    """Value less penalties of a choice [n]; −inf where it breaks a limit or a user's rule."""
    fine = fine_of(problem.rules, problem.used(chosen))
    if np.isinf(fine) or not keeps_rules(problem, chosen):
        return -np.inf
    return float(np.sum(problem.value[chosen], dtype=np.float64)) + problem.elsewhere - fine


def keeps_rules(problem: Problem, chosen: Mask) -> bool:
    """Whether every user's own rules hold."""
    rules = problem.rules
    at = np.flatnonzero(chosen)
    owner = np.searchsorted(problem.starts, at, side="right") - 1
    counts = np.bincount(owner, minlength=problem.users)
    if counts.size and (counts.max() > rules.max_tasks or counts.min() < rules.min_tasks):
        return False
    for slots in rules.slots.T:
        keys, times = np.unique(owner * rules.caps.size + slots[problem.kind[at]], return_counts=True)
        if (times > rules.caps[keys % rules.caps.size]).any():
            return False
    return True
