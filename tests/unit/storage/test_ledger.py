"""What is particular to the ledger in SQL: batches, processes on one file, and PostgreSQL's statements."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from kernel.contact import Cap
from kernel.errors import Unavailable
from kernel.exposure import Reservation
from storage.database import _durable_sqlite, transaction
from storage.ledger import SqlLedger
from storage.ledger_rows import touches
from storage.tables import metadata

NOON = datetime(2017, 10, 16, 12, tzinfo=UTC)

PROCESS = """
import sys
from datetime import UTC, datetime, timedelta
from sqlalchemy import create_engine, event
from kernel.contact import Cap
from kernel.exposure import Reservation
from storage.database import _durable_sqlite
from storage.ledger import SqlLedger

engine = create_engine(sys.argv[1])
event.listen(engine, "connect", _durable_sqlite)
ledger, me = SqlLedger(engine), sys.argv[2]
caps = [Cap(name="daily", at_most=3, within="1d")]
at = datetime(2017, 10, 16, 12, tzinfo=UTC)
print("ready", flush=True)
for start in sys.stdin:
    granted = 0
    for user in range(int(start), int(start) + 5):
        for turn in range(2):
            wish = Reservation(touch_id=f"{me}-{user}-{turn}", user=f"u{user}", channel="sms", at=at)
            granted += ledger.reserve(wish, caps=caps) is None
    print(granted, flush=True)
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def ledger(url: str) -> Iterator[SqlLedger]:
    engine = create_engine(url)
    event.listen(engine, "connect", _durable_sqlite)
    metadata.create_all(engine)
    yield SqlLedger(engine)
    engine.dispose()


def test_no_user_exceeds_a_cap_under_several_processes(url: str, ledger: SqlLedger) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, url, str(i)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    granted = 0
    for start in range(0, 100, 5):  # all set out on the same five users at once, again and again
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{start}\n")
            process.stdin.flush()
        granted += sum(int(process.stdout.readline()) for process in processes if process.stdout)
    for process in processes:
        process.communicate(timeout=60)
    held = ledger.held(since=NOON - timedelta(days=1), until=NOON)
    assert granted == held.height == 300
    assert held.group_by("user").len()["len"].to_list() == [3] * 100


def test_a_batch_wider_than_a_statement_is_one_step(ledger: SqlLedger) -> None:
    caps = [Cap(name="daily", at_most=1, within="1d")]
    wishes = [
        Reservation(touch_id=f"{turn}-{i}", user=f"u{i}", channel="sms", at=NOON)
        for turn in "ab"
        for i in range(2500)
    ]
    refused = ledger.reserve_many(wishes, caps=caps)
    assert sorted(refused) == sorted(f"b-{i}" for i in range(2500))
    ledger.confirm([f"a-{i}" for i in range(2500)])
    held = ledger.held(since=NOON - timedelta(days=1), until=NOON, users=[f"u{i}" for i in range(2500)])
    assert held["state"].unique().to_list() == ["confirmed"]
    assert held.height == 2500


def test_a_locked_database_fails_closed(url: str, ledger: SqlLedger) -> None:
    impatient = create_engine(url)
    event.listen(impatient, "connect", _durable_sqlite)
    event.listen(impatient, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=50"))
    wish = Reservation(touch_id="a", user="u", channel="sms", at=NOON)
    holder = create_engine(url)
    event.listen(holder, "connect", _durable_sqlite)
    with transaction(holder), pytest.raises(Unavailable, match="locked"):
        SqlLedger(impatient).reserve(wish, caps=[])
    assert SqlLedger(impatient).reserve(wish, caps=[]) is None
    impatient.dispose()
    holder.dispose()


def test_the_table_is_one_that_postgresql_takes() -> None:
    said = str(CreateTable(touches).compile(dialect=postgresql.dialect()))
    assert "at_us BIGINT NOT NULL" in said
    assert "CONSTRAINT ck_ledger_touches_state CHECK" in said
    assert all(len(index.name or "") <= 63 for index in touches.indexes)
