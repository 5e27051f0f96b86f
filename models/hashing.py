"""`kernel.randomness.unit` for whole columns: BLAKE2b (RFC 7693) compiled, the same number for every id.

One by one and in bulk must agree for ever, and who asks one by one (a decision in real time) cannot enter
this room: so the kernel's hash is the only one, and this is only a faster way to the same digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernel.errors import BadInput

Hashes = NDArray[np.uint64]
Floats = NDArray[np.float64]

_IV = np.array(
    [
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
    ],
    dtype=np.uint64,
)  # fmt: skip
_ORDER = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
    ],
    dtype=np.int64,
)
#: word positions that each of the eight mixings of a round works on
_MIX = np.array(
    [
        [0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15],
        [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14],
    ],
    dtype=np.int64,
)  # fmt: skip
#: the first word of the state for a digest of eight bytes without a key
_FIRST = np.uint64(int(_IV[0]) ^ 0x01010000 ^ 8)


def _turn_python(word: Any, by: Any) -> Any:
    return (word >> np.uint64(by)) | (word << np.uint64(64 - by))


_turn: Callable[..., Any] = numba.njit(inline="always", nogil=True)(_turn_python)


def _digest_python(prefix: Any, text: Any, begin: Any, end: Any, words: Any, v: Any, h: Any) -> Any:
    length = len(prefix) + end - begin
    h[:] = _IV
    h[0] = _FIRST
    block = 0
    while True:
        last = block + 128 >= length
        words[:] = np.uint64(0)
        for i in range(block, min(block + 128, length)):
            byte = prefix[i] if i < len(prefix) else text[begin + i - len(prefix)]
            words[(i - block) >> 3] |= np.uint64(byte) << np.uint64(8 * (i & 7))
        v[:8] = h
        v[8:] = _IV
        v[12] ^= np.uint64(length if last else block + 128)
        if last:
            v[14] = ~v[14]
        for turn in range(12):
            for mix in range(8):
                a, b, c, d = _MIX[mix, 0], _MIX[mix, 1], _MIX[mix, 2], _MIX[mix, 3]
                v[a] = v[a] + v[b] + words[_ORDER[turn % 10, 2 * mix]]
                v[d] = _turn(v[d] ^ v[a], 32)
                v[c] = v[c] + v[d]
                v[b] = _turn(v[b] ^ v[c], 24)
                v[a] = v[a] + v[b] + words[_ORDER[turn % 10, 2 * mix + 1]]
                v[d] = _turn(v[d] ^ v[a], 16)
                v[c] = v[c] + v[d]
                v[b] = _turn(v[b] ^ v[c], 63)
        for i in range(8):
            h[i] ^= v[i] ^ v[i + 8]
        if last:
            break
        block += 128
    found = np.uint64(0)  # the kernel reads the eight bytes from the other end
    for i in range(8):
        found |= ((h[0] >> np.uint64(8 * i)) & np.uint64(255)) << np.uint64(56 - 8 * i)
    return found


_digest: Callable[..., Any] = numba.njit(nogil=True)(_digest_python)


def _all_python(prefix: Any, text: Any, offsets: Any, out: Any) -> None:
    words, v, h = np.empty(16, np.uint64), np.empty(16, np.uint64), np.empty(8, np.uint64)
    for row in range(len(out)):
        out[row] = _digest(prefix, text, offsets[row], offsets[row + 1], words, v, h)


_all: Callable[..., None] = numba.njit(nogil=True, cache=True)(_all_python)


def hashes(users: pl.Series, salt: str) -> Hashes:
    """`stable_hash(salt, user)` of every user, in order.

    Users are integers or text; 42 and "42" are one user, as everywhere. Raises BadInput for other types
    and for a user that is missing.
    """
    if not (users.dtype.is_integer() or users.dtype in (pl.String, pl.Categorical, pl.Enum)):
        raise BadInput(
            "is neither whole numbers nor text", field=users.name or "user", value=str(users.dtype)
        )
    if users.null_count():
        raise BadInput("is missing in some rows", field=users.name or "user", value=users.null_count())
    found = np.empty(len(users), np.uint64)
    if len(users):
        text, offsets = _bytes(users)
        _all(np.frombuffer(f"{salt}\x1f".encode(), np.uint8), text, offsets, found)
    return found


def units(users: pl.Series, salt: str) -> Floats:
    """`kernel.randomness.unit(user, salt)` of every user, in [0, 1], in order. Raises as `hashes`."""
    return hashes(users, salt).astype(np.float64) / 2.0**64


def _bytes(users: pl.Series) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The ids' UTF-8, one after another, and where each begins."""
    arrow = users.cast(pl.String).rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, begins, data = arrow.buffers()
    offsets = np.frombuffer(begins, np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    text = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
    return text, offsets
