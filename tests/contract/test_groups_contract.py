"""What every store of published groups promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyroaring import BitMap
from sqlalchemy import text

from kernel.audiences import GroupVersion
from kernel.errors import BadInput, Stale, Unavailable
from storage.database import Engine, open_database
from storage.group_exports import Export, GroupExports
from storage.groups import GroupStore, Publication
from storage.tables import metadata

DAY = timedelta(days=1)
AT = datetime(2017, 10, 16, tzinfo=UTC)


@pytest.fixture
def engine(database: Engine) -> Iterator[Engine]:
    yield database
    with database.begin() as connection:
        for table in ("group_exports", "group_holds", "group_versions"):
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608  names of our own


@pytest.fixture
def store(engine: Engine, tmp_path: Path) -> GroupStore:
    return GroupStore(engine, tmp_path / "members")


def said(members: list[int], name: str = "vip", **other: Any) -> dict[str, Any]:
    bitmap = BitMap(members)
    return {
        "name": name,
        "fingerprint": "f" * 16,
        "as_of": AT,
        "members": bitmap.serialize(),
        "count": len(bitmap),
        "universe": 100,
        "sources": {"shop.users": "v1"},
        "calculated_at": AT + timedelta(hours=1),
        **other,
    }


def held(store: GroupStore, version: GroupVersion | None) -> list[int]:
    assert version is not None
    return sorted(BitMap.deserialize(store.members(version)))


def test_what_is_published_is_read_back_whole(store: GroupStore) -> None:
    assert store.current("vip") is None
    first = store.publish(**said([1, 2, 3]))
    assert (first.version, first.count, first.universe, first.as_of) == (1, 3, 100, AT)
    assert first.sources == {"shop.users": "v1"}
    assert first.calculated_at == AT + timedelta(hours=1)
    assert store.current("vip") == first
    assert held(store, first) == [1, 2, 3]
    second = store.publish(**said([2], as_of=AT + DAY))
    assert store.current("vip") == second
    assert store.versions("vip") == [first, second]
    assert store.at("vip", AT) == first
    assert held(store, first) == [1, 2, 3]
    assert store.names() == ["vip"]


def test_the_same_again_changes_nothing(store: GroupStore) -> None:
    first = store.publish(**said([1]))
    assert store.publish(**said([1], calculated_at=AT + DAY)) == first
    assert store.publish(**said([1], sources={"shop.users": "v2"})).version == 2
    assert store.publish(**said([1, 4], sources={"shop.users": "v2"})).version == 3
    assert store.publish(**said([1, 4], sources={"shop.users": "v2"}, fingerprint="e" * 16)).version == 4


def test_a_backfill_does_not_take_the_place_of_today(store: GroupStore) -> None:
    today = store.publish(**said([1]))
    older = store.publish(**said([1, 2], as_of=AT - 3 * DAY))
    assert older.version == 2
    assert store.current("vip") == today
    assert store.at("vip", AT - 3 * DAY) == older


def test_a_static_group_is_pinned_once_for_each_definition(store: GroupStore) -> None:
    first = store.publish(**said([1], pinned=True))
    assert store.publish(**said([1, 2], as_of=AT + DAY, pinned=True)) == first
    assert store.pinned("vip", "f" * 16) == first
    assert store.pinned("vip", "e" * 16) is None
    again = store.publish(**said([7], as_of=AT + DAY, pinned=True, fingerprint="e" * 16))
    assert again.version == 2
    assert store.current("vip") == again


def test_a_count_that_is_not_that_of_the_members_is_refused(store: GroupStore) -> None:
    with pytest.raises(BadInput, match="group vip: count = 0: but 3 members"):
        store.publish(**said([1, 2, 3], count=0))
    with pytest.raises(BadInput, match="is more than the 2 users"):
        store.publish(**said([1, 2, 3], universe=2))
    assert store.versions("vip") == []


def test_many_are_published_all_or_none(store: GroupStore) -> None:
    good = Publication(**said([1], name="a"))
    with pytest.raises(BadInput):
        store.publish_many([good, Publication(**said([1], name="b", count=9))])
    assert store.names() == []
    many = [Publication(**said([i % 3], name=f"g{i:04}")) for i in range(900)]
    assert [each.name for each in store.publish_many(many)] == store.names()
    asked = store.current_many([f"g{i:04}" for i in range(900)] + ["never"])
    assert {name: each.version for name, each in asked.items()} == {each.name: 1 for each in many}
    assert len(store.current_many()) == 900


def test_readers_never_see_half_a_publication(store: GroupStore) -> None:
    """Count and members of each version are of one kind: n users for the n-th instant."""
    stop, wrong = threading.Event(), list[object]()

    def read() -> None:
        while not stop.is_set():
            version = store.current("vip")
            if version is not None and held(store, version) != list(range(version.count)):
                wrong.append(version)

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for n in range(1, 30):
            store.publish(**said(list(range(n)), as_of=AT + n * DAY))
        stop.set()
        for reader in readers:
            reader.result()
    assert wrong == []


def test_writers_at_once_get_versions_of_their_own(store: GroupStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: store.publish(**said([n], as_of=AT + n * DAY)), range(24)))
    assert sorted(each.version for each in made) == list(range(1, 25))
    last = store.current("vip")
    assert held(store, last) == [23]


def test_pruning_keeps_what_is_in_force_pinned_held_exported_young_or_among_the_newest(
    store: GroupStore, engine: Engine
) -> None:
    for n in range(6):
        store.publish(**said([n], as_of=AT + n * DAY, calculated_at=AT + n * DAY))
    pin = store.publish(**said([50], name="seed", pinned=True))
    for n in range(1, 4):
        at = AT + n * DAY
        store.publish(**said([50 + n], name="seed", as_of=at, calculated_at=at, fingerprint="e" * 16))
    before = store.versions("vip")[1]
    store.hold(before, "plan 7")
    store.hold(before, "plan 7")
    later, exports = AT + 100 * DAY, GroupExports(engine)
    exports.note(Export(name="vip", address="/out/vip.manifest.json", version=3, count=1, exported_at=AT))
    assert store.prune(now=later, newest=2, younger=timedelta(days=1)) == 3
    assert [each.version for each in store.versions("vip")] == [2, 3, 5, 6]
    exports.note(Export(name="vip", address="/out/vip.manifest.json", version=6, count=1, exported_at=AT))
    assert store.prune(now=later, newest=2, younger=timedelta(days=1)) == 1
    assert [each.version for each in store.versions("seed")] == [1, 3, 4]
    assert held(store, pin) == [50]
    assert held(store, before) == [1]
    store.release("plan 7")
    assert store.prune(now=AT + 2 * DAY, newest=1, younger=timedelta(days=30)) == 0
    assert store.prune(now=later, newest=0, younger=timedelta(days=1)) == 3
    assert [each.version for each in store.versions("vip")] == [6]
    with pytest.raises(Stale, match="version 2 of group vip is no longer kept"):
        store.hold(before, "too late")


def test_bitmaps_that_no_version_names_are_swept_but_not_young_ones(
    store: GroupStore, tmp_path: Path
) -> None:
    kept = store.publish(**said([1]))
    gone = store.publish(**said([2], as_of=AT - DAY, calculated_at=AT - DAY))
    files = tmp_path / "members"
    assert store.prune(now=AT + 90 * DAY, newest=1, younger=timedelta(0)) == 1
    assert len(list(files.glob("*/*.roaring"))) == 2  # too young to be told from one about to be named
    old = time.time() - 2 * 3600
    for path in files.glob("*/*"):
        os.utime(path, (old, old))
    store.prune(now=AT + 90 * DAY)
    assert [path.stem for path in files.glob("*/*")] == [kept.members]
    with pytest.raises(Stale):
        store.members(gone)


def test_amending_changes_members_and_count_together_and_takes_the_old_bitmap_away(
    store: GroupStore, tmp_path: Path
) -> None:
    first = store.publish(**said([1, 2, 3]))
    twin = store.publish(**said([1, 2, 3], name="twin"))
    changed = store.amend(first, members=BitMap([1, 3]).serialize(), count=2, universe=99)
    assert (changed.version, changed.count, changed.universe) == (1, 2, 99)
    assert store.current("vip") == changed
    assert held(store, twin) == [1, 2, 3]
    store.amend(twin, members=BitMap([1, 3]).serialize(), count=2, universe=99)
    assert len(list((tmp_path / "members").glob("*/*"))) == 1
    with pytest.raises(Stale, match="has changed meanwhile"):
        store.amend(first, members=BitMap([1]).serialize(), count=1, universe=99)


def test_damage_on_disk_is_said_not_served(store: GroupStore, tmp_path: Path) -> None:
    version = store.publish(**said([1, 2, 3]))
    next((tmp_path / "members").glob("*/*")).write_bytes(BitMap([9]).serialize())
    with pytest.raises(Unavailable, match="damaged on disk"):
        store.members(version)
    assert store.publish(**said([1, 2, 3])) == version
    assert held(store, version) == [1, 2, 3]


def test_without_its_database_it_is_unavailable(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'growth.db'}")
    metadata.drop_all(engine)
    with pytest.raises(Unavailable, match="does not answer"):
        GroupStore(engine, tmp_path / "members").current("vip")
    engine.dispose()
