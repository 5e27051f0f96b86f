"""Up to four changes at once at one limit: how each of very many limits is filled to the last cent.

The changes that touch a limit, alone and in pairs, are sorted by what they use of it. For each of them the
best other one that still fits is then a look into a running maximum, so all combinations of four take little
more than the pairs alone (the two halves of E. Horowitz, S. Sahni, "Computing partitions with applications to
the knapsack problem", Journal of the ACM 21 (1974) 277–292). What other limits allow is asked of every pair,
and of the four.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from conflict.swaps import _change, _gain

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}
#: limits that a change may touch
_ROWS = 32
#: gain below which four changes are not worth it
_STEP = 1e-9
#: limits that are put right after one forced change
_MENDED = 4


def _lift_python(
    column: int, owner: Any, taken: Any, starts: Any, rows: Any, amounts: Any, to: Any, by: Any
) -> int:
    """What a column's coming, or going where it is taken, changes: limits `to` and amounts `by`; how many.

    −1 where they are too many.
    """
    now, count = taken[owner[column]], 0
    for turn in range(2):
        each = now if turn == 0 else column
        if each < 0 or (turn == 1 and now == column):
            continue
        for at in range(starts[each], starts[each + 1]):
            if count == to.size:
                return -1
            to[count] = rows[at]
            by[count] = -amounts[at] if turn == 0 else amounts[at]
            count += 1
    return count


_lift = numba.njit(**_OPTIONS)(_lift_python)


def _fits_python(
    some: Any, many: int, but: int, to: Any, by: Any, counts: Any, net: Any, use: Any, low: Any, high: Any
) -> bool:
    """Whether changes some[:many] together pass no limit, save `but`, further than it is. `net` is zeros."""
    for one in range(many):
        for at in range(counts[some[one]]):
            net[to[some[one], at]] += by[some[one], at]
    fit = True
    for one in range(many):
        for at in range(counts[some[one]]):
            row = to[some[one], at]
            after = use[row] + net[row]
            if row != but and ((net[row] > 0 and after > high[row]) or (net[row] < 0 and after < low[row])):
                fit = False
    for one in range(many):
        for at in range(counts[some[one]]):
            net[to[some[one], at]] = 0.0
    return fit


_fits = numba.njit(**_OPTIONS)(_fits_python)


def _four_python(
    limit: int, side: float, held: int, wide: int, firsts: Any, near: Any, starts: Any, rows: Any,
    amounts: Any, value: Any, owner: Any, taken: Any, use: Any, low: Any, high: Any, net: Any,
) -> float:  # fmt: skip
    """The most gain of up to four changes after which a limit holds; they are made. 0 where none gains.

    A limit that is passed is mended even at a loss; −inf where it cannot be. `side` is 1 for a ceiling, −1
    for a floor. Of the columns near[firsts[limit]:firsts[limit + 1]], nearest first, some `wide` are looked
    at; user `held` keeps theirs. The rest is as in `swaps`.
    """
    room = high[limit] - use[limit] if side > 0 else use[limit] - low[limit]
    most = min(wide, firsts[limit + 1] - firsts[limit])
    columns, counts = np.empty(most, np.int64), np.empty(most, np.int64)
    to, by = np.empty((most, _ROWS), np.int64), np.empty((most, _ROWS))
    gains, uses = np.empty(most), np.empty(most)
    size = 0
    for at in range(firsts[limit], firsts[limit] + most):
        column = near[at]
        count = _lift(column, owner, taken, starts, rows, amounts, to[size], by[size])
        if count < 0 or owner[column] == held:
            continue
        columns[size], counts[size] = column, count
        gains[size], uses[size] = _gain(column, value, owner, taken), 0.0
        for each in range(count):
            if to[size, each] == limit:
                uses[size] += side * by[size, each]
        size += 1
    all_ = 1 + size + size * (size - 1) // 2
    gain, used = np.empty(all_), np.empty(all_)
    first, second = np.empty(all_, np.int64), np.empty(all_, np.int64)
    some = np.empty(4, np.int64)
    gain[0], used[0], first[0], second[0] = 0.0, 0.0, -1, -1
    count = 1
    for one in range(size):
        for other in range(one, size):
            if other > one and owner[columns[one]] == owner[columns[other]]:
                continue
            some[0], some[1] = one, other
            if not _fits(some, 1 if other == one else 2, limit, to, by, counts, net, use, low, high):
                continue
            alone = other == one
            gain[count] = gains[one] if alone else gains[one] + gains[other]
            used[count] = uses[one] if alone else uses[one] + uses[other]
            first[count], second[count] = one, -1 if alone else other
            count += 1
    order = np.argsort(used[:count])
    # the three of most gain among the first in that order
    top = np.full((count, 3), -1, np.int64)
    for place in range(count):
        each = order[place]
        for rank in range(3):
            top[place, rank] = top[place - 1, rank] if place else -1
        for rank in range(3):
            old = top[place, rank]
            if old < 0 or gain[each] > gain[old]:
                top[place, rank], each = each, old
            if each < 0:
                break
    best = _STEP if room >= 0 else -np.inf
    mine, with_ = -1, -1
    fitting = count - 1
    for place in range(count):
        one = order[place]
        while fitting >= 0 and used[order[fitting]] > room - used[one]:
            fitting -= 1
        if fitting < 0:
            break
        for rank in range(3):
            other = top[fitting, rank]
            if other < 0 or gain[one] + gain[other] <= best:
                break
            many = _joined(first, second, one, other, columns, owner, some)
            if many >= 0 and _fits(some, many, limit, to, by, counts, net, use, low, high):
                best, mine, with_ = gain[one] + gain[other], one, other
                break
    if mine < 0:
        return 0.0 if room >= 0 else -np.inf
    many = _joined(first, second, mine, with_, columns, owner, some)
    for each in range(many):
        for at in range(counts[some[each]]):
            use[to[some[each], at]] += by[some[each], at]
        _change(columns[some[each]], owner, taken)
    return best


def _joined_python(first: Any, second: Any, one: int, other: int, columns: Any, owner: Any, some: Any) -> int:
    """The changes of two pairs into `some`; how many, or −1 where they are of the same user."""
    many = 0
    for pair in (one, other):
        for each in (first[pair], second[pair]):
            if each < 0:
                continue
            for before in range(many):
                if owner[columns[some[before]]] == owner[columns[each]]:
                    return -1
            some[many] = each
            many += 1
    return many


_joined = numba.njit(**_OPTIONS)(_joined_python)
_four = numba.njit(**_OPTIONS)(_four_python)


def _fill_python(
    limits: Any, sides: Any, wide: int, firsts: Any, near: Any, starts: Any, rows: Any, amounts: Any,
    value: Any, owner: Any, taken: Any, use: Any, low: Any, high: Any,
) -> float:  # fmt: skip
    """What up to four changes at each of some limits in turn gain; `taken` and `use` change."""
    net, total = np.zeros(use.size), 0.0
    for limit in limits:
        gain = _four(
            limit, sides[limit], -1, wide, firsts, near, starts, rows, amounts, value, owner, taken, use,
            low, high, net,
        )  # fmt: skip
        if gain > 0:
            total += gain
    return total


fill = numba.njit(**_OPTIONS)(_fill_python)


def _force_python(
    limits: Any, sides: Any, rounds: int, seed: int, wide: int, firsts: Any, near: Any, starts: Any,
    rows: Any, amounts: Any, value: Any, owner: Any, taken: Any, use: Any, low: Any, high: Any,
) -> float:  # fmt: skip
    """One random change, and four at each limit that it touches, `rounds` times; worse is taken back."""
    np.random.seed(seed)
    net, total = np.zeros(use.size), 0.0
    kept, before = taken.copy(), use.copy()
    to, by = np.empty(_ROWS, np.int64), np.empty(_ROWS)
    binding = np.zeros(use.size, np.bool_)
    for limit in limits:
        binding[limit] = True
    for _ in range(rounds):
        limit = limits[np.random.randint(0, limits.size)]
        many = min(2 * wide, firsts[limit + 1] - firsts[limit])
        # the nearer the likelier
        column = near[firsts[limit] + int(many * np.random.random() ** 2)]
        count = _lift(column, owner, taken, starts, rows, amounts, to, by)
        if count < 0:
            continue
        gain = _gain(column, value, owner, taken)
        for at in range(count):
            use[to[at]] += by[at]
        _change(column, owner, taken)
        mended = 0
        for at in range(count):
            row = to[at]
            over = use[row] > high[row] or use[row] < low[row]
            if not (binding[row] or over) or gain == -np.inf:
                continue
            mended += 1
            if mended > _MENDED:
                gain = -np.inf
                break
            gain += _four(
                row, sides[row], owner[column], wide, firsts, near, starts, rows, amounts, value, owner,
                taken, use, low, high, net,
            )  # fmt: skip
        for at in range(count):
            if use[to[at]] > high[to[at]] or use[to[at]] < low[to[at]]:
                gain = -np.inf
        if gain > _STEP:
            total += gain
            kept[:] = taken
            before[:] = use
        else:
            taken[:] = kept
            use[:] = before
    return total


force = numba.njit(**_OPTIONS)(_force_python)
