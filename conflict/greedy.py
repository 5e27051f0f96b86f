"""A choice without search: floors first, then the best that fits. What there is when time is short."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from conflict.problem import Floats, Mask, Problem


def greedy(problem: Problem, adjusted: Floats, preferred: Mask) -> Mask:
    """Candidates by adjusted value, `preferred` ones first, each taken if every ceiling and rule allows.

    One that fills a floor still open is taken before all others; one worth nothing is taken for that only.
    The result may miss floors and least tasks: ask `feasible`.
    """
    rules = problem.rules
    chosen = np.zeros(problem.size, np.bool_)
    order = np.lexsort((-adjusted, ~preferred))
    owner = problem.user_of()
    tasks = np.zeros(problem.users, np.int64)
    held = np.zeros((problem.users, rules.caps.size), np.int32)
    total = np.zeros(rules.limits)
    for floors in (True, False):
        _take(
            order, floors, problem.value, problem.kind, rules.member, problem.amounts, rules.summed, owner,
            rules.slots, rules.caps, rules.max_tasks, rules.min_tasks, rules.at_most, rules.at_least,
            chosen, tasks, held, total,
        )  # fmt: skip
    return chosen


def _take_python(
    order: Any, floors: bool, value: Any, kind: Any, member: Any, amounts: Any, summed: Any, owner: Any,
    slots: Any, caps: Any, most: int,
    least: int, at_most: Any, at_least: Any, chosen: Any, tasks: Any, held: Any, total: Any,
) -> None:  # fmt: skip
    limits, families = summed.size, slots.shape[1]
    for each in order:
        user = owner[each]
        if chosen[each] or tasks[user] >= most:
            continue
        fits, fills = True, tasks[user] < least
        for limit in range(limits):
            use = 0.0
            if member[kind[each], limit]:
                use = amounts[summed[limit] - 1, each] if summed[limit] else 1.0
            if use > 0 and total[limit] + use > at_most[limit]:
                fits = False
            if use < 0 and total[limit] + use < at_least[limit] and total[limit] >= at_least[limit]:
                fits = False
            if use > 0 and total[limit] < at_least[limit]:
                fills = True
        for family in range(families):
            slot = slots[kind[each], family]
            if slot > 0 and held[user, slot] >= caps[slot]:
                fits = False
        if fits and (fills if floors else value[each] > 0):
            chosen[each] = True
            tasks[user] += 1
            for limit in range(limits):
                if member[kind[each], limit]:
                    total[limit] += amounts[summed[limit] - 1, each] if summed[limit] else 1.0
            for family in range(families):
                held[user, slots[kind[each], family]] += 1


_take = numba.njit(nogil=True, cache=True)(_take_python)
