"""The laws of `realtime.pacing.Budgets`, on LMDB, on Valkey, and on a Valkey that is a cluster."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kernel.errors import Unavailable
from storage.budgets_lmdb import LmdbBudgets
from storage.budgets_redis import RedisBudgets
from storage.online_lmdb import LmdbOnlineStore
from storage.online_redis import connect

DAY = 86_400
COUPONS, MAILS = f"coupons@{20_000 * DAY}", f"mails@{20_000 * DAY}"


@pytest.fixture(params=["lmdb", "valkey", "cluster"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """How another process makes the same store, and how this one does."""
    if request.param == "lmdb":
        LmdbOnlineStore(tmp_path / "b", keep=1, hold=1, idle=1).ready()
        code = f"LmdbBudgets(LmdbOnlineStore(Path({str(tmp_path / 'b')!r}), keep=1, hold=1, idle=1))"
    else:
        url = f"redis{'+cluster' * (request.param == 'cluster')}://127.0.0.1:{{}}"
        port = request.getfixturevalue(request.param).port
        code = f"RedisBudgets(connect({url.format(port)!r}, 5.0), prefix={tmp_path.name!r})"
    opened: list[Any] = []

    def made() -> Any:
        opened.append(eval(code))  # noqa: S307 - our own text, run by the other processes as well
        return opened[-1]

    yield code, made
    for each in opened:
        (each._store if isinstance(each, LmdbBudgets) else each._client).close()


@pytest.fixture
def store(make: tuple[str, Callable[[], Any]]) -> Any:
    return make[1]()


def test_spends_to_the_last_millionth_and_no_further(store: Any) -> None:
    assert store.spend(COUPONS, 4, "a", 10) == ("spent", 4)
    assert store.spend(COUPONS, 7, "b", 10) == ("refused", 4)
    assert store.spend(COUPONS, 6, "c", 10) == ("spent", 10)
    assert store.spend(COUPONS, 1, "d", 10) == ("refused", 10)
    assert store.totals([COUPONS, MAILS], 0) == [(10, 0), (0, 0)]


def test_an_id_is_spent_once_in_each_budget_and_one_refused_was_not(store: Any) -> None:
    assert store.spend(COUPONS, 4, "a", 10) == ("spent", 4)
    assert store.spend(COUPONS, 4, "a", 10) == ("repeated", 4)
    assert store.spend(MAILS, 4, "a", 3) == ("refused", 0)
    assert store.spend(MAILS, 4, "a", 4) == ("spent", 4)
    tomorrow = f"coupons@{20_001 * DAY}"
    assert store.spend(tomorrow, 4, "a", 10) == ("spent", 4)


def test_a_use_is_given_back_once_and_only_if_it_was_spent(store: Any) -> None:
    assert store.give_back(COUPONS, 4, "a") == 0
    assert store.spend(COUPONS, 4, "a", 10) == ("spent", 4)
    assert store.spend(COUPONS, 6, "b", 10) == ("spent", 10)
    assert store.give_back(MAILS, 4, "a") == 0
    assert store.give_back(COUPONS, 4, "a") == 6
    assert store.give_back(COUPONS, 4, "a") == 6
    assert store.spend(COUPONS, 4, "c", 10) == ("spent", 10)
    assert store.spend(COUPONS, 1, "a", 10) == ("refused", 10)
    assert store.give_back(COUPONS, 6, "b") == 4
    assert store.spend(COUPONS, 4, "a", 10) == ("spent", 8)
    assert store.totals([COUPONS], 3) == [(8, 3)]


def test_threads_that_spend_and_give_back_end_where_they_should(store: Any) -> None:
    def turn(number: int) -> bool:
        kept = store.spend(COUPONS, 1, f"{number}", 20)[0] == "spent"
        if kept and number % 2:
            store.give_back(COUPONS, 1, f"{number}")
        return kept and not number % 2

    with ThreadPoolExecutor(8) as pool:
        kept = sum(pool.map(turn, range(200)))
    assert store.totals([COUPONS], 0) == [(kept, 0)]
    assert kept <= 20


def test_hostile_names_are_names(store: Any) -> None:
    for name in ("a b", "{x}", "\ud800", "🍵" * 60, "a\nb", ""):
        assert store.spend(f"{name}@1", 1, name, 1) == ("spent", 1)
        assert store.spend(f"{name}@1", 1, name, 1) == ("repeated", 1)


def test_large_sums_are_exact(store: Any) -> None:
    most = 9 * 10**15
    assert store.spend(COUPONS, most - 1, "a", most) == ("spent", most - 1)
    assert store.spend(COUPONS, 2, "b", most) == ("refused", most - 1)
    assert store.spend(COUPONS, 1, "c", most) == ("spent", most)
    assert store.spend(COUPONS, 1, "c", most) == ("repeated", most)
    assert store.totals([COUPONS], 0) == [(most, 0)]


def test_counts_what_came(store: Any) -> None:
    assert store.totals([COUPONS, MAILS], 3) == [(0, 3), (0, 3)]
    store.spend(COUPONS, 5, "a", 10)
    assert store.totals([COUPONS], 4) == [(5, 7)]
    assert store.totals([MAILS, COUPONS], 0) == [(0, 3), (5, 7)]


def test_what_is_spent_outlives_who_spent_it(make: tuple[str, Callable[[], Any]]) -> None:
    code, made = make
    told = "store.spend(B, 4, 'a', 10); store.totals([B], 2); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", _script(code, told)], check=False)
    store = made()
    assert store.spend(COUPONS, 4, "a", 10) == ("repeated", 4)
    assert store.totals([COUPONS], 0) == [(4, 2)]


def test_processes_of_threads_never_overspend(make: tuple[str, Callable[[], Any]]) -> None:
    """Each of three processes wishes for more than there is, half of it under ids of the others."""
    code, made = make
    wishes = """
from concurrent.futures import ThreadPoolExecutor
def wish(number):
    return store.spend(B, 3, f"{number if number % 2 else who}:{number}", 1000)[0]
with ThreadPoolExecutor(4) as pool:
    done = list(pool.map(wish, range(300)))
print(done.count("spent"))
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _script(code, f"who = 'w{each}'\n{wishes}")], stdout=subprocess.PIPE
        )
        for each in range(3)
    ]
    spent = [int(each.communicate(timeout=60)[0]) for each in running]
    assert sum(spent) == 333
    assert made().totals([COUPONS], 0) == [(999, 0)]


def test_threads_spend_each_id_once(store: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda n: store.spend(COUPONS, 1, f"{n % 40}", 1000)[0], range(200)))
    assert done.count("spent") == 40
    assert done.count("repeated") == 160


def test_a_server_that_is_gone_is_unavailable() -> None:
    store = RedisBudgets(connect("redis://127.0.0.1:1", 0.2))
    with pytest.raises(Unavailable):
        store.spend(COUPONS, 1, "a", 10)
    with pytest.raises(Unavailable):
        store.totals([COUPONS], 1)
    with pytest.raises(Unavailable):
        store.give_back(COUPONS, 1, "a")


def test_days_long_gone_are_let_go(tmp_path: Path) -> None:
    online = LmdbOnlineStore(tmp_path / "b", keep=1, hold=1, idle=1)
    online.ready()
    store, now = LmdbBudgets(online), time.time_ns() // 1000
    assert store.spend(COUPONS, 4, "a", 10) == ("spent", 4)
    online.sweep(now + 2 * DAY * 1_000_000, 100)
    assert store.spend(COUPONS, 4, "a", 10) == ("repeated", 4)
    online.sweep(now + 4 * DAY * 1_000_000, 100)
    assert online.env.stat()["entries"] == 0
    online.close()


def _script(code: str, then: str) -> str:
    return "\n".join(
        [
            "import os",
            "from pathlib import Path",
            "from storage.budgets_lmdb import LmdbBudgets",
            "from storage.budgets_redis import RedisBudgets",
            "from storage.online_lmdb import LmdbOnlineStore",
            "from storage.online_redis import connect",
            f"B, store = {COUPONS!r}, {code}",
            then,
        ]
    )
