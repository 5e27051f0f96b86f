"""Definitions are kept in versions, all of a batch or none of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.exc import StatementError

from storage.database import _durable_sqlite
from storage.definitions import DefinitionStore
from storage.tables import metadata

AT = datetime(2017, 10, 16, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DefinitionStore]:
    engine = create_engine(f"sqlite:///{tmp_path / 'growth.db'}")
    event.listen(engine, "connect", _durable_sqlite)
    metadata.create_all(engine)
    yield DefinitionStore(engine)
    engine.dispose()


def apply(store: DefinitionStore, *bodies: tuple[str, str, dict[str, object]]) -> list[str]:
    return [outcome for _, _, outcome in store.apply(bodies, at=AT, by="test")]


def kept(store: DefinitionStore, kind: str | None = None) -> list[tuple[str, str, int, dict[str, object]]]:
    return [(each.kind, each.name, each.version, each.body) for each in store.current(kind)]


def test_created_changed_and_unchanged(store: DefinitionStore) -> None:
    assert apply(store, ("goal", "b", {"x": 1}), ("goal", "a", {"x": 1})) == ["created", "created"]
    assert apply(store, ("goal", "b", {"x": 2}), ("goal", "a", {"x": 1})) == ["changed", "unchanged"]
    assert kept(store) == [("goal", "a", 1, {"x": 1}), ("goal", "b", 2, {"x": 2})]


def test_applying_again_changes_nothing(store: DefinitionStore) -> None:
    body: dict[str, object] = {"x": 1, "y": [1, {"z": "ü"}]}
    apply(store, ("goal", "a", body))
    for _ in range(3):
        assert apply(store, ("goal", "a", dict(reversed(body.items())))) == ["unchanged"]
    assert kept(store) == [("goal", "a", 1, body)]


def test_going_back_is_a_version_of_its_own(store: DefinitionStore) -> None:
    for x, outcome in ((1, "created"), (2, "changed"), (1, "changed")):
        assert apply(store, ("goal", "a", {"x": x})) == [outcome]
    assert kept(store) == [("goal", "a", 3, {"x": 1})]


def test_versions_beyond_nine_are_counted_as_numbers(store: DefinitionStore) -> None:
    for x in range(12):
        apply(store, ("goal", "a", {"x": x}))
    assert kept(store) == [("goal", "a", 12, {"x": 11})]


def test_one_name_of_two_kinds_is_two_definitions(store: DefinitionStore) -> None:
    assert apply(store, ("goal", "a", {"x": 1}), ("benefit", "a", {"x": 1})) == ["created", "created"]
    assert kept(store, "goal") == [("goal", "a", 1, {"x": 1})]
    assert [each[:2] for each in kept(store)] == [("benefit", "a"), ("goal", "a")]
    assert kept(store, "nothing") == []


def test_all_or_none(store: DefinitionStore) -> None:
    apply(store, ("goal", "a", {"x": 1}))
    with pytest.raises(StatementError):
        apply(store, ("goal", "a", {"x": 2}), ("goal", "b", {"x": 1}), ("goal", "c", {"x": object()}))
    assert kept(store) == [("goal", "a", 1, {"x": 1})]
    # and the lock is free again
    assert apply(store, ("goal", "a", {"x": 2})) == ["changed"]


def test_an_empty_batch_is_nothing(store: DefinitionStore) -> None:
    assert apply(store) == []
    assert store.current() == []


def test_when_is_kept_in_utc(store: DefinitionStore) -> None:
    at = AT.astimezone(timezone(timedelta(hours=8)))
    store.apply([("goal", "a", {})], at=at, by="test")
    assert store.current()[0].applied_at.replace(tzinfo=UTC) == AT
