"""What is spent of budgets, shared by the processes of one machine: in the online store's own files."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from struct import Struct
from time import time_ns
from typing import Literal

from storage.online_lmdb import UNTIL, LmdbOnlineStore, Step

#: sums and ids are kept so long after they were last changed, microseconds: longer than any day is open
KEPT = 3 * 86_400 * 1_000_000

#: spent in millionths, decisions that came
_SUMS = Struct("<qq")


class LmdbBudgets:
    """Satisfies `realtime.pacing.Budgets`; safe for threads and processes, and what is spent survives
    `kill -9`. Nothing waits for the disk; after the machine itself went down the online store is `anew`,
    and whoever tells it again spends again what the journals say was spent, each by its id."""

    def __init__(self, store: LmdbOnlineStore) -> None:
        self._store = store

    def spend(
        self, budget: str, amount: int, spend_id: str, at_most: int
    ) -> tuple[Literal["spent", "repeated", "refused"], int]:
        sums, mine = b"b" + _hash(budget), b"i" + _hash(f"{budget}\n{spend_id}")
        with Step(self._store.env, write=True) as tx:
            spent, came = _sums(tx.get(sums))
            if tx.get(mine) is not None:
                return "repeated", spent
            if spent + amount > at_most:
                return "refused", spent
            until = time_ns() // 1000 + KEPT
            self._store.put(tx, sums, until, _SUMS.pack(spent + amount, came))
            self._store.put(tx, mine, until, b"")
        return "spent", spent + amount

    def give_back(self, budget: str, amount: int, spend_id: str) -> int:
        sums, mine = b"b" + _hash(budget), b"i" + _hash(f"{budget}\n{spend_id}")
        with Step(self._store.env, write=True) as tx:
            spent, came = _sums(tx.get(sums))
            if not tx.delete(mine):
                return spent
            self._store.put(tx, sums, time_ns() // 1000 + KEPT, _SUMS.pack(spent - amount, came))
        return spent - amount

    def totals(self, budgets: Sequence[str], arrived: int) -> Sequence[tuple[int, int]]:
        places = [b"b" + _hash(each) for each in budgets]
        if not arrived:
            with Step(self._store.env, write=False) as get:
                return [_sums(get(each)) for each in places]
        found, until = [], time_ns() // 1000 + KEPT
        with Step(self._store.env, write=True) as tx:
            for each in places:
                spent, came = _sums(tx.get(each))
                self._store.put(tx, each, until, _SUMS.pack(spent, came + arrived))
                found.append((spent, came + arrived))
        return found


def _sums(raw: bytes | None) -> tuple[int, int]:
    if raw is None:
        return 0, 0
    spent, came = _SUMS.unpack_from(raw, UNTIL.size)
    return spent, came


def _hash(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
