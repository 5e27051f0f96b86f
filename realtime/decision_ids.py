"""Ids of decisions that prove themselves: when and where it was decided, under a keyed hash.

So an outcome's window is known without a look at any store, and an id that nobody gave is told from one that
was.
"""

from __future__ import annotations

import os
from functools import lru_cache
from hashlib import blake2b
from struct import Struct

#: decided (microseconds since 1970), mark of the moment, random
_BODY = Struct(">q4s6s")
_PROOF = 8


class DecisionIds:
    """`secret`: 16 to 64 bytes that all who decide and observe share."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def new(self, decided: int, moment: str) -> str:
        body = _BODY.pack(decided, mark(moment), os.urandom(6))
        return (body + self._proof(body)).hex()

    def opened(self, decision_id: str) -> tuple[int, bytes] | None:
        """When it was decided, and the mark of its moment; None for an id that was never given."""
        try:
            raw = bytes.fromhex(decision_id)
        except ValueError:
            return None
        body = raw[: _BODY.size]
        if raw != body + self._proof(body) or len(body) != _BODY.size or raw.hex() != decision_id:
            return None
        decided, moment, _ = _BODY.unpack(body)
        return decided, moment

    def _proof(self, body: bytes) -> bytes:
        return blake2b(body, key=self._secret, digest_size=_PROOF).digest()


@lru_cache(maxsize=1024)
def mark(moment: str) -> bytes:
    """Four bytes that stand for a moment."""
    return blake2b(moment.encode(errors="surrogatepass"), digest_size=4).digest()
