"""Which of a user's candidates can matter anywhere in a box of prices, user by user, compiled by Numba.

A candidate is its value, what it uses of each summed column, and the number of its task. Tables by pairs of
tasks hold what changing from one to the other may cost more at most, so that a pair is compared at all prices
of the box at once.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

#: what became of a candidate
KEPT, HOPELESS, BEATEN, CUT = 0, 1, 2, 3
_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}


def _dearer_python(d: int, c: int, kind: Any, amounts: Any, counted: Any, summed: Any) -> float:
    """The most that d may pay beyond c, at any prices of the box."""
    a, b = kind[d], kind[c]
    most: float = counted[a, b]
    for row in range(amounts.shape[0]):
        mine, other = float(amounts[row, d]), float(amounts[row, c])
        table = summed[row]
        more = mine - other
        most += table[1 if more >= 0 else 0, a, b] * more
        most += table[3 if mine >= 0 else 2, a, b] * mine
        most -= table[2 if other >= 0 else 3, b, a] * other
    return most


_dearer = numba.njit(**_OPTIONS)(_dearer_python)


def _prune_python(
    first: int, last: int, starts: Any, value: Any, amounts: Any, kind: Any,
    tolls: Any, counted: Any, summed: Any, fits: Any, slots: Any, caps: Any, floors: Any,
    tasks: int, free: bool, most: int, fate: Any,
) -> float:  # fmt: skip
    """Fates of the candidates of users first:last; what cutting them may cost at most.

    tolls: [3, 1 + rows, tasks], lowest, middle and highest; floors: [floors, tasks], whose slices keep one a
    user; free: whether a user may get nothing.
    """
    lost = 0.0
    widest = 1
    for user in range(first, last):
        widest = max(widest, starts[user + 1] - starts[user])
    rank, at = np.empty(widest, np.float64), np.empty(widest, np.int64)
    kept = np.empty(widest, np.int64)
    short = np.empty(max(tasks, 1), np.float64)
    worst = np.empty(max(tasks, 1), np.float64)
    for user in range(first, last):
        begin, end = starts[user], starts[user + 1]
        open_ = 0
        for c in range(begin, end):
            best, middle = float(value[c]), float(value[c])
            best -= tolls[0, 0, kind[c]]
            middle -= tolls[1, 0, kind[c]]
            for row in range(amounts.shape[0]):
                used = float(amounts[row, c])
                best -= used * tolls[0 if used >= 0 else 2, row + 1, kind[c]]
                middle -= used * tolls[1, row + 1, kind[c]]
            if free and best <= 0:
                fate[c] = HOPELESS
            else:
                # those before it in the order of the middle are the only ones that can beat it everywhere
                place = open_
                while place > 0 and rank[place - 1] < middle:
                    rank[place], at[place] = rank[place - 1], at[place - 1]
                    place -= 1
                rank[place], at[place] = middle, c
                open_ += 1
        many = 0
        worst[:] = 0.0
        for place in range(open_):
            c = at[place]
            better, out = 0, tasks == 0
            for each in range(many):
                d = kept[each]
                if fits[kind[d], kind[c]] and value[d] - value[c] >= _dearer(
                    d, c, kind, amounts, counted, summed
                ):
                    better += 1
                    if better >= tasks:
                        out = True
                        break
            for family in range(slots.shape[1]):
                slot = slots[kind[c], family]
                if out or slot == 0:
                    continue
                same = 0
                for each in range(many):
                    d = kept[each]
                    if (
                        slots[kind[d], family] == slot
                        and fits[kind[d], kind[c]]
                        and value[d] - value[c] >= _dearer(d, c, kind, amounts, counted, summed)
                    ):
                        same += 1
                out = same >= caps[slot]
            if out:
                fate[c] = BEATEN
            elif many < most:
                fate[c] = KEPT
                kept[many] = c
                many += 1
            else:
                fate[c] = CUT
                # what it is better by, at most, than the tasks-th best of those that may stand in for it
                nothing = float(value[c]) - tolls[0, 0, kind[c]]
                for row in range(amounts.shape[0]):
                    used = float(amounts[row, c])
                    nothing -= used * tolls[0 if used >= 0 else 2, row + 1, kind[c]]
                short[:tasks] = nothing if free else np.inf
                for each in range(many):
                    d = kept[each]
                    if fits[kind[d], kind[c]]:
                        by = value[c] - value[d] + _dearer(d, c, kind, amounts, counted, summed)
                        spot = tasks - 1
                        if by < short[spot]:
                            while spot > 0 and short[spot - 1] > by:
                                short[spot] = short[spot - 1]
                                spot -= 1
                            short[spot] = by
                by = max(short[tasks - 1], 0.0)
                spot = tasks - 1
                if by > worst[spot]:
                    while spot > 0 and worst[spot - 1] < by:
                        worst[spot] = worst[spot - 1]
                        spot -= 1
                    worst[spot] = by
        lost += worst[:tasks].sum()
        for floor in range(floors.shape[0]):
            best_of, found = -np.inf, -1
            for c in range(begin, end):
                if floors[floor, kind[c]]:
                    if fate[c] == KEPT:
                        found = -1
                        break
                    here = float(value[c]) - tolls[1, 0, kind[c]]
                    for row in range(amounts.shape[0]):
                        here -= amounts[row, c] * tolls[1, row + 1, kind[c]]
                    if here > best_of:
                        best_of, found = here, c
            if found >= 0:
                fate[found] = KEPT
    return lost


def _bound_python(
    first: int, last: int, starts: Any, value: Any, amounts: Any, kind: Any, tolls: Any, slot: Any, caps: Any,
    tasks: int,
) -> float:  # fmt: skip
    """The most that users first:last can get at tolls [1 + rows, tasks], obeying `tasks` and one family."""
    total = 0.0
    widest = 1
    for user in range(first, last):
        widest = max(widest, starts[user + 1] - starts[user])
    left = np.empty(widest, np.float64)
    used = np.zeros(caps.size, np.int64)
    for user in range(first, last):
        begin, many = starts[user], starts[user + 1] - starts[user]
        for each in range(many):
            c = begin + each
            here = float(value[c]) - tolls[0, kind[c]]
            for row in range(amounts.shape[0]):
                here -= amounts[row, c] * tolls[row + 1, kind[c]]
            left[each] = here
        used[:] = 0
        taken = 0
        while taken < tasks:
            best, found = 0.0, -1
            for each in range(many):
                its = slot[kind[begin + each]]
                if left[each] > best and (its == 0 or used[its] < caps[its]):
                    best, found = left[each], each
            if found < 0:
                break
            total += best
            used[slot[kind[begin + found]]] += 1
            left[found] = -np.inf
            taken += 1
    return total


prune_users = numba.njit(**_OPTIONS)(_prune_python)
bound_users = numba.njit(**_OPTIONS)(_bound_python)
