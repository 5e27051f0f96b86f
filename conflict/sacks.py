"""Prices on users make limits strangers to each other: kernels for where each candidate uses one limit only.

If it costs to leave a user out and to take it twice, every limit chooses its users alone, a knapsack that
dynamic programming solves exactly. What all of them choose bounds every whole choice more tightly than prices
on limits do, which know of no whole users (Lagrangian relaxation of the assignment: M. Fisher, "The
Lagrangian relaxation method for solving integer programming problems", Management Science 27 (1981) 1–18).
And the same tables tell at once what all must cost at least if a single candidate is taken, or is not.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}


def _eased_python(
    worth: Any, cost: Any, use: Any, none: Any, room: Any, slope: Any, row: Any, takes: Any
) -> float:
    """No choice costs less, where users are worth `worth` [U] to the limit that takes them.

    `slope` [U] becomes 1 less how often each user is taken: towards more `worth` the bound rises by it.
    `cost` and `use` [U, L], `none` [U] and `room` [L] as in `fill.beam`; the last two are scratch.
    """
    users, limits = cost.shape
    bound = 0.0
    for user in range(users):
        bound += min(worth[user], none[user])
        slope[user] = 0.0 if none[user] < worth[user] else 1.0
    for limit in range(limits):
        most = int(room[limit])
        for total in range(most + 1):
            row[total] = 0.0
        for user in range(users):
            gain = worth[user] - cost[user, limit]
            if gain <= 0.0 or use[user, limit] > most:
                continue
            mine = int(use[user, limit])
            for total in range(mine):
                takes[user, total] = False
            for total in range(most, mine - 1, -1):
                with_ = row[total - mine] + gain
                takes[user, total] = with_ > row[total]
                row[total] = max(with_, row[total])
        bound -= row[most]
        for user in range(users - 1, -1, -1):
            looked_at = worth[user] - cost[user, limit] > 0.0 and use[user, limit] <= room[limit]
            if looked_at and takes[user, most]:
                slope[user] -= 1.0
                most -= int(use[user, limit])
    return bound


eased = numba.njit(**_OPTIONS)(_eased_python)


def _forced_python(
    limit: int, worth: Any, cost: Any, use: Any, room: Any, inside: Any, outside: Any, ahead: Any, rest: Any
) -> None:
    """How much less a limit gains if it must take each user, and if it may not: `inside` and `outside` [U].

    inf where it cannot take it. The last two are scratch: [U + 1, most room + 1] and [most room + 1].
    """
    users, most = cost.shape[0], int(room[limit])
    for total in range(most + 1):
        ahead[0, total] = rest[total] = 0.0
    for user in range(users):
        gain = worth[user] - cost[user, limit]
        for total in range(most + 1):
            ahead[user + 1, total] = ahead[user, total]
        if gain > 0.0 and use[user, limit] <= most:
            mine = int(use[user, limit])
            for total in range(mine, most + 1):
                ahead[user + 1, total] = max(ahead[user, total], ahead[user, total - mine] + gain)
    best = ahead[users, most]
    for user in range(users - 1, -1, -1):
        gain = worth[user] - cost[user, limit]
        inside[user], outside[user] = np.inf, 0.0
        if gain == -np.inf or use[user, limit] > most:
            continue
        mine, with_, without = int(use[user, limit]), -np.inf, -np.inf
        for total in range(most - mine + 1):
            with_ = max(with_, ahead[user, total] + rest[most - mine - total])
        inside[user] = max(best - gain - with_, 0.0)
        if gain > 0.0:
            for total in range(most + 1):
                without = max(without, ahead[user, total] + rest[most - total])
            outside[user] = max(best - without, 0.0)
            for total in range(most, mine - 1, -1):
                rest[total] = max(rest[total], rest[total - mine] + gain)


forced = numba.njit(**_OPTIONS)(_forced_python)
