"""A database loses every row and every mention of a person, on every page."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import JSON, Column, ForeignKey, MetaData, String, Table, Text, insert, text

from storage.database import Engine, open_database
from storage.definitions import DefinitionStore
from storage.forget_sql import forget_in_database, is_sqlite, sqlite_file
from storage.identities import IdentityStore
from storage.redaction import GONE, Person

AT = datetime(2017, 10, 16, tzinfo=UTC)
HER = "ann-77@x.example"
ANN, NUMBER = Person(ids=(HER,)), Person(ids=(42,))

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
LEARNED = Table(
    "learned_decisions",
    OTHERS,
    Column("decision_id", ForeignKey("decisions.decision_id"), primary_key=True),
)


@pytest.fixture
def database(tmp_path: Path) -> Engine:
    engine = open_database(f"sqlite:///{tmp_path}/growth.db")
    OTHERS.create_all(engine)
    with engine.begin() as connection:
        for number, user, context, note in (
            (1, HER, {"page": "x"}, f"key {HER}"),
            (2, "bo", {"friend": HER, "age": 42}, None),
            (3, "42", {"user_id": 42}, None),
        ):
            row = {
                "decision_id": f"d{number}",
                "user_id": user,
                "context": context,
                "note": note,
                "reason": "r",
            }
            connection.execute(insert(DECISIONS), row)
            connection.execute(insert(OUTCOMES), {"outcome_id": f"o{number}", "decision_id": f"d{number}"})
        connection.execute(insert(LEARNED), {"decision_id": "d1"})
    identities = IdentityStore(engine)
    identities.merge("bo", HER, because=f"same phone as {HER}", by="me", at=AT)
    identities.merge("cy", "bo", because=f"{HER} said so", by="me", at=AT)
    DefinitionStore(engine).apply([("group", "vip", {"where": {"value": HER}})], at=AT, by="me")
    return engine


def rows(engine: Engine, sql: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def test_rows_go_with_what_refers_to_them_and_mentions_are_redacted(database: Engine) -> None:
    found = forget_in_database(database, ANN)
    assert found.deleted == {"decisions": 1, "outcomes": 1, "learned_decisions": 1, "identity_log": 1}
    assert found.redacted == {"decisions": 1, "identity_log": 1}
    assert [row[0] for row in rows(database, "SELECT decision_id FROM decisions ORDER BY 1")] == ["d2", "d3"]
    context = rows(database, "SELECT context FROM decisions WHERE decision_id = 'd2'")[0][0]
    assert json.loads(str(context)) == {"friend": GONE, "age": 42}
    assert rows(database, "SELECT because FROM identity_log") == [(f"{GONE} said so",)]
    assert found.left == ["group vip (version 1) names her; it is the operator's own text"]
    again = forget_in_database(database, ANN)
    assert (again.deleted, again.redacted) == ({}, {})


def test_no_page_of_the_file_or_its_log_holds_her(database: Engine, tmp_path: Path) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql("PRAGMA secure_delete=OFF")  # what was deleted long ago is on free pages
        connection.execute(text("DELETE FROM definition_versions"))
    assert any(HER.encode() in path.read_bytes() for path in tmp_path.iterdir())
    forget_in_database(database, ANN)
    assert not [path for path in tmp_path.iterdir() if HER.encode() in path.read_bytes()]


def test_a_number_goes_by_its_column_only(database: Engine) -> None:
    found = forget_in_database(database, NUMBER)
    assert found.deleted == {"decisions": 1, "outcomes": 1}
    assert rows(database, "SELECT count(*) FROM decisions") == [(2,)]


def test_a_dry_run_counts_and_changes_nothing(database: Engine) -> None:
    before = rows(database, "SELECT * FROM decisions ORDER BY 1")
    found = forget_in_database(database, ANN, dry_run=True)
    assert found.deleted["decisions"] == 1
    assert rows(database, "SELECT * FROM decisions ORDER BY 1") == before


def test_a_database_of_others_is_cleaned_too(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE params (key TEXT PRIMARY KEY, value TEXT, blob BLOB)")
        other.executemany(
            "INSERT INTO params VALUES (?, ?, ?)",
            [(f"{HER} a", "x", b"\x00"), ("b", json.dumps(["ü", HER]), HER.encode()), ("c", "z", None)],
        )
    other.close()
    assert is_sqlite(path)
    with sqlite_file(path) as engine:
        assert forget_in_database(engine, ANN).redacted == {"params": 2}
    assert HER.encode() not in path.read_bytes()
    with sqlite3.connect(path) as other:
        kept = other.execute("SELECT * FROM params ORDER BY key").fetchall()
    other.close()
    assert kept == [
        (f"{GONE} a", "x", b"\x00"),
        ("b", '["\\u00fc"]', GONE.encode()),
        ("c", "z", None),
    ]


def test_other_readers_do_not_stop_it(database: Engine, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "growth.db")
    other.execute("SELECT count(*) FROM decisions").fetchall()
    forget_in_database(database, ANN)
    assert other.execute("SELECT count(*) FROM decisions").fetchall() == [(2,)]
    other.close()
