"""From ids to numbers: tables and sorted runs that are searched where they lie, by Numba.

An id is looked up by a 64-bit key: a whole number by itself (moved so that order is kept), text by a hash of
its bytes, after which the text itself is compared. Keys are found in a bucket by their leading bits, then by
bisection, so that a lookup touches two or three lines of memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """By Numba, once and kept on disk; it runs without Python's lock."""
    found: Function = numba.njit(nogil=True, cache=True)(function)
    return found


#: no number: the id is not known
NONE = np.uint32(0xFFFFFFFF)
#: makes whole numbers, read as unsigned, keep their order
FLIP = np.uint64(1 << 63)
#: what stands in the place of a forgotten whole number; no id may be it
NOBODY = -(2**63)
#: a table of all whole numbers in a range is used where at most so many of them are no id, for each that is
SPARSE = 4

Numbers = NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The ids with numbers `begin` ≤ n < `end`, searchable."""

    begin: int
    end: int
    #: what its files are called; empty while it has none
    name: str = ""
    #: whole numbers in a narrow range: `table[id − low]` is the number
    low: int = 0
    table: Numbers | None = None
    #: else sorted keys with their numbers; without `numbers` the i-th key has number `begin + i`, and without
    #: `keys` they are the ids themselves
    keys: NDArray[np.uint64] | None = None
    numbers: Numbers | None = None
    #: first key of each bucket: those with the same `(key − least) >> shift`
    starts: Numbers | None = None
    least: int = 0
    shift: int = 0


def segment_of_integers(ids: NDArray[np.int64], begin: int, dead: Numbers) -> Segment:
    """`ids`: those numbered from `begin`; `dead`: numbers that are nobody's."""
    numbers = np.arange(begin, begin + len(ids), dtype=np.uint32)
    rising = bool(np.all(ids[1:] > ids[:-1]))
    if len(dead):
        alive = ~np.isin(numbers, dead)
        rising = rising and bool(alive.all())
        numbers, live = numbers[alive], ids[alive]
    else:
        live = ids
    end = begin + len(ids)
    low, high = (int(live.min()), int(live.max())) if len(live) else (0, -1)
    if high - low < SPARSE * len(live) + 1024:
        table = np.full(high - low + 1, NONE, np.uint32)
        table[live - low] = numbers
        return Segment(begin=begin, end=end, low=low, table=table)
    keys = live.view(np.uint64) ^ FLIP
    if rising:
        starts, shift = _buckets(keys)
        return Segment(begin=begin, end=end, starts=starts, least=int(keys[0]), shift=shift)
    return _sorted(keys, numbers, begin, end)


def segment_of_text(hashes: NDArray[np.uint64], begin: int, dead: Numbers) -> Segment:
    """`hashes`: of the texts numbered from `begin`."""
    numbers = np.arange(begin, begin + len(hashes), dtype=np.uint32)
    alive = ~np.isin(numbers, dead) if len(dead) else np.ones(len(hashes), bool)
    return _sorted(hashes[alive], numbers[alive], begin, begin + len(hashes))


def _sorted(keys: NDArray[np.uint64], numbers: Numbers, begin: int, end: int) -> Segment:
    order = np.argsort(keys, kind="stable")
    keys, numbers = keys[order], numbers[order]
    starts, shift = _buckets(keys)
    least = int(keys[0]) if len(keys) else 0
    return Segment(begin=begin, end=end, keys=keys, numbers=numbers, starts=starts, least=least, shift=shift)


def _buckets(keys: NDArray[np.uint64]) -> tuple[Numbers, int]:
    """First key of each bucket, and the shift; about four keys a bucket where they are evenly spread."""
    if not len(keys):
        return np.zeros(2, np.uint32), 63
    span = int(keys[-1]) - int(keys[0])
    shift = max(span.bit_length() - max(len(keys) // 4, 1).bit_length(), 0)
    starts = np.zeros((span >> shift) + 2, np.uint32)
    _count(keys, keys[0], shift, starts)
    return starts, shift


def traces(segment: Segment, number: int, key: int, ids: NDArray[np.int64]) -> list[tuple[str, int, int]]:
    """What to overwrite so that nothing of `number` is left in the index: (part, place, value).

    `key`: its id where there is a table, else its 64-bit key; `ids`: every id by number. A key is
    overwritten by the one before it, so that the order holds and the first of equal ones is the living one.
    """
    if segment.table is not None:
        known = 0 <= key - segment.low < len(segment.table) and segment.table[key - segment.low] == number
        return [("table", key - segment.low, int(NONE))] if known else []
    if segment.keys is None or segment.numbers is None:
        before, end = int(ids[number - 1]) if number > segment.begin else NOBODY, number + 1
        while end < segment.end and ids[end] == ids[number]:  # copies over those forgotten before
            end += 1
        return [("ids", place, before) for place in reversed(range(number, end))]
    for place in range(int(np.searchsorted(segment.keys, np.uint64(key))), len(segment.keys)):
        if segment.keys[place] != key:
            break
        if segment.numbers[place] == number:
            before, end = int(segment.keys[place - 1]) if place else 0, place + 1
            while end < len(segment.keys) and segment.keys[end] == key and segment.numbers[end] == NONE:
                end += 1  # copies over those forgotten before
            own = [("keys", place, before), ("numbers", place, int(NONE))]
            return [*(("keys", copy, before) for copy in reversed(range(place + 1, end))), *own]
    return []


def lookup_integers(ids: NDArray[np.int64], segment: Segment, known: NDArray[np.int64], out: Numbers) -> None:
    """Fills `out` where it is NONE. `known`: every id by number."""
    if segment.table is not None:
        _in_table(ids, segment.low, segment.table, out)
        return
    keys, flip = segment.keys, np.uint64(0)
    if keys is None:
        keys, flip = known[segment.begin : segment.end].view(np.uint64), FLIP
    numbers = segment.numbers if segment.numbers is not None else _EMPTY
    _in_run(
        ids, keys, flip, numbers, segment.begin, segment.starts, np.uint64(segment.least), segment.shift, out
    )


def lookup_text(
    hashes: NDArray[np.uint64], offsets: Any, data: Any, segment: Segment, ends: Any, known: Any, out: Numbers
) -> None:
    """Fills `out` where it is NONE. `ends`, `known`: offsets and bytes of every text by number."""
    least = np.uint64(segment.least)
    _in_texts(
        hashes, offsets, data, segment.keys, segment.numbers, segment.starts, least, segment.shift,
        ends, known, out,
    )  # fmt: skip


_EMPTY = np.zeros(0, np.uint32)


@compiled
def _count(keys: Any, least: Any, shift: Any, starts: Any) -> None:
    for key in keys:
        starts[((key - least) >> np.uint64(shift)) + np.uint64(1)] += np.uint32(1)
    for i in range(1, starts.size):
        starts[i] += starts[i - 1]


@compiled
def _in_table(ids: Any, low: Any, table: Any, out: Any) -> None:
    for i in range(ids.size):
        if out[i] == NONE and low <= ids[i] and ids[i] - low < table.size:
            out[i] = table[ids[i] - low]


@compiled
def _first(keys: Any, flip: Any, key: Any, starts: Any, least: Any, shift: Any) -> Any:
    """Place of the first key that is not below `key`; −1 when there is none equal."""
    if key < least:
        return -1
    bucket = (key - least) >> np.uint64(shift)
    if bucket >= np.uint64(starts.size - 1):
        return -1
    low, high = np.int64(starts[bucket]), np.int64(starts[bucket + np.uint64(1)])
    while low < high:
        middle = (low + high) >> 1
        if (keys[middle] ^ flip) < key:
            low = middle + 1
        else:
            high = middle
    if low < keys.size and (keys[low] ^ flip) == key:
        return low
    return -1


@compiled
def _in_run(
    ids: Any, keys: Any, flip: Any, numbers: Any, begin: Any, starts: Any, least: Any, shift: Any, out: Any
) -> None:
    for i in range(ids.size):
        if out[i] == NONE:
            key = np.uint64(ids[i]) ^ FLIP
            place = _first(keys, flip, key, starts, least, shift)
            if place >= 0:
                out[i] = numbers[place] if numbers.size else np.uint32(begin + place)


@compiled
def _in_texts(
    hashes: Any, offsets: Any, data: Any, keys: Any, numbers: Any, starts: Any, least: Any, shift: Any,
    ends: Any, known: Any, out: Any,
) -> None:  # fmt: skip
    for i in range(hashes.size):
        if out[i] != NONE:
            continue
        place = _first(keys, np.uint64(0), hashes[i], starts, least, shift)
        while place >= 0 and place < keys.size and keys[place] == hashes[i]:
            number = numbers[place]
            if number != NONE:
                begin, length = ends[number], ends[number + 1] - ends[number]
                same = length == offsets[i + 1] - offsets[i]
                j = 0
                while same and j < length:
                    same = known[begin + j] == data[offsets[i] + j]
                    j += 1
                if same:
                    out[i] = number
                    break
            place += 1


@compiled
def hash_texts(offsets: Any, data: Any, out: Any) -> None:
    """A 64-bit hash of each text's bytes (FNV's loop over eight bytes at a time, then murmur's mixing), the
    same on every machine. Not meant to resist an adversary: equal hashes cost time, never a wrong answer."""
    for i in range(out.size):
        begin, end = offsets[i], offsets[i + 1]
        found = np.uint64(0xCBF29CE484222325) ^ np.uint64(end - begin)
        while begin < end:
            word = np.uint64(0)
            for j in range(min(8, end - begin)):
                word |= np.uint64(data[begin + j]) << np.uint64(8 * j)
            found = (found ^ word) * np.uint64(0x9E3779B97F4A7C15)
            found ^= found >> np.uint64(29)
            begin += 8
        found = (found ^ (found >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        found = (found ^ (found >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
        out[i] = found ^ (found >> np.uint64(33))


@compiled
def gather_texts(numbers: Any, ends: Any, known: Any, offsets: Any, out: Any) -> None:
    """The texts of `numbers`, one after the other, into `out` as `offsets` say."""
    for i in range(numbers.size):
        begin, to = ends[numbers[i]], offsets[i]
        for j in range(offsets[i + 1] - to):
            out[to + j] = known[begin + j]
