"""Pairs of changes: from a choice that is nearly right to one that fills every limit to the brim.

A change gives one user another reply. Single changes move a limit by a whole candidate; two together move it
by the difference of two, and among thousands of candidates near their price there are differences of every
size. So the best pair is taken again and again (2-exchange local search, Lin and Kernighan's simplest case),
from the start given and from random kicks of the best found. One step looks at all pairs: m²/2 of them, most
of them dismissed after a comparison.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}
_FAST = {**_OPTIONS, "fastmath": {"contract", "nsz", "reassoc"}}
#: gain below which a step is not worth its time, as part of the worth of a typical change
_STEP = 1e-9
#: limits looked at before a pair may be dismissed
_FEW = 8


def _passed_python(use: Any, low: Any, high: Any, dear: Any) -> float:
    """What it costs that limits are passed."""
    cost = 0.0
    for limit in range(use.size):
        cost += dear[limit] * (max(use[limit] - high[limit], 0.0) + max(low[limit] - use[limit], 0.0))
    return cost


def _best_pair_python(
    moves: Any, gains: Any, owner: Any, use: Any, low: Any, high: Any, dear: Any, least: float
) -> tuple[float, int, int]:
    """The change, or pair of changes of two users, with the most gain less cost above `least`; −1: none."""
    count, limits = moves.shape
    few = min(_FEW, limits)
    best, first, second = least, -1, -1
    mid = np.empty(limits)
    for one in range(count):
        cost = 0.0
        for limit in range(limits):
            mid[limit] = use[limit] + moves[one, limit]
            cost += dear[limit] * (max(mid[limit] - high[limit], 0.0) + max(low[limit] - mid[limit], 0.0))
        if gains[one] - cost > best:
            best, first, second = gains[one] - cost, one, -1
        for other in range(one + 1, count):
            gain = gains[one] + gains[other]
            if gain <= best or owner[one] == owner[other]:
                continue
            cost = 0.0
            for limit in range(few):
                after = mid[limit] + moves[other, limit]
                cost += dear[limit] * (max(after - high[limit], 0.0) + max(low[limit] - after, 0.0))
            if gain - cost <= best:
                continue
            for limit in range(few, limits):
                after = mid[limit] + moves[other, limit]
                cost += dear[limit] * (max(after - high[limit], 0.0) + max(low[limit] - after, 0.0))
            if gain - cost > best:
                best, first, second = gain - cost, one, other
    return best, first, second


def _moves_python(change: Any, value: Any, owner: Any, taken: Any, moves: Any, gains: Any) -> None:
    """What each column would change now: taken ones go back, others take the place of their user's."""
    for one in range(value.size):
        now = taken[owner[one]]
        back = now == one
        gains[one] = -value[one] if back else value[one]
        for limit in range(change.shape[1]):
            moves[one, limit] = -change[one, limit] if back else change[one, limit]
        if now >= 0 and not back:
            gains[one] -= value[now]
            for limit in range(change.shape[1]):
                moves[one, limit] -= change[now, limit]


_passed = numba.njit(**_FAST)(_passed_python)
_best_pair = numba.njit(**_FAST)(_best_pair_python)
_moves = numba.njit(**_OPTIONS)(_moves_python)


def _descend_python(
    change: Any, value: Any, owner: Any, taken: Any, used: Any, low: Any, high: Any, dear: Any, steps: int
) -> tuple[float, float]:
    """(gain, cost of limits passed) after the best pairs, one after the other; `taken` is changed.

    `change` [m, L] and `value` [m] are what a column adds to use and worth when its user (`owner` [m]) takes
    it; `taken` [users] is each user's column or −1; `used` [L] is the use when none is taken; a limit passed
    costs `dear` [L] a unit.
    """
    moves, gains = np.empty(change.shape), np.empty(value.size)
    use, gain, cost = used.copy(), 0.0, 0.0
    for step in range(steps + 1):
        use[:] = used
        gain = 0.0
        for user in range(taken.size):
            if taken[user] >= 0:
                gain += value[taken[user]]
                for limit in range(use.size):
                    use[limit] += change[taken[user], limit]
        cost = _passed(use, low, high, dear)
        if step == steps:
            break
        _moves(change, value, owner, taken, moves, gains)
        _, one, other = _best_pair(moves, gains, owner, use, low, high, dear, _STEP - cost)
        if one < 0:
            break
        for each in (one, other):
            if each >= 0:
                taken[owner[each]] = -1 if taken[owner[each]] == each else each
    return gain, cost


descend = numba.njit(**_OPTIONS)(_descend_python)


def _kick_python(
    change: Any, value: Any, owner: Any, taken: Any, used: Any, low: Any, high: Any, dear: Any,
    steps: int, rounds: int, seed: int,
) -> tuple[float, float]:  # fmt: skip
    """Up to three random changes and a descent, `rounds` times, each from the best; as `descend`."""
    np.random.seed(seed)
    best_gain, best_cost = descend(change, value, owner, taken, used, low, high, dear, 0)
    trial = taken.copy()
    for _ in range(rounds):
        trial[:] = taken
        for _ in range(np.random.randint(1, 4)):
            each = np.random.randint(0, value.size)
            trial[owner[each]] = -1 if trial[owner[each]] == each else each
        gain, cost = descend(change, value, owner, trial, used, low, high, dear, steps)
        if gain - cost > best_gain - best_cost:
            best_gain, best_cost = gain, cost
            taken[:] = trial
    return best_gain, best_cost


kick = numba.njit(**_OPTIONS)(_kick_python)
