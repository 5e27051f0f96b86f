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
    chosen = np.zeros(problem.size, np.bool_)
    order = np.lexsort((-adjusted, ~preferred))
    owner = problem.user_of()
    tasks = np.zeros(problem.users, np.int64)
    held = np.zeros((problem.users, problem.caps.size), np.int32)
    total = np.zeros(problem.summed.size)
    for floors in (True, False):
        _take(
            order, floors, problem.value, problem.pattern, problem.member, problem.amounts, problem.summed,
            owner, problem.slots, problem.caps, problem.max_tasks, problem.min_tasks, problem.at_most,
            problem.at_least, chosen, tasks, held, total,
        )  # fmt: skip
    return chosen


def _take_python(
    order: Any, floors: bool, value: Any, pattern: Any, member: Any, amounts: Any, summed: Any, owner: Any,
    slots: Any, caps: Any, most: int,
    least: int, at_most: Any, at_least: Any, chosen: Any, tasks: Any, held: Any, total: Any,
) -> None:  # fmt: skip
    limits, families = summed.size, slots.shape[0]
    for each in order:
        user = owner[each]
        if chosen[each] or tasks[user] >= most:
            continue
        fits, fills = True, tasks[user] < least
        for limit in range(limits):
            use = amounts[summed[limit], each] if member[pattern[each], limit] else 0.0
            if use > 0 and total[limit] + use > at_most[limit]:
                fits = False
            if use < 0 and total[limit] + use < at_least[limit] and total[limit] >= at_least[limit]:
                fits = False
            if use > 0 and total[limit] < at_least[limit]:
                fills = True
        for family in range(families):
            slot = slots[family, each]
            if slot > 0 and held[user, slot] >= caps[slot]:
                fits = False
        if fits and (fills if floors else value[each] > 0):
            chosen[each] = True
            tasks[user] += 1
            for limit in range(limits):
                if member[pattern[each], limit]:
                    total[limit] += amounts[summed[limit], each]
            for family in range(families):
                held[user, slots[family, each]] += 1


_take = numba.njit(nogil=True, cache=True)(_take_python)
