"""The dictionary of users: numbers stay, also when its writer is killed; who is forgotten leaves no byte."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pyroaring import BitMap

from insight.api import UserDictionary
from kernel.errors import BadInput, NotFound, Unavailable

KINDS = {
    "narrow": lambda chance: chance.randrange(-500, 3000),
    "wide": lambda chance: chance.randrange(-(2**62), 2**62),
    "text": lambda chance: "".join(chance.choice("abcüß上") for _ in range(chance.randrange(12))),
}


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_a_plain_dict_would(kind: str, on_disk: bool, tmp_path: Path) -> None:
    chance, draw = random.Random(1), KINDS[kind]  # noqa: S311  a test's
    dtype = pl.String if kind == "text" else pl.Int64
    folder = tmp_path if on_disk else None
    dictionary, known, gone = UserDictionary(folder), dict[Any, int](), set[int]()
    for step in range(25):
        new = [draw(chance) for _ in range(chance.randrange(1, 200))]
        dictionary.extend(pl.Series([*new, None], dtype=dtype))
        for user in sorted(set(new) - set(known)):
            known[user] = len(known) + len(gone)
        if step % 2:
            user = chance.choice(sorted(known))
            gone.add(dictionary.forget(user))
            assert known.pop(user) in gone
        if folder and step % 5 == 0:
            identity = dictionary.identity
            dictionary = UserDictionary(folder)
            assert dictionary.identity == identity
        asked = [*known, *new, draw(chance), None]
        assert dictionary.numbers(pl.Series(asked, dtype=dtype)).to_list() == [known.get(u) for u in asked]
        assert dictionary.positions(pl.Series(new, dtype=dtype)) == BitMap(
            known[user] for user in new if user in known
        )
        assert dictionary.users(BitMap(known.values())).to_list() == sorted(known, key=known.__getitem__)
        assert dictionary.users(dictionary.all()).to_list() == sorted(known, key=known.__getitem__)
        assert (len(dictionary), dictionary.forgotten) == (len(known) + len(gone), BitMap(gone))


def test_strangers_and_other_types_are_told_apart() -> None:
    dictionary = UserDictionary()
    assert (len(dictionary), dictionary.users(BitMap()).to_list()) == (0, [])
    assert dictionary.numbers(pl.Series([1, None])).to_list() == [None, None]
    dictionary.extend(pl.Series([3, 1], dtype=pl.Int32))
    assert dictionary.position(3) == 1
    for stranger in (2, "3", True, None, 3.0, 2**80, -(2**63)):
        with pytest.raises(NotFound, match="unknown user"):
            dictionary.position(stranger)
    for wrong in (pl.Series(["3"]), pl.Series([3.0])):
        with pytest.raises(BadInput, match="user ids"):
            dictionary.extend(wrong)
    with pytest.raises(BadInput, match="no id of a user"):
        dictionary.extend(pl.Series([-(2**63)]))
    with pytest.raises(NotFound, match="number of a user"):
        dictionary.users(BitMap([2]))


@pytest.mark.parametrize("users", [[7_777_777_777, 5, -3], ["ann@example.org", "bob", "eve"]])
def test_nothing_is_left_of_the_forgotten(users: list[Any], tmp_path: Path) -> None:
    for shape in ("narrow", "wide"):
        dictionary = UserDictionary(tmp_path / shape)
        dictionary.extend(pl.Series(users))
        if shape == "wide" and isinstance(users[0], int):
            dictionary.extend(pl.Series([2**61, -(2**61)]))
        secret = users[0]
        if isinstance(secret, int):  # as an id, and as the key of a sorted run
            traces = [each.to_bytes(8, "little") for each in (secret, secret + 2**63)]
        else:
            traces = [secret.encode()]
        assert traces[0] in _all_bytes(tmp_path / shape)
        dictionary.forget(secret)
        assert all(trace not in _all_bytes(tmp_path / shape) for trace in traces)
        assert all(trace not in dictionary._state.ids.tobytes() for trace in traces)
        dictionary.extend(pl.Series(users[1:]))
        assert dictionary.numbers(pl.Series(users)).null_count() == 1


def test_forgetting_that_was_interrupted_is_completed(tmp_path: Path, monkeypatch: Any) -> None:
    dictionary = UserDictionary(tmp_path)
    dictionary.extend(pl.Series(["ann", "bob"]))

    def stop(*_: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr("insight.dictionary._overwrite", stop)
        with pytest.raises(Unavailable, match="the disk is gone"):
            dictionary.forget("ann")
    assert b"ann" in _all_bytes(tmp_path)
    for each in (dictionary, UserDictionary(tmp_path)):
        assert each.numbers(pl.Series(["ann", "bob"])).to_list() == [None, 1]
    UserDictionary(tmp_path).extend(pl.Series(["cid"]))
    assert b"ann" not in _all_bytes(tmp_path)


def test_a_writer_that_fails_changes_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    dictionary = UserDictionary(tmp_path)
    dictionary.extend(pl.Series([1, 2]))

    def stop(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as full:
        full.setattr("insight.dictionary.replace_head", stop)
        with pytest.raises(Unavailable, match="no space left"):
            dictionary.extend(pl.Series([10, 11, 12]))
    for each in (dictionary, UserDictionary(tmp_path)):
        assert each.users(each.all()).to_list() == [1, 2]
    dictionary.extend(pl.Series([7]))
    assert UserDictionary(tmp_path).numbers(pl.Series([7, 10])).to_list() == [2, None]


_WRITER = """
import sys, pathlib, polars as pl
from insight.api import UserDictionary
dictionary = UserDictionary(pathlib.Path(sys.argv[1]))
print("ready", flush=True)
for i in range(int(sys.argv[2]), 10**9, 7):
    dictionary.extend(pl.Series([f"user-{j}" for j in range(i, i + 7)]))
"""


def test_killed_at_any_instant_it_is_whole(tmp_path: Path) -> None:
    """Two writers at once, killed without warning: all that either gave a number has kept it."""
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), str(begin)], stdout=subprocess.PIPE)
        for begin in (0, 10**6)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
    reader, seen = UserDictionary(tmp_path), pl.Series([], dtype=pl.String)
    for _ in range(12):
        time.sleep(0.02)
        reader.refresh()
        if len(reader):
            now = reader.users(reader.all())
            assert now.head(len(seen)).to_list() == seen.to_list(), "a number has changed"
            seen = now
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert writer.stdout is not None
        writer.stdout.close()
    after = UserDictionary(tmp_path)
    users = after.users(after.all())
    assert users.head(len(seen)).to_list() == seen.to_list()
    assert users.n_unique() == len(after)
    after.extend(pl.Series(["zoe"]))
    assert after.numbers(users).to_list() == list(range(len(users)))
    assert after.position("zoe") == len(users)


def test_many_threads_extend_and_look_up(tmp_path: Path) -> None:
    dictionary, failed = UserDictionary(tmp_path), list[BaseException]()

    def work(first: int) -> None:
        try:
            for i in range(first, first + 200, 20):
                users = pl.Series(range(i, i + 20))
                dictionary.extend(users)
                assert dictionary.users(dictionary.positions(users)).sort().to_list() == users.to_list()
        except BaseException as error:  # noqa: BLE001  a thread's failure must reach the test
            failed.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 100, 500, 10**12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(dictionary) == 300 + 200 + 200


def _all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
