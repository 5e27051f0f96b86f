"""A plan's three touches on their way out, a webhook and a mail server that get them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from aiosmtpd.controller import Controller

from engine.dispatching import Dispatcher, deliver
from engine.outbox import enqueue
from engine.usecases import apply
from engine.wiring import Workspace, open_workspace
from kernel.clock import FixedClock
from kernel.contact import MessageClass
from kernel.exposure import Reservation

#: a Monday, ten in the morning in Berlin
AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
DAY = "2026-03-02"
KEY = "TEST_CRM_KEY"
CATALOG = """
sources: {shop: {url: "parquet://data"}}
entities: {user: {source: shop, table: users, key: uid}}
fields:
  user.email: {table: users, column: email, type: string}
  user.name: {table: users, column: name, type: string}
  user.allowed: {table: users, column: allowed, type: boolean, role: consent}
  user.zone: {table: users, column: zone, type: string, role: timezone}
"""
NAMES = ("ann", "bob", "cleo")


def definitions(
    provider: dict[str, Any], channel: dict[str, Any], content: dict[str, Any]
) -> list[dict[str, Any]]:
    return [
        {"kind": "provider", "name": "carrier", **provider},
        {"kind": "channel", "name": "email", "provider": "carrier", **channel},
        {"kind": "goal", "name": "buy", "outcome": "order", "audiences": ["stage:new"], "base": "spend",
         "margin": 0.2, "lift": 0.1},
        {"kind": "benefit", "name": "coupon", "label": "Ten off", "cost_per_response": 1.0, "goals": ["buy"],
         "touchpoints": ["mailing"]},
        {"kind": "touchpoint", "name": "mailing", "channel": "email", "cost_per_touch": 0.01,
         "hours": [8, 20]},
        {"kind": "quiet_hours", "name": "night", "start": 22, "end": 7},
        {"kind": "content", "name": "hello", "goals": ["buy"], "touchpoints": ["mailing"],
         "subject": "{benefit} for {{ user.name }}", "text": "Take {{ code }}.",
         "html": "<b>{{ user.name }}</b>", **content},
    ]  # fmt: skip


class World:
    """A workspace with three users, each with one touch of a plan."""

    AT, DAY, NAMES = AT, DAY, NAMES

    def __init__(self, root: Path) -> None:
        self.root = root

    def make(
        self,
        provider: dict[str, Any],
        *,
        channel: dict[str, Any] | None = None,
        content: dict[str, Any] | None = None,
        users: dict[str, Any] | None = None,
        at: datetime = AT,
        now: datetime = AT,
        message_class: str = "marketing",
        reserve: bool = True,
    ) -> Workspace:
        (self.root / "data").mkdir(parents=True)
        (self.root / "growth.toml").write_text('name = "Tea & Co"\ntimezone = "Europe/Berlin"\n')
        (self.root / "catalog.yaml").write_text(CATALOG)
        said = definitions(provider, {"address": "user.email", **(channel or {})}, content or {})
        (self.root / "d.yaml").write_text("\n---\n".join(yaml.safe_dump(each) for each in said))
        people = {
            "uid": list(NAMES), "email": [f"{name}@x.example" for name in NAMES],
            "name": ["Ann", "<Bob>", "Cleo"], "allowed": [True] * 3, "zone": ["Europe/Berlin"] * 3,
            **(users or {}),
        }  # fmt: skip
        pl.DataFrame(people).write_parquet(self.root / "data" / "users.parquet")
        self.space = open_workspace(self.root, FixedClock(at=now))
        apply(self.space, self.root / "d.yaml", by="test")
        self.plan(at, message_class)
        if reserve:
            self.hold(at, message_class)
        enqueue(self.space, self.root / "plan")
        return self.space

    def plan(self, at: datetime, message_class: str = "marketing", version: int = 1) -> None:
        frame = pl.DataFrame({"user": list(NAMES), "touch_id": [_id(name) for name in NAMES]}).with_columns(
            task=pl.lit("buy.coupon.mailing.new"), goal=pl.lit("buy"), benefit=pl.lit("coupon"),
            touchpoint=pl.lit("mailing"), channel=pl.lit("email"), content=pl.lit("hello"),
            message_class=pl.lit(message_class), send_at=pl.lit(at).dt.cast_time_unit("us"),
            local_time=pl.lit(at.isoformat()), code=pl.format("C-{}", "user"),
        )  # fmt: skip
        (self.root / "plan").mkdir(exist_ok=True)
        frame.write_parquet(self.root / "plan" / "touches.parquet")
        (self.root / "plan" / "plan.json").write_text(json.dumps({"date": DAY, "version": version}))

    def hold(self, at: datetime, message_class: str = "marketing") -> None:
        wishes = [
            Reservation(
                touch_id=_id(name), user=name, channel="email", at=at, plan=f"plan/{DAY}",
                message_class=MessageClass(message_class),
            )
            for name in NAMES
        ]  # fmt: skip
        assert self.space.ledger.reserve_many(wishes, caps=[]) == {}

    def states(self) -> dict[str, str]:
        return {row["user_id"]: row["state"] for row in self.space.outbox.outcomes(DAY)}

    def rules(self) -> dict[str, str]:
        return {row["user_id"]: row["rule"] for row in self.space.outbox.outcomes(DAY)}

    def held(self) -> dict[str, str]:
        told = self.space.ledger.states([_id(name) for name in NAMES])
        return {name: told[_id(name)] for name in NAMES}

    @staticmethod
    def id_of(name: str) -> str:
        return _id(name)

    @staticmethod
    def run(space: Workspace, *, until_empty: bool = False) -> Dispatcher:
        return deliver(space, until_empty=until_empty, say=lambda _: None)


def _id(name: str) -> str:
    return name.encode().hex().zfill(16)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "w")
    yield made
    if hasattr(made, "space"):
        made.space.ledger.close()
        made.space.database.dispose()


class Hook:
    """A webhook that answers as it is told, and keeps what it got."""

    KEY = KEY

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[dict[str, Any]], tuple[int, dict[str, str], bytes]] = lambda _: (
            200,
            {},
            b"{}",
        )
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                hook.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                code, headers, said = hook.answer(json.loads(body))
                self.send_response(code)
                for name, value in {**headers, "content-length": str(len(said))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/touches"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]

    def provider(self, **more: Any) -> dict[str, Any]:
        return {"type": "webhook", "url": self.url, "secret": KEY, "connections": 2, **more}

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    monkeypatch.setenv(KEY, "sesame")
    made = Hook()
    yield made
    made.close()


class Mailbox:
    """A mail server on loopback that knows who lives there."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.unknown: set[str] = set()
        self.hang_up = False

    async def handle_RCPT(  # noqa: N802  aiosmtpd calls it so
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        if address in self.unknown:
            return "550 5.1.1 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        if self.hang_up:
            server.transport.abort()
            return "451 gone"
        self.mails.append(message_from_bytes(envelope.content, policy=default))
        return "250 taken"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box = Mailbox()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield box, port
    controller.stop()
