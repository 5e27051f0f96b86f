"""Forgetting reaches the outbox, receipts and suppressions; the wish not to be written to outlives it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import yaml

from engine.forgetting import forget_user
from engine.usecases import apply
from engine.wiring import Workspace, open_workspace
from kernel.clock import FixedClock
from kernel.contact import MessageClass
from kernel.delivery import OutboxTask, OutboxTouch, ReceiptKind, Settled, Suppressed, TouchState
from storage.outbox_receipts import NewReceipt

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
NOW = int(AT.timestamp() * 1e6)
HER, OTHER = "ann-77", "bob-88"
CATALOG = """
sources: {shop: {url: "parquet://data"}}
entities: {user: {source: shop, table: users, key: uid}}
fields: {user.email: {table: users, column: email, type: string}}
"""
DEFINITIONS = [
    {"kind": "provider", "name": "box", "type": "sandbox", "url": "var/box", "medium": "in_app"},
    {"kind": "provider", "name": "drop", "type": "file", "url": "var/drop"},
    {"kind": "channel", "name": "email", "provider": "box", "address": "user.email"},
]


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "data").mkdir()
    pl.DataFrame({"uid": [HER, OTHER], "email": ["ann@x.example", "bob@x.example"]}).write_parquet(
        tmp_path / "data" / "users.parquet"
    )
    (tmp_path / "growth.toml").write_text("")
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    (tmp_path / "d.yaml").write_text("\n---\n".join(yaml.safe_dump(each) for each in DEFINITIONS))
    made = open_workspace(tmp_path, FixedClock(at=AT))
    apply(made, tmp_path / "d.yaml", by="test")
    task = OutboxTask(
        run="2026-03-02", task="t", goal="g", benefit="b", touchpoint="p", channel="email", content="c",
        message_class=MessageClass.MARKETING,
    )  # fmt: skip
    rows = [OutboxTouch(touch_id=f"t{n}", user=user, send_us=NOW) for n, user in enumerate((HER, OTHER))]
    made.outbox.load("2026-03-02", 1, [(task, rows)], NOW)
    me = made.outbox.dispatcher()
    me.join(NOW)
    leased = made.outbox.lease(me.owner, ["email"], limit=9, now_us=NOW, limits={}).touches
    done = [Settled(number=touch.number, state=TouchState.ACCEPTED) for _, touch in leased]
    made.outbox.settle(me.owner, done, NOW, told=True)
    me.leave(NOW)
    told = NewReceipt(
        receipt_id="r", touch_id="t0", kind=ReceiptKind.UNSUBSCRIBED, hard=False, occurred_us=NOW
    )
    made.receipts.take("box", [told], NOW)
    made.receipts.suppress(address="ann@x.example", channel="sms", now_us=NOW)
    folder = tmp_path / "var" / "box"
    folder.mkdir(parents=True)
    lines = [json.dumps({"key": f"t{n}", "user_id": user}) for n, user in enumerate((HER, OTHER))]
    (folder / "in_app.jsonl").write_text("\n".join(lines) + "\n")
    yield made
    made.ledger.close()
    made.database.dispose()


def test_her_touches_receipts_and_names_go_and_she_stays_suppressed(space: Workspace) -> None:
    found = forget_user(space, HER)
    assert found.complete, found.left
    assert found.rows_deleted["growth.outbox_touches"] == 1
    assert found.rows_deleted["growth.touch_receipts"] == 1
    assert any("provider drop" in each for each in found.beyond)
    assert [row["user_id"] for row in space.outbox.outcomes("2026-03-02")] == [OTHER]
    assert HER not in (space.root / "var" / "box" / "in_app.jsonl").read_text()
    assert OTHER in (space.root / "var" / "box" / "in_app.jsonl").read_text()
    assert {(each["user_id"], each["address"]) for each in space.suppressions.newest()} == {(None, None)}
    book = space.suppressions
    marks = [book.mark_of_user(HER), book.mark_of_address("ann@x.example")]
    held = book.binding(marks)
    assert ("email", Suppressed.UNSUBSCRIBED) in held[marks[0]]
    assert ("email", Suppressed.UNSUBSCRIBED) in held[marks[1]], "also under another id with that address"
    assert ("sms", Suppressed.MANUAL) in held[marks[1]]


def test_looking_first_changes_nothing(space: Workspace) -> None:
    found = forget_user(space, HER, dry_run=True)
    assert found.rows_deleted["growth.outbox_touches"] == 1
    assert len(space.outbox.outcomes("2026-03-02")) == 2
    assert HER in {each["user_id"] for each in space.suppressions.newest()}
