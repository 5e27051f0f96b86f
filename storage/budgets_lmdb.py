"""What is spent of budgets, on one machine: LMDB, from any number of its processes.

Nothing waits for the disk: what is spent is with the operating system, so it survives any process. After
the machine itself went down the files may be anything: they are thrown away, `anew` says so, and what the
journals tell was spent must be spent again, each by its id, before anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from shutil import rmtree
from struct import Struct
from typing import Literal

import lmdb

from kernel.errors import Unavailable

#: ids are kept until a budget is spent from that opens so much later
KEPT = timedelta(days=3)

#: spent, and decisions that came
_SUMS = Struct("<qq")
#: in a key, so that what opened first comes first
_OPENS = Struct(">Q")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
#: bytes that the files may hold; they are sparse
_MAP = 1 << 34


class LmdbBudgets:
    """Satisfies `realtime.pacing.Budgets`. One object a process; safe for threads."""

    def __init__(self, folder: Path, *, boot: str | None = None) -> None:
        boot = boot or (_BOOT.read_text().strip() if _BOOT.exists() else "")
        told = folder / "boot"
        #: nothing is known: it was never there, or the machine went down since
        self.anew = not told.exists() or told.read_text() != boot
        try:
            if self.anew:
                rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
            self._env = lmdb.open(
                str(folder / "budgets"), map_size=_MAP, sync=False, metasync=False, max_readers=1024
            )
            self._env.reader_check()  # of processes that were killed
            told.write_text(boot)
        except (lmdb.Error, OSError) as error:
            raise Unavailable(f"the store of budgets does not open: {error}") from error

    def spend(
        self, budget: str, amount: int, spend_id: str, at_most: int
    ) -> tuple[Literal["spent", "repeated", "refused"], int]:
        opens = int(budget.rpartition("@")[2])
        sums, mine = b"b" + _hash(budget), b"i" + _OPENS.pack(opens) + _hash(f"{budget}\n{spend_id}")
        try:
            with self._env.begin(write=True) as step:
                spent, came = _SUMS.unpack(step.get(sums) or bytes(_SUMS.size))
                if step.get(mine) is not None:
                    return "repeated", spent
                if spent + amount > at_most:
                    return "refused", spent
                step.put(mine, b"")
                step.put(sums, _SUMS.pack(spent + amount, came))
                _let_go(step, opens - int(KEPT.total_seconds()))
        except lmdb.Error as error:
            raise Unavailable(f"the store of budgets does not answer: {error}") from error
        return "spent", spent + amount

    def totals(self, budgets: Sequence[str], arrived: int) -> Sequence[tuple[int, int]]:
        found = []
        try:
            with self._env.begin(write=arrived > 0) as step:
                for each in budgets:
                    sums = b"b" + _hash(each)
                    spent, came = _SUMS.unpack(step.get(sums) or bytes(_SUMS.size))
                    if arrived:
                        step.put(sums, _SUMS.pack(spent, came + arrived))
                    found.append((spent, came + arrived))
        except lmdb.Error as error:
            raise Unavailable(f"the store of budgets does not answer: {error}") from error
        return found

    def close(self) -> None:
        self._env.close()


def _let_go(step: lmdb.Transaction, before: int) -> None:
    """Of two ids at most that belong to budgets which opened before: more than are added."""
    cursor = step.cursor()
    for _ in range(2):
        if not cursor.set_range(b"i"):
            return
        key = bytes(cursor.key())
        if key[:1] != b"i" or _OPENS.unpack_from(key, 1)[0] >= before:
            return
        cursor.delete()


def _hash(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
