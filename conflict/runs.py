"""What a stream of candidates needs row by row: codes of labels, and the order of a user's candidates."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}
#: keys that differ by less are put in order by bits
_NEAR = 1024


def _begins_python(users: Any, out: Any) -> int:
    """Rows [n] at which another user begins than the row before has; how many, or −1 if users descend."""
    count = 0
    for row in range(1, users.size):
        out[count] = row
        count += users[row] != users[row - 1]
        if users[row] < users[row - 1]:
            return -1
    return count


def _place_python(labels: Any, low: int, stride: int, places: Any) -> None:
    """Adds what one label column [n] contributes to each row's place in the table of combinations."""
    for row in range(labels.size):
        places[row] += (np.int64(labels[row]) - low) * stride


def _number_python(table: Any, known: int, places: Any, fresh: Any) -> int:
    """Puts the number of each row's combination for its place; new ones are numbered on from `known`.

    `fresh` receives their rows; how many there are now.
    """
    for row in range(places.size):
        kind = table[places[row]]
        if kind < 0:
            kind = known
            table[places[row]] = kind
            fresh[known] = row
            known += 1
        places[row] = kind
    return known


def _ordered_python(keys: Any, starts: Any, first: int) -> bool:
    """Whether each user's keys ascend strictly; user u has keys starts[u] − first up to the next."""
    for user in range(starts.size - 1):
        for at in range(starts[user] - first + 1, starts[user + 1] - first):
            if keys[at] <= keys[at - 1]:
                return False
    return True


def _ones_python(word: Any) -> Any:
    """How many bits of 64 are set, counted in parallel (Warren, Hacker's Delight, 5-1)."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


_ones = numba.njit(**_OPTIONS)(_ones_python)


def _by_bits_python(keys: Any, begin: int, size: int, low: int, words: Any, before: Any, to: Any) -> bool:
    """Puts each key's place in order into `to` by bits above `low`; false where one is there twice."""
    one = np.uint64(1)
    words[:] = 0
    for at in range(size):
        bit = keys[begin + at] - low
        words[bit >> 6] |= one << np.uint64(bit & 63)
    total = 0
    for word in range(words.size):
        before[word] = total
        total += _ones(words[word])
    for at in range(size):
        bit = keys[begin + at] - low
        to[at] = before[bit >> 6] + _ones(words[bit >> 6] & ((one << np.uint64(bit & 63)) - one))
    return bool(total == size)


def _by_sort_python(keys: Any, begin: int, size: int, to: Any) -> bool:
    """The same for keys that are far apart."""
    own = keys[begin : begin + size]
    order = np.argsort(own)
    for at in range(size):
        to[order[at]] = at
        if at and own[order[at]] == own[order[at - 1]]:
            return False
    return True


_by_bits = numba.njit(**_OPTIONS)(_by_bits_python)
_by_sort = numba.njit(**_OPTIONS)(_by_sort_python)


def _settle_python(
    keys: Any, starts: Any, first: int, value: Any, amounts: Any, kind: Any, places: Any, room: int
) -> int:
    """Puts each user's candidates in order of their keys, in place; the first user with a key twice, or −1.

    User u has rows starts[u] to starts[u+1] of the columns, at most `room`, and keys at these less `first`;
    `places` receives which of the user's rows each was.
    """
    low, high = keys[0], keys[0]
    for at in range(keys.size):
        low, high = min(low, keys[at]), max(high, keys[at])
    span = np.uint64(high) - np.uint64(low)
    near = span < np.uint64(_NEAR)
    words = np.empty(np.int64(span >> np.uint64(6)) + 1 if near else 1, np.uint64)
    before, to = np.empty(words.size, np.int64), np.empty(room, np.int64)
    values, kinds = np.empty(room, value.dtype), np.empty(room, kind.dtype)
    for user in range(starts.size - 1):
        begin, size = starts[user], starts[user + 1] - starts[user]
        if near:
            apart = _by_bits(keys, begin - first, size, low, words, before, to)
        else:
            apart = _by_sort(keys, begin - first, size, to)
        if not apart:
            return user
        for at in range(size):
            values[to[at]], kinds[to[at]] = value[begin + at], kind[begin + at]
            places[begin + to[at]] = at
        for at in range(size):
            value[begin + at], kind[begin + at] = values[at], kinds[at]
        for row in range(amounts.shape[0]):
            for at in range(size):
                values[to[at]] = amounts[row, begin + at]
            for at in range(size):
                amounts[row, begin + at] = values[at]
    return -1


def _back_python(starts: Any, places: Any, chosen: Any, out: Any) -> None:
    """Marks in `out` the rows of the chosen candidates."""
    for user in range(starts.size - 1):
        for at in range(starts[user], starts[user + 1]):
            if chosen[at]:
                out[starts[user] + places[at]] = True


begins = numba.njit(**_OPTIONS)(_begins_python)
place = numba.njit(**_OPTIONS)(_place_python)
number = numba.njit(**_OPTIONS)(_number_python)
ordered = numba.njit(**_OPTIONS)(_ordered_python)
settle = numba.njit(**_OPTIONS)(_settle_python)
back = numba.njit(**_OPTIONS)(_back_python)
