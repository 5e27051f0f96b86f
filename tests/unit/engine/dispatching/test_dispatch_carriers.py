"""Mail, files, the screen and a sandbox: what they carry, and what they do when they cannot."""

from __future__ import annotations

import csv
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engine.dispatching import deliver
from engine.outbox import change_task


def smtp(port: int) -> dict[str, Any]:
    return {
        "type": "smtp", "host": "127.0.0.1", "port": port, "security": "none", "connections": 2,
        "sender": "Tea & Co <news@tea.example>", "unsubscribe": "leave@tea.example",
    }  # fmt: skip


def test_mail_is_plain_and_html_with_a_way_out(world: Any, mailbox: tuple[Any, int]) -> None:
    box, port = mailbox
    box.unknown = {"bob@x.example"}
    space = world.make(smtp(port))
    world.run(space)
    assert world.states() == {"ann": "accepted", "bob": "failed", "cleo": "accepted"}
    assert space.suppressions.newest()[0]["reason"] == "hard_bounce"
    mails = {str(mail["To"]): mail for mail in box.mails}
    ann = mails["ann@x.example"]
    assert (ann["Subject"], ann["From"]) == ("Ten off for Ann", "Tea & Co <news@tea.example>")
    assert ann["Message-ID"] == f"<{world.id_of('ann')}@tea.example>"
    out = f"<mailto:leave@tea.example?subject=unsubscribe%20{world.id_of('ann')}>"
    assert ann["List-Unsubscribe"].strip() == out
    plain, html = ann.get_body(("plain",)), ann.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert plain.get_content().strip() == "Take C-ann."
    assert html.get_content().strip() == "<b>Ann</b>"


def test_mail_that_may_have_arrived_is_in_doubt_and_not_sent_again(
    world: Any, mailbox: tuple[Any, int]
) -> None:
    box, port = mailbox
    box.hang_up = True
    space = world.make(smtp(port))
    world.run(space)
    assert set(world.states().values()) == {"in_doubt"}
    assert set(world.held().values()) == {"confirmed"}, "it may have arrived, so it counts"
    box.hang_up = False
    assert world.run(space).accepted == 0
    change_task(space, "send-again", "buy.coupon.mailing.new")
    assert world.run(space).accepted == 3


def test_mail_waits_while_the_server_is_down(world: Any, mailbox: tuple[Any, int]) -> None:
    space = world.make(smtp(1))
    assert "does not answer" in world.run(space).trouble["carrier"]
    assert set(world.states().values()) == {"queued"}


def test_bulk_mail_without_a_way_out_is_not_sent(world: Any, mailbox: tuple[Any, int]) -> None:
    said = {name: value for name, value in smtp(mailbox[1]).items() if name != "unsubscribe"}
    space = world.make(said)
    assert "so that people can unsubscribe" in world.run(space).trouble["carrier"]
    assert mailbox[0].mails == []


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_file_holds_the_whole_task_at_its_times(world: Any, form: str) -> None:
    later = world.AT + timedelta(hours=3)
    space = world.make(
        {"type": "file", "url": "drop", "format": form, "lead": "4h"},
        at=later,
        users={"allowed": [True, False, True]},
    )
    world.run(space)
    assert world.states() == {"ann": "accepted", "bob": "refused", "cleo": "accepted"}
    (path,) = (world.root / "drop" / world.DAY).iterdir()
    assert path.name == f"buy.coupon.mailing.new.{form}"
    if form == "parquet":
        frame = pl.read_parquet(path)
        assert frame["user"].to_list() == ["ann", "cleo"]
        assert frame["send_at"].to_list() == [later, later]
    else:
        with path.open() as handle:
            rows = list(csv.DictReader(handle))
        assert [(row["user"], row["send_at"]) for row in rows] == [
            ("ann", "2026-03-02T12:00:00Z"), ("cleo", "2026-03-02T12:00:00Z"),
        ]  # fmt: skip


def test_a_file_that_cannot_be_written_is_written_later(world: Any) -> None:
    space = world.make({"type": "file", "url": "drop"})
    (world.root / "drop").write_text("in the way")
    assert "cannot be written" in world.run(space).trouble["carrier"]
    assert set(world.states().values()) == {"queued"}


def test_the_screen_and_the_sandbox(world: Any, tmp_path: Path) -> None:
    lines: list[str] = []
    space = world.make({"type": "console"})
    deliver(space, say=lines.append)
    assert len(lines) == 3
    assert any("email to ann@x.example  Ten off for Ann: Take C-ann. [C-ann]" in line for line in lines)


def test_the_sandbox_keeps_what_it_gets_and_refuses_as_a_gateway_does(world: Any) -> None:
    tokens = {"email": ["tok-1", "gone-2", "no token"]}
    space = world.make({"type": "sandbox", "url": "box", "medium": "push"}, users=tokens)
    world.run(space)
    assert world.states() == {"ann": "accepted", "bob": "failed", "cleo": "failed"}
    kept = [json.loads(line) for line in (world.root / "box" / "push.jsonl").read_text().splitlines()]
    assert [(each["user_id"], each["token"]) for each in kept] == [("ann", "tok-1")]
