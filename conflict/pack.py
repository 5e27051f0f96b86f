"""Packing what is free to be taken or left under a few limits that all share: kernels that breed choices.

A genetic algorithm (P. C. Chu, J. E. Beasley, "A genetic algorithm for the multidimensional knapsack
problem", Journal of Heuristics 4 (1998) 63–86): of each two parents the better of two drawn, each candidate
from either parent, two candidates flipped. A child is mended at prices: those of the least value for their
toll are dropped until all limits hold, and those of the most are added while they do. One unlike all others
takes the place of the worst.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}


def _begin_python(seed: int, value: Any, use: Any, room: Any, members: Any, worth: Any) -> None:
    """Choices `members` [m, n] and their `worth` [m]: candidates in any order, until one does not fit.

    `value` [n] and `use` [n, L], which is nowhere negative; `room` [L].
    """
    np.random.seed(seed)
    left = np.empty(room.size)
    for who in range(worth.size):
        left[:] = room
        members[who] = False
        worth[who] = 0.0
        for each in np.random.permutation(value.size):
            if not _fits(each, use, left):
                break
            members[who, each] = True
            worth[who] += value[each]
            for limit in range(left.size):
                left[limit] -= use[each, limit]


def _fits_python(each: int, use: Any, left: Any) -> bool:
    for limit in range(left.size):  # noqa: SIM110 - Numba knows no generators
        if use[each, limit] > left[limit]:
            return False
    return True


def _passed_python(left: Any) -> bool:
    for limit in range(left.size):  # noqa: SIM110
        if left[limit] < 0.0:
            return True
    return False


def _parent_python(worth: Any) -> int:
    one: int = np.random.randint(0, worth.size)
    two: int = np.random.randint(0, worth.size)
    return one if worth[one] >= worth[two] else two


def _breed_python(
    children: int, tries: int, seed: int, value: Any, use: Any, room: Any, order: Any, members: Any,
    worth: Any,
) -> int:  # fmt: skip
    """Children born in so many tries, at most `children`; `members` and `worth` are changed.

    `order` [n] has the candidates of the most value for their toll first; the others as in `begin`.
    """
    np.random.seed(seed)
    count, born = value.size, 0
    child, left = np.empty(count, np.bool_), np.empty(room.size)
    for _ in range(tries):
        if born == children:
            break
        one, two = _parent(worth), _parent(worth)
        for each in range(count):
            child[each] = members[one, each]
            if members[two, each] != child[each]:
                child[each] = np.random.random() < 0.5
        for _ in range(2):
            each = np.random.randint(0, count)
            child[each] = not child[each]
        total = 0.0
        left[:] = room
        for each in range(count):
            if child[each]:
                total += value[each]
                for limit in range(left.size):
                    left[limit] -= use[each, limit]
        for place in range(count - 1, -1, -1):
            if not _passed(left):
                break
            each = order[place]
            if child[each]:
                child[each] = False
                total -= value[each]
                for limit in range(left.size):
                    left[limit] += use[each, limit]
        for each in order:
            if not child[each] and _fits(each, use, left):
                child[each] = True
                total += value[each]
                for limit in range(left.size):
                    left[limit] -= use[each, limit]
        known, worst = False, 0
        for who in range(worth.size):
            worst = who if worth[who] < worth[worst] else worst
            if worth[who] == total and not known:
                known = bool((members[who] == child).all())
        if not known:
            members[worst], worth[worst] = child, total
            born += 1
    return born


_fits = numba.njit(**_OPTIONS)(_fits_python)
_passed = numba.njit(**_OPTIONS)(_passed_python)
_parent = numba.njit(**_OPTIONS)(_parent_python)
begin = numba.njit(**_OPTIONS)(_begin_python)
breed = numba.njit(**_OPTIONS)(_breed_python)
