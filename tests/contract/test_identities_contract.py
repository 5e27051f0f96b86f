"""Identities, tombstones and forgetting, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from sqlalchemy import JSON, Column, ForeignKey, MetaData, String, Table, Text, insert, select

from kernel.errors import BadInput, NotFound
from storage.database import Engine
from storage.forget_sql import forget_in_database
from storage.identities import IdentityStore
from storage.redaction import GONE, Person
from storage.tombstones import Tombstones

AT = datetime(2017, 10, 16, tzinfo=UTC)
HER = "ann-77@x.example"

#: tables of somebody else's, one referring to the other
OTHERS = MetaData()
DECISIONS = Table(
    "decisions",
    OTHERS,
    Column("decision_id", String(200), primary_key=True),
    Column("user_id", String(200)),
    Column("note", String(200)),
    Column("context", JSON),
    Column("reason", Text),
)
OUTCOMES = Table(
    "outcomes",
    OTHERS,
    Column("outcome_id", String(200), primary_key=True),
    Column("decision_id", ForeignKey("decisions.decision_id")),
)


@pytest.fixture
def engine(database: Engine) -> Engine:
    return database


def test_merges_are_logged_resolved_and_taken_back(engine: Engine) -> None:
    store = IdentityStore(engine)
    begun = store.version()
    store.merge("a", "b", because="x", by="me", at=AT)
    entry = store.merge("b", "c", because="x", by="me", at=AT)
    assert entry.number == store.version() == begun + 2
    assert store.merged() == {"a": "b", "b": "c"}
    with pytest.raises(BadInput, match="would be merged into itself"):
        store.merge("c", "a", because="x", by="me", at=AT)
    with pytest.raises(BadInput, match="already"):
        store.merge("a", "d", because="x", by="me", at=AT)
    assert store.unmerge("a", because="y", by="me", at=AT).into == "b"
    with pytest.raises(NotFound):
        store.unmerge("a", because="y", by="me", at=AT)
    assert store.merged() == {"b": "c"}
    assert [each.at for each in store.log()] == [AT] * 3
    store.unmerge("b", because="y", by="me", at=AT)


def test_memberships_before_are_remembered_once(engine: Engine) -> None:
    store = IdentityStore(engine)
    store.remember("g", 1, {"a": True, "b": False})
    store.remember("g", 1, {"a": False, "c": True})
    assert store.before() == {("g", 1): {"a": True, "b": False, "c": True}}
    store.restored("g", 1, ["a", "b", "c"])
    assert store.before() == {}


def test_a_tombstone_stands_until_it_is_taken_away(engine: Engine, tmp_path: Path) -> None:
    stones = Tombstones(engine, tmp_path / "secret")
    users = pl.Series([1, 2, None, 1])
    assert not stones.refused(users).any()
    stones.begin([1], AT)
    stones.begin([1], AT)
    assert stones.unfinished() == [AT]
    assert stones.refused(users).to_list() == [True, False, False, True]
    stones.finish([1], AT)
    assert stones.unfinished() == []
    assert Tombstones(engine, tmp_path / "secret").without(pl.DataFrame({"user": users}))[
        "user"
    ].to_list() == [2, None]
    assert not Tombstones(engine, tmp_path / "another").refused(users).any()
    assert stones.readmit(1)
    assert not stones.readmit(1)


def test_a_person_goes_with_what_refers_to_her(engine: Engine) -> None:
    OTHERS.create_all(engine)
    with engine.begin() as connection:
        for number, user, context in ((1, HER, {}), (2, "bo", {"friend": HER, "n": 1})):
            row = {"decision_id": f"d{number}", "user_id": user, "context": context, "reason": f"as {HER}"}
            connection.execute(insert(DECISIONS), row)
            connection.execute(insert(OUTCOMES), {"outcome_id": f"o{number}", "decision_id": f"d{number}"})
    person = Person(ids=(HER,))
    looked = forget_in_database(engine, person, dry_run=True)
    found = forget_in_database(engine, person)
    assert looked.deleted == found.deleted == {"decisions": 1, "outcomes": 1}
    assert looked.redacted == found.redacted == {"decisions": 1}
    with engine.connect() as connection:
        rows = connection.execute(select(DECISIONS.c.user_id, DECISIONS.c.reason, DECISIONS.c.context)).all()
    assert [tuple(row) for row in rows] == [("bo", f"as {GONE}", {"friend": GONE, "n": 1})]
    assert forget_in_database(engine, person).redacted == {}
