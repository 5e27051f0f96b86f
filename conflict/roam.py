"""Roaming: single changes that may pass limits for a while, so that the search is never stuck at a brim.

At prices, a choice is worth the bound less what its replies lose and less the price of what is left over.
A search that counted all of that would fill limits with whatever comes first; this one counts only a part of
what is left over, so replies that lose little come first and limits fill up later. A limit passed costs the
more the longer it is passed and the less the longer it holds, so the search swings about the brim (strategic
oscillation: F. Glover, "Heuristics for integer programming using surrogate constraints", Decision Sciences 8
(1977) 156–166; weights as in M. Yagiura, T. Ibaraki, F. Glover, "An ejection chain approach for the
generalized assignment problem", INFORMS Journal on Computing 16 (2004) 133–151), and what was just changed
stays as it is for some steps (tabu search).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}
_FAST = {**_OPTIONS, "fastmath": {"contract", "nsz", "reassoc"}}
#: least and most of what passing a limit costs, as part of what it costs at first
_LEAST, _MOST = 0.3, 50.0


def _cost_python(use: float, low: float, high: float, dear: float, unfilled: float, unspent: float) -> float:
    """What it costs that a limit is passed, or stays below its ceiling or above its floor."""
    return max(
        max(dear * max(use - high, low - use), 0.0), max(unfilled * (high - use), unspent * (use - low))
    )


_cost = numba.njit(**_FAST, inline="always")(_cost_python)


def _best_change_python(
    step: int, offset: int, first: Any, starts: Any, rows: Any, amounts: Any, losses: Any, taken: Any,
    use: Any, low: Any, high: Any, dear: Any, unfilled: Any, unspent: Any, costs: Any,
    free_user: Any, free_column: Any,
) -> tuple[int, int]:  # fmt: skip
    """(user, column or −1) of the change that costs least and is allowed at this step; user −1: none.

    `costs` [L] is room for what every limit costs now.
    """
    users, all_ = first.size - 1, 0.0
    for row in range(use.size):
        costs[row] = _cost(use[row], low[row], high[row], dear[row], unfilled[row], unspent[row])
        all_ += costs[row]
    least, who, what = np.inf, -1, -1
    for turn in range(users):
        user = turn + offset if turn + offset < users else turn + offset - users
        if free_user[user] > step:
            continue
        now, back, most = taken[user], 0.0, all_
        if now >= 0:
            for at in range(starts[now], starts[now + 1]):
                row = rows[at]
                use[row] -= amounts[at]
                back -= costs[row]
                costs[row] = _cost(use[row], low[row], high[row], dear[row], unfilled[row], unspent[row])
                back += costs[row]
            most = all_ + back
            back -= losses[now]
            if back < least:
                least, who, what = back, user, -1
        for column in range(first[user], first[user + 1]):
            cost = back + losses[column]
            # no limit can cost less than nothing
            if cost - most >= least or column == now or free_column[column] > step:
                continue
            for at in range(starts[column], starts[column + 1]):
                row = rows[at]
                cost += _cost(
                    use[row] + amounts[at], low[row], high[row], dear[row], unfilled[row], unspent[row]
                )
                cost -= costs[row]
            if cost < least:
                least, who, what = cost, user, column
        if now >= 0:
            for at in range(starts[now], starts[now + 1]):
                row = rows[at]
                use[row] += amounts[at]
                costs[row] = _cost(use[row], low[row], high[row], dear[row], unfilled[row], unspent[row])
    return who, what


_best_change = numba.njit(**_FAST)(_best_change_python)


def _roam_python(
    first: Any, starts: Any, rows: Any, amounts: Any, value: Any, losses: Any, taken: Any, used: Any,
    low: Any, high: Any, fine: Any, dear: Any, unfilled: Any, unspent: Any, least: float, close: Any,
    steps: int, tenure: int, grow: float, shrink: float, seed: int,
) -> float:  # fmt: skip
    """The most worth of a choice met that keeps hard limits, or `least`; `taken` is changed.

    User u has columns first[u]:first[u+1] and takes column taken[u], or none at −1. Column c adds value[c],
    loses losses[c] and adds amounts[k] to limit rows[k], for k in starts[c]:starts[c+1]; `used` [L] is the
    use when none is taken; `low` and `high` [L] are finite. A unit past a limit costs fine [L], inf where it
    may not be passed; to the search it costs dear [L] at first, and one left over costs unfilled [L] below a
    ceiling and unspent [L] above a floor. The best choice met is put into `close` [users]: by worth where one
    is above `least`, else by worth less what limits passed cost.
    """
    np.random.seed(seed)
    users, limits = first.size - 1, used.size
    use, weight, worth = used.copy(), dear.copy(), 0.0
    for user in range(users):
        if taken[user] >= 0:
            worth += value[taken[user]]
            for at in range(starts[taken[user]], starts[taken[user] + 1]):
                use[rows[at]] += amounts[at]
    free_user, free_column = np.zeros(users, np.int64), np.zeros(value.size, np.int64)
    best, nearest, costs = least, -np.inf, np.empty(limits)
    for step in range(1, steps + 1):
        user, column = _best_change(
            step, np.random.randint(0, users), first, starts, rows, amounts, losses, taken, use,
            low, high, weight, unfilled, unspent, costs, free_user, free_column,
        )  # fmt: skip
        if user < 0:
            continue
        now = taken[user]
        if now >= 0:
            worth -= value[now]
            for at in range(starts[now], starts[now + 1]):
                use[rows[at]] -= amounts[at]
            free_column[now] = step + 1 + np.random.randint(tenure // 2, tenure + 1)
        if column >= 0:
            worth += value[column]
            for at in range(starts[column], starts[column + 1]):
                use[rows[at]] += amounts[at]
        taken[user] = column
        # who has a single column would not move at all for long; who has many has other ways
        short = 3 if first[user + 1] - first[user] > 1 else tenure
        free_user[user] = step + 1 + np.random.randint(short // 2, short + 1)
        holds, net, merit = True, worth, worth
        for limit in range(limits):
            over = max(use[limit] - high[limit], low[limit] - use[limit], 0.0)
            if over > 0:
                merit -= over * (3.0 * dear[limit] if fine[limit] == np.inf else fine[limit])
            if fine[limit] < np.inf:
                net -= over * fine[limit]
            elif over > 1e-9 * max(1.0, abs(use[limit])):
                holds = False
                weight[limit] = min(weight[limit] * grow, _MOST * dear[limit])
            else:
                weight[limit] = max(weight[limit] * shrink, _LEAST * dear[limit])
        if holds and net > best:
            best = net
            close[:] = taken
        elif best <= least and merit > nearest:
            nearest = merit
            close[:] = taken
    return best


roam = numba.njit(**_OPTIONS)(_roam_python)
