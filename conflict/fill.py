"""Filling one limit after the other: kernels for problems where each candidate uses one limit only.

At prices it is known what a user costs at one limit more than at the best of the others. So the best set of
users for one limit alone is a knapsack, which dynamic programming over its use solves exactly; among so many
sets there mostly is one that fills it to the brim at next to no loss. This limit and its users are then done
with, the prices of the others are adapted, and the next one is filled. What is spent and the Lagrangian bound
of the rest bound all that can come of it, so of many ways those of the least bound go on (beam search: P. Ow,
T. Morton, "Filtered beam search in scheduling", Int. J. Production Research 26 (1988) 35–62).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}
#: a step that brings nothing makes the next one shorter by this
_SHORTER = 0.9
#: limits left from which on more ways are tried
_ENDGAME = 3


def _fill_python(
    limit: int, cost: Any, use: Any, none: Any, room: Any, price: Any, where: Any, open_: Any, noise: float,
    reach: float, least: Any, before: Any, takes: Any, members: Any, rest: Any,
) -> float:  # fmt: skip
    """Cost of the users that `limit` gets: the best set at these prices; `where` [U] is changed for them.

    Users with where[u] = −1 are free: they cost cost[u, l] at an open limit, of which they use use[u, l], or
    none[u] without one. What is left of `limit` is worth its price. Costs are disturbed by `noise`, and users
    who lose more than `reach` here are not looked at. The last five are scratch.
    """
    users, limits = cost.shape
    capacity, count = int(room[limit]), 0
    for user in range(users):
        if where[user] >= 0 or cost[user, limit] == np.inf or use[user, limit] > capacity:
            continue
        other = none[user]
        for each in range(limits):
            if open_[each] and each != limit:
                other = min(other, cost[user, each] + price[each] * use[user, each])
        # who has no other way comes first
        loss = (
            -1e6 * reach if other == np.inf else cost[user, limit] + price[limit] * use[user, limit] - other
        )
        if loss < reach:
            members[count] = user
            # the difference of two exponential numbers
            rest[count] = loss + noise * np.log((1.0 - np.random.random()) / (1.0 - np.random.random()))
            count += 1
    for total in range(capacity + 1):
        least[total] = np.inf if total else 0.0
    for place in range(count):
        mine, loss = int(use[members[place], limit]), rest[place]
        for total in range(capacity + 1):
            before[total] = least[total]
            takes[place, total] = False
        for total in range(mine, capacity + 1):
            with_ = before[total - mine] + loss
            takes[place, total] = with_ < before[total]
            least[total] = min(with_, before[total])
    best, at = np.inf, 0
    for total in range(capacity + 1):
        if least[total] + price[limit] * (capacity - total) < best:
            best, at = least[total] + price[limit] * (capacity - total), total
    spent = 0.0
    for place in range(count - 1, -1, -1):
        if takes[place, at]:
            user = members[place]
            at -= int(use[user, limit])
            where[user] = limit
            spent += cost[user, limit]
    return spent


_fill = numba.njit(**_OPTIONS)(_fill_python)


def _settle_python(
    cost: Any, use: Any, none: Any, room: Any, price: Any, where: Any, open_: Any, rounds: int, step: float,
    trial: Any, over: Any, free: Any,
) -> float:  # fmt: skip
    """What the free users cost at least under the open limits; `price` [L] is brought nearer to the best.

    Subgradient steps (M. Held, P. Wolfe, H. Crowder, 1974), `step` long at first. inf where a user has no way
    left. The last three are scratch.
    """
    count, limits = 0, room.size
    for user in range(where.size):
        if where[user] < 0:
            free[count] = user
            count += 1
    best = -np.inf
    for limit in range(limits):
        trial[limit] = price[limit]
    for _ in range(rounds):
        bound, length = 0.0, 0.0
        for limit in range(limits):
            over[limit] = -room[limit] if open_[limit] else 0.0
            bound += trial[limit] * over[limit]
        for place in range(count):
            user = free[place]
            least, at = none[user], -1
            for limit in range(limits):
                if open_[limit] and cost[user, limit] + trial[limit] * use[user, limit] < least:
                    least, at = cost[user, limit] + trial[limit] * use[user, limit], limit
            bound += least
            if at >= 0:
                over[at] += use[user, at]
        if bound > best:
            best = bound
            for limit in range(limits):
                price[limit] = trial[limit]
        else:
            step *= _SHORTER
        for limit in range(limits):
            length += over[limit] ** 2
        if length == 0.0 or bound == np.inf:
            break
        for limit in range(limits):
            if open_[limit]:
                trial[limit] = max(0.0, trial[limit] + step / np.sqrt(length) * over[limit])
    return best


_settle = numba.njit(**_OPTIONS)(_settle_python)


def _beam_python(
    cost: Any, use: Any, none: Any, room: Any, price: Any, where: Any, open_: Any, width: int, ways: int,
    last: int, noise: float, reach: float, rounds: int, step: float, seed: int, least: float,
) -> float:  # fmt: skip
    """The least cost below `least` at which all open limits were filled, or `least`; `where` is changed then.

    `cost` and `use` [U, L] say what each user costs at each limit (inf: may not) and uses there, a whole
    number; `none` [U] what it costs without any (inf: must have one); `room` [L] how much there is. Users
    with where[u] ≥ 0 are settled and count nowhere; the others are −1, also after if they have no limit.
    `price` [L] begins the search. `width` states are kept, each goes on in `ways` ways (`last` at the end).
    """
    np.random.seed(seed)
    users, limits = cost.shape
    total = 0
    for limit in range(limits):
        total += 1 if open_[limit] else 0
    wide = int(room.max()) + 1
    row, before, takes = np.empty(wide), np.empty(wide), np.empty((users, wide), np.bool_)
    members, rest, free = np.empty(users, np.int64), np.empty(users), np.empty(users, np.int64)
    trial, over = np.empty(limits), np.empty(limits)
    # states: where users are, open limits, prices, spent
    at, ope, pri, spent = np.empty((1, users), np.int16), np.empty((1, limits), np.bool_), np.empty(
        (1, limits)
    ), np.zeros(1)  # fmt: skip
    at[0], ope[0], pri[0] = where, open_, price
    for left in range(total, 0, -1):
        many = width if left == total else last if left <= _ENDGAME else ways
        size = spent.size * many
        new_at, new_open = np.empty((size, users), np.int16), np.empty((size, limits), np.bool_)
        new_price, new_spent, bound = np.empty((size, limits)), np.empty(size), np.empty(size)
        found = 0
        for state in range(spent.size):
            for way in range(many):
                for user in range(users):
                    new_at[found, user] = at[state, user]
                turn, limit = np.random.randint(0, left), -1
                for each in range(limits):
                    new_open[found, each], new_price[found, each] = ope[state, each], pri[state, each]
                    if new_open[found, each]:
                        if turn == 0:
                            limit = each
                        turn -= 1
                new_spent[found] = spent[state] + _fill(
                    limit, cost, use, none, room, new_price[found], new_at[found], new_open[found],
                    noise if way > 0 else 0.0, reach, row, before, takes, members, rest,
                )  # fmt: skip
                new_open[found, limit], new_price[found, limit] = False, 0.0
                bound[found] = new_spent[found] + _settle(
                    cost, use, none, room, new_price[found], new_at[found], new_open[found], rounds, step,
                    trial, over, free,
                )  # fmt: skip
                # what cannot end below `least` makes room for the next
                found += 1 if bound[found] < least else 0
        if found == 0:
            return least
        order = np.argsort(bound[:found])
        kept, final = np.empty(min(width, found), np.int64), 0.0
        count = 0
        for place in order:
            # of the same bound one is enough
            if count < width and (count == 0 or bound[place] > final + 1e-9 * abs(final)):
                kept[count] = place
                count += 1
                final = bound[place]
        at, ope = np.empty((count, users), np.int16), np.empty((count, limits), np.bool_)
        pri, spent = np.empty((count, limits)), np.empty(count)
        for place in range(count):
            state = kept[place]
            spent[place] = new_spent[state]
            for user in range(users):
                at[place, user] = new_at[state, user]
            for limit in range(limits):
                ope[place, limit], pri[place, limit] = new_open[state, limit], new_price[state, limit]
        best = bound[kept[0]]
    where[:] = at[0]
    return float(best)


beam = numba.njit(**_OPTIONS)(_beam_python)
