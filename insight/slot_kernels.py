"""Slots of events as arrays by user number: made from lines, and added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insight.leaves import Arrays
from insight.numbering import NONE, Numbers, compiled

#: microseconds
DAY = 86_400_000_000


def by_slot(
    numbers: Numbers, at: NDArray[np.int64], until: int, slots: int, values: NDArray[Any] | None
) -> tuple[NDArray[np.int64], Numbers, NDArray[Any]]:
    """Lines put together by slot, in their order: where each slot begins, their users, their values.

    Slot k is (until − (k + 1) days, until − k days], times in microseconds. Lines of nobody are left out.
    """
    starts = np.zeros(slots + 1, np.int64)
    which = np.empty(len(numbers), np.int16)
    _which(numbers, at, until, which, starts)
    np.cumsum(starts, out=starts)
    users = np.empty(int(starts[-1]), np.uint32)
    values = values if values is not None else _NONE
    sorted_values = np.empty(len(users) if len(values) else 0, values.dtype)
    _place(numbers, which, values, starts.copy(), users, sorted_values)
    return starts, users, sorted_values


def fold_slot(users: Sequence[Numbers], values: Sequence[NDArray[np.float64]] | None) -> Arrays:
    """One slot from its lines, piece by piece: `numbers` rising, then `counts` of lines or, of values (NaN is
    none), `n`, `sum`, `min`, `max`."""
    numbers = np.concatenate(users)
    if values is None:
        numbers.sort()
        found, counts = np.empty_like(numbers), np.empty(len(numbers), np.uint32)
        size = _runs(numbers, found, counts)
        narrow = (
            counts[:size].astype(np.uint16)
            if not size or counts[:size].max() < 2**16
            else counts[:size].copy()
        )
        return {"numbers": found[:size].copy(), "counts": narrow}
    # By user, then by line, in one integer each: sorting those is far faster than an indirect stable sort.
    order = numbers.astype(np.uint64) << np.uint64(32) | np.arange(len(numbers), dtype=np.uint64)
    order.sort()
    found, n = np.empty_like(numbers), np.empty(len(numbers), np.uint32)
    total, low, high = np.empty(len(numbers)), np.empty(len(numbers)), np.empty(len(numbers))
    size = _folded(order, np.concatenate(values), found, n, total, low, high)
    arrays: Arrays = {"numbers": found, "n": n, "sum": total, "min": low, "max": high}
    return {name: array[:size].copy() for name, array in arrays.items()}


def empty_slot(of_values: bool) -> Arrays:
    none = [np.zeros(0, np.uint32)]
    return fold_slot(none, [np.zeros(0)] if of_values else None)


def add_counts(slot: Arrays, totals: NDArray[Any], times: int) -> None:
    """Adds (or, −1 `times`, takes away) a slot's counts."""
    _add(slot["numbers"], slot["counts"], totals, times)


def add_values(slots: Sequence[Arrays], size: int) -> Arrays:
    """`n`, `sum`, `min`, `max` by user number, of all slots, in their order."""
    n, total = np.zeros(size, np.uint32), np.zeros(size)
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    for slot in slots:
        _add_values(slot["numbers"], slot["n"], slot["sum"], slot["min"], slot["max"], n, total, low, high)
    return {"n": n, "sum": total, "min": low, "max": high}


_NONE = np.zeros(0)


@compiled
def _which(numbers: Any, at: Any, until: Any, which: Any, starts: Any) -> None:
    for i in range(numbers.size):
        slot = (until - at[i]) // DAY
        if numbers[i] == NONE or slot < 0 or slot >= starts.size - 1:
            which[i] = -1
        else:
            which[i] = slot
            starts[slot + 1] += 1


@compiled
def _place(numbers: Any, which: Any, values: Any, free: Any, users: Any, sorted_values: Any) -> None:
    for i in range(numbers.size):
        slot = which[i]
        if slot >= 0:
            to = free[slot]
            free[slot] += 1
            users[to] = numbers[i]
            if values.size:
                sorted_values[to] = values[i]


@compiled
def _runs(numbers: Any, found: Any, counts: Any) -> Any:
    size = 0
    for i in range(numbers.size):
        if size and found[size - 1] == numbers[i]:
            counts[size - 1] += np.uint32(1)
        else:
            found[size], counts[size] = numbers[i], 1
            size += 1
    return size


@compiled
def _folded(order: Any, values: Any, found: Any, n: Any, total: Any, low: Any, high: Any) -> Any:
    size = 0
    for i in range(order.size):
        number, value = np.uint32(order[i] >> np.uint64(32)), values[order[i] & np.uint64(0xFFFFFFFF)]
        if not size or found[size - 1] != number:
            found[size], n[size], total[size], low[size], high[size] = number, 0, 0.0, np.inf, -np.inf
            size += 1
        if not np.isnan(value):
            n[size - 1] += np.uint32(1)
            total[size - 1] += value
            low[size - 1], high[size - 1] = min(low[size - 1], value), max(high[size - 1], value)
    return size


@compiled
def _add(numbers: Any, counts: Any, totals: Any, times: Any) -> None:
    for i in range(numbers.size):
        totals[numbers[i]] += times * np.int64(counts[i])


@compiled
def _add_values(
    numbers: Any, counts: Any, sums: Any, lows: Any, highs: Any, n: Any, total: Any, low: Any, high: Any
) -> None:
    for i in range(numbers.size):
        at = numbers[i]
        n[at] += counts[i]
        total[at] += sums[i]
        low[at], high[at] = min(low[at], lows[i]), max(high[at], highs[i])
