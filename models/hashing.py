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
    dtype=np.uint64,
)
#: the first word of the state for a digest of eight bytes without a key
_FIRST = np.uint64(int(_IV[0]) ^ 0x01010000 ^ 8)


def _turn_python(word: Any, by: Any) -> Any:
    return (word >> np.uint64(by)) | (word << np.uint64(64 - by))


_turn: Callable[..., Any] = numba.njit(inline="always", nogil=True)(_turn_python)


def _mix_python(a: Any, b: Any, c: Any, d: Any, x: Any, y: Any) -> Any:
    a = a + b + x
    d = _turn(d ^ a, 32)
    c = c + d
    b = _turn(b ^ c, 24)
    a = a + b + y
    d = _turn(d ^ a, 16)
    c = c + d
    b = _turn(b ^ c, 63)
    return a, b, c, d


_mix: Callable[..., Any] = numba.njit(inline="always", nogil=True)(_mix_python)


def _compress_python(h: Any, m: Any, counted: Any, last: bool) -> None:
    # sixteen names instead of an array: they stay in registers
    v0, v1, v2, v3, v4, v5, v6, v7 = h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
    v8, v9, v10, v11 = _IV[0], _IV[1], _IV[2], _IV[3]
    v12, v13, v14, v15 = _IV[4] ^ counted, _IV[5], _IV[6], _IV[7]
    if last:
        v14 = ~v14
    for turn in range(12):
        s = _ORDER[turn % 10]
        v0, v4, v8, v12 = _mix(v0, v4, v8, v12, m[s[0]], m[s[1]])
        v1, v5, v9, v13 = _mix(v1, v5, v9, v13, m[s[2]], m[s[3]])
        v2, v6, v10, v14 = _mix(v2, v6, v10, v14, m[s[4]], m[s[5]])
        v3, v7, v11, v15 = _mix(v3, v7, v11, v15, m[s[6]], m[s[7]])
        v0, v5, v10, v15 = _mix(v0, v5, v10, v15, m[s[8]], m[s[9]])
        v1, v6, v11, v12 = _mix(v1, v6, v11, v12, m[s[10]], m[s[11]])
        v2, v7, v8, v13 = _mix(v2, v7, v8, v13, m[s[12]], m[s[13]])
        v3, v4, v9, v14 = _mix(v3, v4, v9, v14, m[s[14]], m[s[15]])
    h[0] ^= v0 ^ v8
    h[1] ^= v1 ^ v9
    h[2] ^= v2 ^ v10
    h[3] ^= v3 ^ v11
    h[4] ^= v4 ^ v12
    h[5] ^= v5 ^ v13
    h[6] ^= v6 ^ v14
    h[7] ^= v7 ^ v15


_compress: Callable[..., None] = numba.njit(nogil=True)(_compress_python)


def _digest_python(prefix: Any, text: Any, begin: Any, end: Any, words: Any, h: Any) -> Any:
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
        _compress(h, words, np.uint64(length if last else block + 128), last)
        if last:
            break
        block += 128
    found = np.uint64(0)  # the kernel reads the eight bytes from the other end
    for i in range(8):
        found |= ((h[0] >> np.uint64(8 * i)) & np.uint64(255)) << np.uint64(56 - 8 * i)
    return found


_digest: Callable[..., Any] = numba.njit(nogil=True)(_digest_python)


def _all_python(prefix: Any, text: Any, offsets: Any, out: Any) -> None:
    words, h = np.empty(16, np.uint64), np.empty(8, np.uint64)
    for row in range(len(out)):
        out[row] = _digest(prefix, text, offsets[row], offsets[row + 1], words, h)


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
