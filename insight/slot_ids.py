"""Events with an id: when counts of slots may be added up, and how that is known without reading them again.

A count is of different ids. Within a slot an id counts once for its user; slots may be added if no id of a
user lies in two of them. That is looked up, never assumed: each slot keeps its ids as sorted 64-bit hashes of
(user, id), and the lowest and the highest id. A day's new slots are compared with the others only: by their
ranges, which for ids that rise with time says it all, and where ranges meet by their hashes. Two ids of one
user with the same hash (one pair in 10^19) are taken for one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from insight.leaves import Arrays
from insight.numbering import Numbers, compiled
from insight.slot_kernels import fold_slot

Hashes = NDArray[np.uint64]
#: bits of the filter for each hash that is looked for
_BITS = 64
_SEED = 7


@dataclass(frozen=True, kw_only=True)
class Span:
    """Between which ids a slot's ids lie: the first eight bytes of the lowest and of the highest."""

    low: int
    high: int


def hashed(numbers: Numbers, ids: pl.Series) -> Hashes:
    """Of each line's user and id. The same with the same version of Polars."""
    found = ids.hash(seed=_SEED).to_numpy(writable=True)
    _with_user(found, numbers)
    return found


def spans_of(lines: pl.DataFrame, newest: int, day: int) -> dict[int, Span]:
    """Slot → span, of lines [id, at (µs)]; slot k is (newest − (k + 1) days, newest − k days]."""
    slot = ((newest - pl.col("at")) // day).alias("slot")
    edges = lines.group_by(slot).agg(low=pl.col("id").min(), high=pl.col("id").max())
    return {slot: Span(low=_first_bytes(low), high=_first_bytes(high)) for slot, low, high in edges.rows()}


def joined(spans: Sequence[Span]) -> Span:
    return Span(low=min(each.low for each in spans), high=max(each.high for each in spans))


def _first_bytes(one: int | str) -> int:
    """As an unsigned number in the order of ids: text by its bytes, whole numbers moved above zero."""
    if isinstance(one, str):
        return int.from_bytes(one.encode()[:8].ljust(8, b"\0"), "big")
    return one + 2**63


def fold_ids(users: Sequence[Numbers], hashes: Sequence[Hashes]) -> tuple[Arrays, Hashes]:
    """A slot from its lines as `fold_slot` makes it, lines of one id once; and its hashes, rising."""
    numbers, own = np.concatenate(users), np.concatenate(hashes)
    ordered = np.sort(own)
    fresh = np.ones(len(ordered), np.bool_)
    fresh[1:] = ordered[1:] != ordered[:-1]
    if not fresh.all():
        numbers, ordered = numbers[np.argsort(own)[fresh]], ordered[fresh]
    return fold_slot([numbers], None), ordered


def shared(
    spans: Mapping[datetime, Span],
    proven: set[datetime],
    hashes: Callable[[datetime], Hashes | None],
) -> tuple[datetime, datetime] | None:
    """Two slots that have an id of a user in common; None: there are none. Those `proven` have none among
    themselves. Raises LookupError where hashes are needed and no longer known."""
    met = _meeting(spans, proven)
    new = {end: _needed(end, hashes) for end in met if end not in proven}
    if not new:
        return None
    union = np.concatenate(list(new.values()))
    union.sort()
    twice = np.flatnonzero(union[1:] == union[:-1])
    if len(twice):
        return _holders(new, union[twice[0]])
    old = [end for end in met if end in proven]
    old = [end for end in met if end in proven]
    leading = max(int(len(union) * _BITS - 1).bit_length(), 6)
    bits, shift = np.zeros(1 << (leading - 6) if old else 1, np.uint64), np.uint64(64 - leading)
    if old:
        _fill(union, bits, shift)

    def first_in(end: datetime) -> int:
        return int(_first_in(_needed(end, hashes), union, bits, shift))

    with ThreadPoolExecutor(2) as pool:  # most of it is reading, beside which the other one compares
        for end, at in zip(old, pool.map(first_in, old), strict=True):
            if at >= 0:
                older = _needed(end, hashes)
                return _holders({**new, end: older}, older[at])
    return None


def _meeting(spans: Mapping[datetime, Span], proven: set[datetime]) -> list[datetime]:
    """Slots that must be compared, the oldest first: new ones that meet another, and what these meet."""
    ends = sorted(spans)
    low = np.array([spans[end].low for end in ends], np.uint64)
    high = np.array([spans[end].high for end in ends], np.uint64)
    is_new = np.array([end not in proven for end in ends], np.bool_)
    meet = (low[:, None] <= high[None, :]) & (low[None, :] <= high[:, None])
    np.fill_diagonal(meet, val=False)
    meet &= is_new[:, None] | is_new[None, :]
    return [ends[i] for i in np.flatnonzero(meet.any(axis=1))]


def _needed(end: datetime, hashes: Callable[[datetime], Hashes | None]) -> Hashes:
    found = hashes(end)
    if found is None:
        raise LookupError(end)
    return found


def _holders(slots: Mapping[datetime, Hashes], one: np.uint64) -> tuple[datetime, datetime]:
    ends = sorted(end for end, each in slots.items() if _holds(each, one))
    return ends[0], ends[1]


def _holds(hashes: Hashes, one: np.uint64) -> bool:
    at = int(np.searchsorted(hashes, one))
    return at < len(hashes) and hashes[at] == one


@compiled
def _with_user(hashes: Any, numbers: Any) -> None:
    for i in range(hashes.size):
        mixed = hashes[i] ^ (np.uint64(numbers[i]) * np.uint64(0x9E3779B97F4A7C15))
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        hashes[i] = mixed ^ (mixed >> np.uint64(31))


@compiled
def _fill(hashes: Any, bits: Any, shift: Any) -> None:
    for i in range(hashes.size):
        place = hashes[i] >> shift
        bits[place >> np.uint64(6)] |= np.uint64(1) << (place & np.uint64(63))


@compiled
def _first_in(hashes: Any, union: Any, bits: Any, shift: Any) -> Any:
    """Place of the first of `hashes` that is in `union`, whose filter by leading bits `bits` is; −1: none is.
    Both rise, so that the filter is read from its beginning to its end."""
    begin = 0
    for i in range(hashes.size):
        place = hashes[i] >> shift
        if (bits[place >> np.uint64(6)] >> (place & np.uint64(63))) & np.uint64(1):
            low, high = begin, union.size
            while low < high:
                middle = (low + high) >> 1
                if union[middle] < hashes[i]:
                    low = middle + 1
                else:
                    high = middle
            if low < union.size and union[low] == hashes[i]:
                return i
            begin = low
    return -1
