"""Pairs of changes that share a limit: how a thousand limits are filled to the brim.

Two changes do better together than one after the other only where they meet in a limit. Each column touches a
few, so the best pair is looked for limit by limit, among the columns that touch it: for limits with k columns
each that is k² pairs a limit, instead of all pairs under all limits.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}
#: pairs taken at one limit before the next has its turn
_TURNS = 8
#: a limit is narrow that no more columns touch than so many times those looked at
_NARROW = 20
#: gain below which a pair is not worth taking
_STEP = 1e-9


def _shift_python(
    column: int, sign: float, starts: Any, rows: Any, amounts: Any, use: Any, low: Any, high: Any, dear: Any
) -> float:
    """What passing limits costs more when a column comes (1) or goes (−1); `use` is changed."""
    cost = 0.0
    for at in range(starts[column], starts[column + 1]):
        row = rows[at]
        cost -= dear[row] * (max(use[row] - high[row], 0.0) + max(low[row] - use[row], 0.0))
        use[row] += sign * amounts[at]
        cost += dear[row] * (max(use[row] - high[row], 0.0) + max(low[row] - use[row], 0.0))
    return cost


_shift = numba.njit(**_OPTIONS)(_shift_python)


def _move_python(
    column: int, sign: float, owner: Any, taken: Any, starts: Any, rows: Any, amounts: Any, use: Any,
    low: Any, high: Any, dear: Any,
) -> float:  # fmt: skip
    """The same when a column takes the place of its user's, or leaves it where it is that; −1: back."""
    now, cost = taken[owner[column]], 0.0
    if now >= 0:
        cost += _shift(now, -sign, starts, rows, amounts, use, low, high, dear)
    if now != column:
        cost += _shift(column, sign, starts, rows, amounts, use, low, high, dear)
    return cost


_move = numba.njit(**_OPTIONS)(_move_python)


def _gain_python(column: int, value: Any, owner: Any, taken: Any) -> float:
    now = taken[owner[column]]
    if now == column:
        return float(-value[column])
    return float(value[column] - (value[now] if now >= 0 else 0.0))


_gain = numba.njit(**_OPTIONS)(_gain_python)


def _best_python(
    some: Any, count: int, passed: float, starts: Any, rows: Any, amounts: Any, value: Any, owner: Any,
    taken: Any, use: Any, low: Any, high: Any, dear: Any,
) -> tuple[float, int, int]:  # fmt: skip
    """(gain, column, other or −1) of the best single or pair among some columns; column −1: none gains."""
    best, first, second = _STEP, -1, -1
    for place in range(count):
        one = some[place]
        gain = _gain(one, value, owner, taken)
        cost = _move(one, 1.0, owner, taken, starts, rows, amounts, use, low, high, dear)
        if gain - cost > best:
            best, first, second = gain - cost, one, -1
        for after in range(place + 1, count):
            other = some[after]
            both = gain + _gain(other, value, owner, taken)
            # what limits passed cost cannot fall below nothing
            if both + passed <= best or owner[other] == owner[one]:
                continue
            more = _move(other, 1.0, owner, taken, starts, rows, amounts, use, low, high, dear)
            _move(other, -1.0, owner, taken, starts, rows, amounts, use, low, high, dear)
            if both - cost - more > best:
                best, first, second = both - cost - more, one, other
        _move(one, -1.0, owner, taken, starts, rows, amounts, use, low, high, dear)
    return best, first, second


_best = numba.njit(**_OPTIONS)(_best_python)


def _change_python(column: int, owner: Any, taken: Any) -> None:
    taken[owner[column]] = -1 if taken[owner[column]] == column else column


_change = numba.njit(**_OPTIONS)(_change_python)


def _sweep_python(
    limits: Any, firsts: Any, members: Any, wide: int, starts: Any, rows: Any, amounts: Any, value: Any,
    owner: Any, taken: Any, use: Any, low: Any, high: Any, dear: Any,
) -> float:  # fmt: skip
    """Gain less cost of limits passed of the best pairs at each of some limits; `taken` and `use` change.

    Limit l is touched by columns members[firsts[l]:firsts[l + 1]]; of more than `wide` of them some are drawn
    (Numba's own generator), and `members` keeps their order. Column c touches limits
    rows[starts[c]:starts[c + 1]] by `amounts`.
    """
    passed = 0.0
    for row in range(use.size):
        passed += dear[row] * (max(use[row] - high[row], 0.0) + max(low[row] - use[row], 0.0))
    total = 0.0
    for limit in limits:
        begin, count = firsts[limit], firsts[limit + 1] - firsts[limit]
        for _ in range(_TURNS):
            if count > wide:
                for place in range(wide):
                    other = place + np.random.randint(0, count - place)
                    here, there = members[begin + place], members[begin + other]
                    members[begin + place], members[begin + other] = there, here
            some = members[begin : begin + min(count, wide)]
            gain, one, other = _best(
                some, some.size, passed, starts, rows, amounts, value, owner, taken, use, low, high, dear
            )
            if one < 0:
                break
            total += gain
            for each in (one, other):
                if each >= 0:
                    passed += _move(each, 1.0, owner, taken, starts, rows, amounts, use, low, high, dear)
                    _change(each, owner, taken)
    return total


sweep = numba.njit(**_OPTIONS)(_sweep_python)


def _shake_python(
    rounds: int, seed: int, firsts: Any, members: Any, wide: int, starts: Any, rows: Any, amounts: Any,
    value: Any, owner: Any, taken: Any, use: Any, low: Any, high: Any, dear: Any,
) -> float:  # fmt: skip
    """As `sweep`, `rounds` times after one to three random changes at a limit; worse ones are taken back."""
    np.random.seed(seed)
    total, kept, before = 0.0, taken.copy(), use.copy()
    touched = np.empty(use.size, np.int64)
    for _ in range(rounds):
        limit = np.random.randint(0, use.size)
        begin, count = firsts[limit], firsts[limit + 1] - firsts[limit]
        if count == 0:
            continue
        net = 0.0
        for _ in range(np.random.randint(1, 4)):
            one = members[begin + np.random.randint(0, count)]
            net += _gain(one, value, owner, taken)
            net -= _move(one, 1.0, owner, taken, starts, rows, amounts, use, low, high, dear)
            _change(one, owner, taken)
        # pairs are worth looking for where few meet
        some = 0
        for at in range(starts[one], starts[one + 1]):
            row = rows[at]
            if firsts[row + 1] - firsts[row] <= _NARROW * wide:
                touched[some] = row
                some += 1
        net += sweep(
            touched[:some], firsts, members, wide, starts, rows, amounts, value, owner, taken, use, low, high,
            dear,
        )  # fmt: skip
        if net > _STEP:
            total += net
            kept[:] = taken
            before[:] = use
        else:
            taken[:] = kept
            use[:] = before
    return total


shake = numba.njit(**_OPTIONS)(_shake_python)
