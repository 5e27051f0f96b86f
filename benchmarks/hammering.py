"""Processes that hammer one cap at once, some killed at random on the way, and the count of what was lost or
over."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kernel.caps import Caps
from kernel.contact import Cap
from storage.exposures_lmdb import LmdbLedger
from storage.exposures_redis import RedisLedger
from storage.online_lmdb import LmdbOnlineStore

_ROOT = Path(__file__).parents[1]
HOLD = 31 * 86_400 * 1_000_000
AT = datetime(2026, 1, 15, 12, tzinfo=UTC)
PROCESSES, THREADS, USERS = 4, 16, 40
#: every wish of every process and thread is for one of some users, at one instant
WORKER = f"""
import sys, threading
from datetime import UTC, datetime
from pathlib import Path
from benchmarks.hammering import AT, opened
from kernel.caps import Caps
from kernel.contact import Cap
from kernel.exposure import Reservation

where, me, life = sys.argv[1:4]
todo, most, users = map(int, sys.argv[4:])
caps = Caps([Cap(name="one", at_most=most, within="7d")])
with opened(where) as ledger:
    print("up", flush=True)
    sys.stdin.readline()
    lock = threading.Lock()

    def hammer(thread):
        for number in range(todo // {THREADS}):
            key = f"{{me}}-{{life}}-{{thread}}-{{number}}"
            user = f"u{{(number * 7 + thread) % users}}"
            no = ledger.reserve(Reservation(touch_id=key, user=user, channel="sms", at=AT), caps=caps)
            if no is None and number % 2:
                ledger.confirm([key])
            with lock:
                print("G" if no is None else "N", key, flush=True)

    threads = [threading.Thread(target=hammer, args=(each,)) for each in range({THREADS})]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
print("done", flush=True)
"""


@contextmanager
def opened(where: str) -> Iterator[LmdbLedger | RedisLedger]:
    """The ledger at a folder or a Redis' address."""
    if "://" in where:
        remote = RedisLedger(where, hold=HOLD, patience=30.0)
        yield remote
        remote.close()
        return
    store = LmdbOnlineStore(Path(where) / "online", keep=HOLD, hold=HOLD, idle=HOLD)
    store.ready()
    ledger = LmdbLedger(store, Path(where) / "ledger")
    yield ledger
    ledger.close()
    store.close()


@dataclass
class Hammered:
    """What a run showed; `lost` and `over` must be 0."""

    asked: int = 0
    granted: int = 0
    kills: int = 0
    #: acknowledged as granted and not held
    lost: int = 0
    #: held beyond the cap, of all users
    over: int = 0
    held: int = 0
    seconds: float = 0.0


def hammer(
    where: str,
    asked: int,
    most: int,
    kills: int,
    seed: int,
    processes: int = PROCESSES,
    users: int = USERS,
) -> Hammered:
    """About so many wishes by all processes; each process is killed some times and begun again."""
    chance, count = random.Random(seed), Hammered()  # noqa: S311  a benchmark's
    granted = list[str]()
    lives = kills // processes + 1
    begun = time.perf_counter()
    for life in range(lives):
        last = life == lives - 1
        todo = max(THREADS, (asked - count.asked) // processes) if last else asked
        began = [_worker(where, each, life, todo, most, users) for each in range(processes)]
        for each in began:
            assert each.stdout
            assert each.stdout.readline() == "up\n"
        for each in began:
            assert each.stdin
            each.stdin.write("go\n")
            each.stdin.flush()
        for each in began:
            if not last:
                time.sleep(chance.uniform(0.02, 0.3))
                each.kill()
                count.kills += 1
            told, _ = each.communicate()
            lines = [line.split() for line in told.splitlines(keepends=True) if line.endswith("\n")]
            count.asked += sum(line[0] in "GN" for line in lines)
            granted += [line[1] for line in lines if line[0] == "G"]
    count.seconds = time.perf_counter() - begun
    count.granted = len(granted)
    with opened(where) as ledger:
        states = ledger.states(granted)
        count.lost = sum(state not in ("reserved", "confirmed") for state in states.values())
        month = timedelta(days=30)
        held = ledger.held(users=[f"u{n}" for n in range(users)], since=AT - month, until=AT + month)
        sizes = held.group_by("user").len()["len"]
        count.held = held.height
        count.over = sum(max(0, int(size) - most) for size in sizes)
    return count


def _worker(where: str, me: int, life: int, todo: int, most: int, users: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WORKER, where, *map(str, (me, life, todo, most, users))]
    return subprocess.Popen(words, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def caps() -> Caps:
    """Of an ordinary shop: by channel, all together, and by activity."""
    return Caps(
        [
            Cap(name="sms_week", channel="sms", at_most=2, within="7d"),
            Cap(name="all_week", at_most=3, within="7d"),
            Cap(name="each_activity", each="activity", at_most=7, within="28d"),
        ]
    )
