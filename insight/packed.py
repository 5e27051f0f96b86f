"""Sets as packed bits, and as Roaring bitmaps, without a list of numbers in between.

The bitmap is written in Roaring's portable form (https://github.com/RoaringBitmap/RoaringFormatSpec), which
is read as it is: a header, then for each 65,536 numbers that are not all absent either the bits themselves,
or, for at most 4,096 of them, their lower 16 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from insight.numbering import Numbers, compiled

Bits = NDArray[np.uint8]
#: numbers of a container; its bytes as bits; the most that are listed
_SPAN, _BYTES, _LISTED = 65_536, 8_192, 4_096
_COOKIE = 12_346


def no_bits(size: int) -> Bits:
    """Room for numbers below `size`, all absent; whole containers."""
    return np.zeros(-(-max(size, 1) // _SPAN) * _BYTES, np.uint8)


def bitmap_of(bits: Bits) -> BitMap:
    """The set whose number n is bit n (least significant first)."""
    if len(bits) % _BYTES:
        bits = np.concatenate([bits, np.zeros(-len(bits) % _BYTES, np.uint8)])
    counts = np.zeros(len(bits) // _BYTES, np.int64)
    _count(bits.view(np.uint64), counts)
    kept = np.flatnonzero(counts)
    sizes = np.where(counts[kept] > _LISTED, _BYTES, 2 * counts[kept])
    starts = 8 + 8 * len(kept) + np.concatenate([[0], np.cumsum(sizes)])
    out = np.zeros(int(starts[-1]), np.uint8)
    out[:8].view(np.uint32)[:] = _COOKIE, len(kept)
    heads = out[8 : 8 + 4 * len(kept)].view(np.uint16)
    heads[::2], heads[1::2] = kept, counts[kept] - 1
    out[8 + 4 * len(kept) : 8 + 8 * len(kept)].view(np.uint32)[:] = starts[:-1]
    _fill(bits, counts, kept, starts, out)
    found = BitMap.deserialize(out.tobytes())
    found.run_optimize()
    return found


def bits_of(members: BitMap, size: int) -> Bits:
    """The other way; `size` above every member."""
    bits = no_bits(size)
    _set(np.asarray(members.to_array(), dtype=np.uint32), bits)
    return bits


def renumbered(bits: Bits, rows: int, numbers: Numbers, out: Bits) -> None:
    """Sets in `out` the number of each row that is set in `bits`; rows without a number are nobody's."""
    _renumber(bits, rows, numbers, out)


def set_bits(numbers: Numbers, out: Bits) -> None:
    """Sets each of `numbers`; those that `out` has no room for are nobody's."""
    _set(numbers, out)


@compiled
def _count(words: Any, counts: Any) -> None:
    for container in range(counts.size):
        total = np.uint64(0)
        for i in range(container * 1024, container * 1024 + 1024):
            x = words[i]
            x -= (x >> np.uint64(1)) & np.uint64(0x5555555555555555)
            x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
            x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
            total += (x * np.uint64(0x0101010101010101)) >> np.uint64(56)
        counts[container] = np.int64(total)


@compiled
def _fill(bits: Any, counts: Any, kept: Any, starts: Any, out: Any) -> None:
    for i in range(kept.size):
        begin, to = kept[i] * 8192, starts[i]
        if counts[kept[i]] > 4096:
            out[to : to + 8192] = bits[begin : begin + 8192]
            continue
        for j in range(8192):
            byte = bits[begin + j]
            if byte:
                for k in range(8):
                    if byte >> k & 1:
                        low = 8 * j + k
                        out[to], out[to + 1] = low & 255, low >> 8
                        to += 2


@compiled
def _renumber(bits: Any, rows: Any, numbers: Any, out: Any) -> None:
    for i in range((rows + 7) // 8):
        byte = bits[i]
        if byte:
            for k in range(min(8, rows - 8 * i)):
                if byte >> k & 1:
                    number = numbers[8 * i + k]
                    if number >> 3 < out.size:
                        out[number >> 3] |= np.uint8(1 << (number & 7))


@compiled
def _set(numbers: Any, out: Any) -> None:
    for number in numbers:
        if number >> 3 < out.size:
            out[number >> 3] |= np.uint8(1 << (number & 7))
