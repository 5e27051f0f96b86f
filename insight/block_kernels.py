"""Blocks of 65,536 users laid out, and a program of and, or, less run over them, by Numba."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from insight.numbering import compiled

#: users of a block up to which it is a list
LISTED = 512
#: steps of a program
PUSH, AND, OR, LESS = range(4)


def _pointer(_context: Any, _address: Any, kind: Any) -> Any:
    """An address as one of values of a type."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(kind.dtype)(types.uint64, kind), generate


_at = intrinsic(_pointer)


@compiled
def measure(data: Any, blocks: Any, kinds: Any, offsets: Any, sizes: Any) -> None:
    """Users in each block of a serialised bitmap. Kinds are those of `containers`."""
    for i in range(blocks.size):
        at, found = offsets[i], 0
        if kinds[i] > 0:
            found = kinds[i]
        elif kinds[i] == -1:
            for j in range(at, at + 8192):
                byte = data[j]
                byte -= (byte >> 1) & 0x55
                byte = (byte & 0x33) + ((byte >> 2) & 0x33)
                found += (byte + (byte >> 4)) & 0x0F
        else:
            for j in range(at, at + 4 * (-1 - kinds[i]), 4):
                found += 1 + data[j + 2] + 256 * np.int64(data[j + 3])
        sizes[blocks[i]] = found


@compiled
def lay(
    data: Any, blocks: Any, kinds: Any, offsets: Any, sizes: Any, places: Any, words: Any, lists: Any
) -> None:
    """Copies each block to its place, as a list or as words."""
    raw = words.view(np.uint8)
    for i in range(blocks.size):
        size, to, at = sizes[blocks[i]], places[blocks[i]], offsets[i]
        dense = size > LISTED
        if size == 65_536:
            continue
        if kinds[i] == -1 and dense:
            raw[8 * to : 8 * to + 8192] = data[at : at + 8192]
        elif kinds[i] == -1:
            for j in range(8192):
                for k in range(8):
                    if data[at + j] >> k & 1:
                        lists[to] = 8 * j + k
                        to += 1
        elif kinds[i] > 0:
            for j in range(at, at + 2 * size, 2):
                low = data[j] + 256 * np.int64(data[j + 1])
                if dense:
                    words[to + (low >> 6)] |= np.uint64(1) << np.uint64(low & 63)
                else:
                    lists[to] = low
                    to += 1
        else:
            for j in range(at, at + 4 * (-1 - kinds[i]), 4):
                first = data[j] + 256 * np.int64(data[j + 1])
                for low in range(first, first + 1 + data[j + 2] + 256 * np.int64(data[j + 3])):
                    if dense:
                        words[to + (low >> 6)] |= np.uint64(1) << np.uint64(low & 63)
                    else:
                        lists[to] = low
                        to += 1


@compiled
def run(steps: Any, high: Any, sizes: Any, places: Any, begin: Any, end: Any) -> Any:
    """How many users of the blocks `begin` ≤ b < `end` are left. `sizes` and `places` by set, block."""
    stack = np.zeros((high, 1024), np.uint64)
    some = np.zeros(high, np.bool_)
    total = np.int64(0)
    for block in range(begin, end):
        top = -1
        for s in range(steps.shape[0]):
            step, operand = steps[s, 0], steps[s, 1]
            if step == PUSH:
                top += 1
                size = sizes[operand, block]
                some[top] = size > 0
                if size:
                    _put(stack[top], size, places[operand, block])
            elif operand < 0:
                top -= 1
                some[top] = _both(step, stack[top], some[top], stack[top + 1], some[top + 1])
            else:
                some[top] = _with(step, stack[top], some[top], sizes[operand, block], places[operand, block])
        if some[0]:
            own = stack[0]
            for i in range(1024):
                x = own[i]
                x -= (x >> np.uint64(1)) & np.uint64(0x5555555555555555)
                x = (x & np.uint64(0x3333333333333333)) + (
                    (x >> np.uint64(2)) & np.uint64(0x3333333333333333)
                )
                x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
                total += np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))
    return total


@compiled
def _put(own: Any, size: Any, place: Any) -> None:
    """`own` becomes the block, which is not empty."""
    if size == 65_536:
        own[:] = np.uint64(0xFFFFFFFFFFFFFFFF)
    elif size > LISTED:
        words = numba.carray(_at(place, np.uint64), 1024)
        for i in range(1024):
            own[i] = words[i]
    else:
        own[:] = np.uint64(0)
        for low in numba.carray(_at(place, np.uint16), size):
            own[low >> 6] |= np.uint64(1) << np.uint64(low & 63)


@compiled
def _with(step: Any, own: Any, some: Any, size: Any, place: Any) -> Any:
    """`own` and, or, less a block of a set; whether any may be left."""
    if step == OR and not some and size:
        _put(own, size, place)
        return True
    if not some or not size:
        return some and step != AND
    if size == 65_536:
        if step == OR:
            own[:] = np.uint64(0xFFFFFFFFFFFFFFFF)
        return step != LESS
    if size > LISTED:
        words = numba.carray(_at(place, np.uint64), 1024)
        if step == AND:
            for i in range(1024):
                own[i] &= words[i]
        elif step == OR:
            for i in range(1024):
                own[i] |= words[i]
        else:
            for i in range(1024):
                own[i] &= ~words[i]
        return True
    users = numba.carray(_at(place, np.uint16), size)
    if step == AND:
        at = 0  # the list is rising: word by word what is in it
        for i in range(1024):
            mask = np.uint64(0)
            while at < size and users[at] >> 6 == i:
                mask |= np.uint64(1) << np.uint64(users[at] & 63)
                at += 1
            own[i] &= mask
        return True
    for low in users:
        bit = np.uint64(1) << np.uint64(low & 63)
        if step == OR:
            own[low >> 6] |= bit
        else:
            own[low >> 6] &= ~bit
    return True


@compiled
def _both(step: Any, own: Any, some: Any, other: Any, others: Any) -> Any:
    """`own` and, or, less `other`; whether any may be left."""
    if step == AND:
        if some and others:
            for i in range(1024):
                own[i] &= other[i]
        return some and others
    if step == LESS:
        if some and others:
            for i in range(1024):
                own[i] &= ~other[i]
        return some
    if others and some:
        for i in range(1024):
            own[i] |= other[i]
    elif others:
        own[:] = other
    return some or others
