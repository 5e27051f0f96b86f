"""The state of many users' caps on one machine: what it takes, and how long a check lasts.

What the ledger itself wrote is measured as it lies. Fifty million users are filled in in order of their
hashes, in the ledger's own form (their pages are full, where those that grew by themselves are two thirds
full); those who are checked are the ledger's own, at random places between them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Line
from benchmarks.hammering import AT, HOLD, caps
from kernel.clock import micros
from kernel.exposure import Reservation
from storage.exposure_records import CONFIRMED, PLACE, RESERVED, RUN, Record, pack, put_label
from storage.exposures_lmdb import LmdbLedger
from storage.online_lmdb import UNTIL, LmdbOnlineStore

#: touches of each user: one that a plan reserved, one that was decided in real time
HELD = 2
#: users that the ledger itself writes, of whom those who are checked are drawn
_OWN, _CHECKED = 20_000, 5_000
_CHUNK = 100_000
#: as the ledger numbers labels: the first one
_LABEL = (1, "csms")


def state(where: Path, users: int, seconds: float, seed: int, *, filled: bool) -> Line:
    """`filled`: in bulk, as many as are thought to fit into `seconds`."""
    begun = time.perf_counter()
    rng = np.random.default_rng(seed)
    store = LmdbOnlineStore(where / "online", keep=HOLD, hold=HOLD, idle=HOLD)
    store.ready()
    if filled:
        users = _fill(store.env, users, seconds, rng)
    own = _OWN if filled else users
    with closing(store), closing(LmdbLedger(store, where / "ledger")) as ledger:
        _reserve(ledger, own)
        took = time.perf_counter() - begun
        cold, warm = (_checks(ledger, own, rng) for _ in range(2))
        kept, logged = _on_disk(where / "online"), _on_disk(where / "ledger")
    users += own if filled else 0
    notes: dict[str, object] = {
        "users": users,
        "touches of each": HELD,
        "bytes a user, store": round(kept / users),
        "with log": round((kept + logged) / users) if not filled else "–",
        "check p50 µs": round(float(np.quantile(warm, 0.5)) * 1e6, 1),
        "check p99 µs": round(float(np.quantile(warm, 0.99)) * 1e6, 1),
        "first look p99 µs": round(float(np.quantile(cold, 0.99)) * 1e6, 1),
        "memory of the process, MB": round(_own_memory()),
    }
    who = "state of users" + (", filled in order" if filled else "")
    return Line(size=users, who=who, ratio=None, times=0.0, seconds=took, notes=notes)


def _reserve(ledger: LmdbLedger, users: int) -> None:
    rules = caps()
    for first in range(0, users, 5_000):
        wishes = [
            Reservation(
                touch_id=f"own {user} {touch}", user=f"user {user}", channel="sms", activity="spring",
                at=AT + timedelta(days=touch),
            )
            for user in range(first, min(first + 5_000, users))
            for touch in range(HELD)
        ]  # fmt: skip
        assert not ledger.reserve_many(wishes, caps=rules)


def _fill(env: Any, users: int, seconds: float, rng: np.random.Generator) -> int:
    """How many there are then. Keys are appended, which LMDB does without looking for their place."""
    tried = min(users, 10 * _CHUNK)
    begun = time.perf_counter()
    hashes = _hashes(tried, rng)
    for make in (_places, _ends, _runs):
        list(make(hashes))
    # making them takes about a third of it
    users = int(min(users, tried * seconds / (3.0 * (time.perf_counter() - begun))))
    # one seed for each pass, so that all three are of the same users
    seed = int(rng.integers(2**63))
    for make in (_places, _ends, _runs):  # in order of their first bytes
        again = np.random.default_rng(seed)
        for first in range(0, users, _CHUNK):
            many = min(_CHUNK, users - first)
            with env.begin(write=True) as tx, tx.cursor() as cursor:
                cursor.putmulti(make(_hashes(many, again, first, users)), append=True)
    with env.begin(write=True) as tx:
        put_label(tx, *_LABEL)
    return users


def _hashes(many: int, rng: np.random.Generator, first: int = 0, of: int = 0) -> Any:
    """Of so many users, [many, 16] bytes in order: each somewhere in its own part of the space."""
    part = 2**64 // max(of or many, 1)
    high = (np.arange(first, first + many).astype(np.uint64) * np.uint64(part)) + rng.integers(
        part, size=many, dtype=np.uint64
    )
    low = rng.integers(2**64 - 1, size=many, dtype=np.uint64)
    return np.stack([high, low], 1).astype(">u8").view(np.uint8).reshape(many, 16)


def _runs(hashes: Any) -> Iterator[tuple[bytes, bytes]]:
    at = micros(AT)
    planned = Record(at, 1, at // 10**6, 0, 0, 0, 0, _LABEL[0], ord("m"), RESERVED)
    decided = Record(at + 86_400 * 10**6, 0, at // 10**6, 0, 0, 0, 0, _LABEL[0], ord("m"), CONFIRMED)
    template = UNTIL.pack(decided.at + HOLD) + pack([planned, decided])
    values = np.tile(np.frombuffer(template, np.uint8), (len(hashes), 1))
    values[:, UNTIL.size + 8 : UNTIL.size + 16] = hashes[:, 7::-1]  # marks are little-endian there
    return zip(_sliced(RUN, hashes), _sliced(b"", values), strict=True)


def _places(hashes: Any) -> Iterator[tuple[bytes, bytes]]:
    return zip(_sliced(PLACE, hashes[:, :8]), _sliced(b"", hashes), strict=True)


def _ends(hashes: Any) -> Iterator[tuple[bytes, bytes]]:
    until = (micros(AT) + 86_400 * 10**6 + HOLD).to_bytes(8, "big")
    return ((key, b"") for key in _sliced(b"t" + until + RUN, hashes))


def _sliced(before: bytes, rows: Any) -> list[bytes]:
    """Each row's bytes behind the same ones."""
    whole = np.concatenate([np.tile(np.frombuffer(before, np.uint8), (len(rows), 1)), rows], 1)
    raw, width = whole.tobytes(), whole.shape[1]
    return [raw[start : start + width] for start in range(0, len(raw), width)]


def _checks(ledger: LmdbLedger, users: int, rng: np.random.Generator) -> list[float]:
    """Of users at random, seconds to tell whether one more fits."""
    times, rules = [], caps()
    for user in rng.integers(0, users, _CHECKED):
        wish = Reservation(touch_id="asked", user=f"user {user}", channel="sms", activity="spring", at=AT)
        begun = time.perf_counter()
        ledger.refusal(wish, caps=rules)
        times.append(time.perf_counter() - begun)
    return times


def _on_disk(folder: Path) -> int:
    """Bytes that files really take."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())


def _own_memory() -> float:
    """What this process holds besides the files that it maps, MB."""
    with open("/proc/self/status", encoding="ascii") as told:
        return next(int(line.split()[1]) / 1024 for line in told if line.startswith("RssAnon"))
