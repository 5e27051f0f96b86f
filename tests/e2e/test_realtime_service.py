"""The service of one worker: what it knows after a restart, and what it forgets while it works."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engine.realtime_service import RealTimeService
from engine.wiring import open_workspace
from insight.api import Reported
from kernel.learning import Action
from realtime.api import DecisionRequest, OutcomeReport, decode_decision
from storage.journal import FileJournalReader

HER = "ann-77@x.example"
ACTIONS = (Action(id="coupon", value=1.0), Action(id="page"))
CATALOG = """
sources: {shop: {url: "parquet://data"}}
entities: {user: {source: shop, table: users, key: uid}}
fields: {}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "growth.toml").write_text("name = 'shop'")
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    pl.DataFrame({"uid": ["zoe-1"]}).write_parquet(tmp_path / "data" / "users.parquet")
    return tmp_path


@contextmanager
def service(root: Path) -> Iterator[RealTimeService]:
    made = RealTimeService(open_workspace(root))
    made.start()
    try:
        yield made
    finally:
        made.close()


def ask(of: RealTimeService, user: str = HER, **more: Any) -> Any:
    return of.decide(DecisionRequest(user_id=user, moment="guidance", actions=ACTIONS, **more))


def records_of(root: Path) -> list[bytes]:
    reader, after, found = FileJournalReader(root / "var" / "journal"), (0, 0), list[bytes]()
    while records := reader.read("w0", after):
        found += [record for _, record in records]
        after = records[-1][0]
    return found


def test_a_restart_changes_nothing(root: Path) -> None:
    with service(root) as first:
        answer = ask(first, idempotency_key="k")
        report = OutcomeReport(
            outcome_id="o",
            decision_id=answer.decision_id,
            name="order",
            value=1.0,
            occurred_at=datetime.now(UTC),
        )
        assert first.observe(report) == "counted"
        assert first.window("guidance").days == 1
    with service(root) as second:
        assert ask(second, idempotency_key="k") == answer
        assert second.observe(report) == "repeated"
        event = Reported(event_id="e", user_id=HER, name="view", occurred_at=datetime.now(UTC), lines=({},))
        second.note([event, event])
        decided = ask(second)
    records = records_of(root)
    last = decode_decision(records[-1])
    assert last.decision_id == decided.decision_id
    assert last.context == {"event.view.10m": 1, "event.view.24h": 1}


def test_answers_wait_for_the_disk_when_they_are_told_to(root: Path) -> None:
    with service(root) as process:
        assert process.flushed() is None
    (root / "growth.toml").write_text("name = 'shop'\ndurability = 'disk'")
    with service(root) as disk:
        ask(disk)
        assert asyncio.run(_flushed(disk)) == [None] * 3


async def _flushed(of: RealTimeService) -> list[None]:
    """For three who wait at once."""
    waiting = [of.flushed() for _ in range(3)]
    return await asyncio.gather(*(each for each in waiting if each is not None))


def test_who_is_forgotten_while_it_works_is_gone_and_stays_away(root: Path) -> None:
    with service(root) as working:
        other = ask(working, "zoe-1", context={"friend": HER})
        for number in range(3):
            ask(working, context={"n": number}, idempotency_key=f"{HER}/{number}")
        words = ["forget", HER, "--dir", str(root)]
        command = [sys.executable, "-c", "from engine.cli.main import main; main()", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        gone = ask(working)
        assert (gone.action, gone.policy) == ("usual_page", "default")
        assert "forgotten" in gone.reason
        assert ask(working, "zoe-1").policy == "squarecb@0"
    for path in root.rglob("*"):
        if path.is_file() and path.stat().st_size < 1 << 30:
            assert HER.encode() not in path.read_bytes(), path
    kept = records_of(root)
    assert decode_decision(kept[0]).decision_id == other.decision_id
    assert decode_decision(kept[0]).context == {"friend": "[forgotten]"}
    assert [record[:1] for record in kept] == [b"D", b"X", b"X", b"X", b"D"]
