"""Dispatchers that are killed while they hand over: nothing is lost, nothing arrives twice."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from aiosmtpd.controller import Controller

from benchmarks.outbox import run_killed
from benchmarks.outbox_world import DAY, SECRET, definitions, hold, make
from engine.dispatching import deliver
from engine.outbox import complete_loads, enqueue
from engine.usecases import apply
from kernel.delivery import Settled, TouchState
from kernel.errors import Unavailable
from storage import outbox_load

_CHILD = """
import sys
from pathlib import Path
from engine.dispatching import deliver
from engine.wiring import open_workspace
deliver(open_workspace(Path(sys.argv[1])), until_empty=True, say=lambda _: None)
"""


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "sesame")


@pytest.mark.parametrize("batch", [1, 20])
def test_a_webhook_gets_every_touch_once_by_its_key(tmp_path: Path, batch: int) -> None:
    found = run_killed(tmp_path / "w", 400, 3, kills=3, batch=batch)
    assert found["kills"] == 3
    assert found["accepted"] == found["states"] == 400


@contextmanager
def child(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", _CHILD, str(root)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class KillingMailbox:
    """Kills whoever hands it a mail, before it says that it took it; afterwards it is friendly."""

    def __init__(self) -> None:
        self.got = Counter[str]()
        self.victims: list[subprocess.Popen[bytes]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.got[envelope.rcpt_tos[0]] += 1
        while self.victims:
            os.kill(self.victims.pop().pid, signal.SIGKILL)
        return "250 taken"


@pytest.fixture
def mailbox() -> Iterator[tuple[KillingMailbox, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    box = KillingMailbox()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield box, port
    controller.stop()


def test_mail_that_was_being_handed_over_is_in_doubt_and_no_mail_goes_twice(
    tmp_path: Path, mailbox: tuple[KillingMailbox, int]
) -> None:
    box, port = mailbox
    root = tmp_path / "w"
    space = make(root, 30, "http://127.0.0.1:1", tasks=1)
    provider = {
        "kind": "provider", "name": "crm", "type": "smtp", "host": "127.0.0.1", "port": port,
        "security": "none", "sender": "t@tea.example", "unsubscribe": "l@tea.example", "connections": 2,
    }  # fmt: skip
    said = [provider, *definitions("http://127.0.0.1:1")[1:]]
    (root / "d.yaml").write_text("\n---\n".join(yaml.safe_dump(each) for each in said))
    users = pl.read_parquet(root / "data" / "users.parquet")
    users.with_columns(token=pl.format("{}@x.example", "uid")).write_parquet(root / "data" / "users.parquet")
    apply(space, root / "d.yaml", by="test")
    enqueue(space, root / "plan")
    with child(root) as first:
        box.victims.append(first)
        assert first.wait(300) == -signal.SIGKILL
    with child(root) as second:
        assert second.wait(300) == 0
    states = Counter(row["state"] for row in space.outbox.outcomes(DAY))
    assert set(states) == {"accepted", "in_doubt"}
    assert 1 <= states["in_doubt"] <= 2 * 2, "no more than were in hand: connections of two loops"
    assert max(box.got.values()) == 1
    assert len(box.got) >= states["accepted"]
    touches = pl.read_parquet(root / "plan" / "touches.parquet")["touch_id"].to_list()
    assert set(space.ledger.states(touches).values()) == {"confirmed"}, "what may have arrived counts"
    space.ledger.close()
    space.database.dispose()


def test_a_load_that_was_interrupted_is_gone_on_with_and_nothing_went_out_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = make(tmp_path / "w", 50, "http://127.0.0.1:1", tasks=2, reserve=False)
    original, count = outbox_load._touches, [0]

    def torn(*words: Any) -> None:
        count[0] += 1
        if count[0] == 2:
            raise Unavailable("as if the process had ended here")
        original(*words)

    monkeypatch.setattr(outbox_load, "_touches", torn)
    with pytest.raises(Unavailable):
        enqueue(space, space.root / "plan")
    monkeypatch.undo()
    assert {task["state"] for task in space.outbox.tasks()} == {"loading"}
    complete_loads(space)
    assert {task["state"] for task in space.outbox.tasks()} == {"running"}
    assert len(space.outbox.outcomes(DAY)) == 50
    space.database.dispose()


def test_a_ledger_that_did_not_answer_is_told_later(tmp_path: Path) -> None:
    """Accepted, and the ledger not told: the next dispatcher tells it."""
    space = make(tmp_path / "w", 5, "http://127.0.0.1:1", tasks=1, reserve=False)
    hold(space, pl.read_parquet(space.root / "plan" / "touches.parquet"))
    enqueue(space, space.root / "plan")
    me = space.outbox.dispatcher()
    me.join(0)
    leased = space.outbox.lease(me.owner, ["push"], limit=9, now_us=2**60, limits={}).touches
    done = [Settled(number=touch.number, state=TouchState.ACCEPTED) for _, touch in leased]
    space.outbox.settle(me.owner, done, 1)
    me.leave(1)
    assert len(space.outbox.owed()) == 5
    deliver(space)
    assert space.outbox.owed() == []
    assert set(space.ledger.states([touch.touch_id for _, touch in leased]).values()) == {"confirmed"}
    space.ledger.close()
    space.database.dispose()
