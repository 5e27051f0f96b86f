"""Each user's best reply to prices, exactly, under the user's own rules.

Once limits are priced, users do not meet any more. One user's candidates, sorted by value less price, are
taken greedily; where rules cross (two labels, or a label and an exclusive set) greedy need not be best, and
a depth-first search with the bound "the best so many, rules forgotten" settles it. A search that grows past
its limit answers that bound, so the sum over users stays a valid upper bound whatever happens.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numba
import numpy as np

from conflict.problem import Floats, Mask, Problem

#: nodes after which one user's search settles for its bound
_NODES = 20_000
#: fewest candidates worth a second thread
_CHUNK = 50_000


def best_replies(problem: Problem, adjusted: Floats) -> tuple[Mask, Floats]:
    """Chosen candidates [n], and for each user the most that any reply could be worth [U].

    A user for whom the rules leave no reply has −inf.
    """
    chosen = np.zeros(problem.size, np.bool_)
    upper = np.zeros(problem.users)
    _spread(problem, _replies, adjusted, chosen, upper)
    return chosen, upper


def flip_losses(problem: Problem, adjusted: Floats, chosen: Mask, upper: Floats) -> Floats:
    """What it costs at least to choose otherwise about each candidate, ≥ 0, inf where it cannot be, [n]."""
    losses = np.zeros(problem.size)
    _spread(problem, _losses, adjusted, chosen, upper, losses)
    return losses


def _spread(problem: Problem, kernel: Callable[..., None], *arrays: Any) -> None:
    """Run a kernel over ranges of users, one thread a core; kernels let go of the interpreter's lock."""
    parts = max(1, min((os.cpu_count() or 1), problem.size // _CHUNK))
    edges = np.linspace(0, problem.users, parts + 1).astype(np.int64)
    rules = (problem.starts, problem.slots, problem.caps, problem.max_tasks, problem.min_tasks)
    jobs = [(int(first), int(last)) for first, last in pairwise(edges)]
    if parts == 1:
        kernel(*jobs[0], *rules, *arrays)
        return
    with ThreadPoolExecutor(parts) as pool:
        for done in [pool.submit(kernel, *job, *rules, *arrays) for job in jobs]:
            done.result()


def _search_python(
    size: int, worth: Any, at: Any, skip: int, forced: int, slots: Any, caps: Any, most: int, least: int,
    used: Any, stack: Any, best: Any,
) -> tuple[float, float, int]:  # fmt: skip
    """(value found, upper bound, number taken into `best`) for one user; `forced` is taken, `skip` is not."""
    families = slots.shape[0]
    count, value, depth = 0, 0.0, 0
    for position in range(size):
        if at[position] == forced:
            value = worth[position]
            count = 1
            for family in range(families):
                used[slots[family, forced]] += 1
    if forced >= 0:
        for family in range(families):
            slot = slots[family, forced]
            if slot > 0 and used[slot] > caps[slot]:
                for other in range(families):
                    used[slots[other, forced]] = 0
                return -np.inf, -np.inf, 0
        if count > most:
            for family in range(families):
                used[slots[family, forced]] = 0
            return -np.inf, -np.inf, 0
    found, ceiling, taken, nodes, position = -np.inf, -np.inf, 0, 0, 0
    while True:
        nodes += 1
        bound, room, ahead = value, count, position
        while room < most and ahead < size and (worth[ahead] > 0.0 or room < least):
            if at[ahead] != skip and at[ahead] != forced:
                bound += worth[ahead]
                room += 1
            ahead += 1
        if nodes == 1:
            ceiling = bound if room >= least else -np.inf
        descended = False
        if room >= least and bound > found:
            ahead = position
            while count < most and ahead < size and (worth[ahead] > 0.0 or count < least):
                free = at[ahead] != skip and at[ahead] != forced
                if free:
                    for family in range(families):
                        slot = slots[family, at[ahead]]
                        if slot > 0 and used[slot] >= caps[slot]:
                            free = False
                if free:
                    break
                ahead += 1
            if count < most and ahead < size and (worth[ahead] > 0.0 or count < least):
                stack[depth] = ahead
                depth += 1
                for family in range(families):
                    used[slots[family, at[ahead]]] += 1
                value += worth[ahead]
                count += 1
                position = ahead + 1
                descended = True
            elif count >= least and value > found:
                found, taken = value, depth
                for each in range(depth):
                    best[each] = at[stack[each]]
        if descended:
            continue
        settled = families <= 1 and nodes > 1 and found > -np.inf
        if depth == 0 or settled or nodes > _NODES:
            break
        depth -= 1
        last = stack[depth]
        for family in range(families):
            used[slots[family, at[last]]] -= 1
        value -= worth[last]
        count -= 1
        position = last + 1
    if depth == 0 or (families <= 1 and nodes <= _NODES):
        ceiling = found
    while depth > 0:
        depth -= 1
        for family in range(families):
            used[slots[family, at[stack[depth]]]] = 0
    if forced >= 0:
        for family in range(families):
            used[slots[family, forced]] = 0
    return found, ceiling, taken


_search = numba.njit(nogil=True, cache=True)(_search_python)


def _sort_python(first: int, last: int, adjusted: Any, worth: Any, at: Any) -> None:
    """Candidates first:last by adjusted value, best first; equal ones keep their order."""
    for each in range(first, last):
        place = each - first
        while place > 0 and worth[place - 1] < adjusted[each]:
            worth[place] = worth[place - 1]
            at[place] = at[place - 1]
            place -= 1
        worth[place] = adjusted[each]
        at[place] = each


_sort = numba.njit(nogil=True, cache=True)(_sort_python)


def _replies_python(
    start: int, stop: int, starts: Any, slots: Any, caps: Any, most: int, least: int,
    adjusted: Any, chosen: Any, upper: Any,
) -> None:  # fmt: skip
    widest = 1
    for user in range(start, stop):
        widest = max(widest, starts[user + 1] - starts[user])
    worth, at = np.empty(widest), np.empty(widest, np.int64)
    stack, best = np.empty(widest, np.int64), np.empty(widest, np.int64)
    used = np.zeros(caps.size, np.int64)
    for user in range(start, stop):
        first, last = starts[user], starts[user + 1]
        _sort(first, last, adjusted, worth, at)
        used[:1] = 0
        _, upper[user], taken = _search(
            last - first, worth, at, -1, -1, slots, caps, most, least, used, stack, best
        )
        for each in range(taken):
            chosen[best[each]] = True


_replies = numba.njit(nogil=True, cache=True)(_replies_python)


def _losses_python(
    start: int, stop: int, starts: Any, slots: Any, caps: Any, most: int, least: int,
    adjusted: Any, chosen: Any, upper: Any, losses: Any,
) -> None:  # fmt: skip
    widest = 1
    for user in range(start, stop):
        widest = max(widest, starts[user + 1] - starts[user])
    worth, at = np.empty(widest), np.empty(widest, np.int64)
    stack, best = np.empty(widest, np.int64), np.empty(widest, np.int64)
    used = np.zeros(caps.size, np.int64)
    for user in range(start, stop):
        first, last = starts[user], starts[user + 1]
        _sort(first, last, adjusted, worth, at)
        for each in range(first, last):
            skip, forced = (each, -1) if chosen[each] else (-1, each)
            _, ceiling, _ = _search(
                last - first, worth, at, skip, forced, slots, caps, most, least, used, stack, best
            )
            losses[each] = max(upper[user] - ceiling, 0.0)


_losses = numba.njit(nogil=True, cache=True)(_losses_python)
