"""Receipts over HTTP: signed, once each, acted on at once, kept as events; and links that end messages."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI

from engine.dispatch_batch import Preparing
from engine.http import problems
from engine.http.dispatch_routes import dispatch_routes
from engine.http.receipt_routes import receipt_routes
from engine.receipts import ReceiptService
from engine.usecases import apply
from engine.wiring import Workspace, open_workspace
from kernel.clock import FixedClock
from kernel.contact import MessageClass
from kernel.delivery import OutboxTask, OutboxTouch, Settled, TouchState
from storage.events import EventLog
from touchpoint.api import read_receipts

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
NOW = int(AT.timestamp() * 1e6)
KEY = "TEST_RECEIPT_KEY"
DEFINITIONS: list[dict[str, Any]] = [
    {"kind": "provider", "name": "crm", "type": "console", "receipts": KEY},
    {"kind": "provider", "name": "dumb", "type": "console"},
    {"kind": "channel", "name": "email", "provider": "crm"},
]


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv(KEY, "sesame")
    (tmp_path / "growth.toml").write_text('public_url = "https://growth.tea.example"\n')
    (tmp_path / "d.yaml").write_text("\n---\n".join(yaml.safe_dump(each) for each in DEFINITIONS))
    made = open_workspace(tmp_path, FixedClock(at=AT))
    apply(made, tmp_path / "d.yaml", by="test")
    task = OutboxTask(
        run="2026-03-02", task="t", goal="g", benefit="b", touchpoint="p", channel="email", content="c",
        message_class=MessageClass.MARKETING,
    )  # fmt: skip
    rows = [OutboxTouch(touch_id=f"t{n}", user=f"u{n}", send_us=NOW) for n in (1, 2)]
    made.outbox.load("2026-03-02", 1, [(task, rows)], NOW)
    me = made.outbox.dispatcher()
    me.join(NOW)
    leased = made.outbox.lease(me.owner, ["email"], limit=9, now_us=NOW, limits={}).touches
    mark = made.suppressions.mark_of_address("ann@x.example")
    done = [Settled(number=each.number, state=TouchState.ACCEPTED, address=mark) for _, each in leased]
    made.outbox.settle(me.owner, done, NOW, told=True)
    me.leave(NOW)
    yield made
    made.database.dispose()


class Client:
    """Asks the app as a caller would, without a socket."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def __call__(self, method: str, path: str, **said: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as asked:
                return await asked.request(method, path, **said)

        return asyncio.run(ask())

    def get(self, path: str, **said: Any) -> httpx.Response:
        return self("GET", path, **said)

    def post(self, path: str, **said: Any) -> httpx.Response:
        return self("POST", path, **said)

    def delete(self, path: str, **said: Any) -> httpx.Response:
        return self("DELETE", path, **said)


@pytest.fixture
def client(space: Workspace) -> Client:
    app = FastAPI()
    problems.install(app)
    app.include_router(receipt_routes(ReceiptService(space)))
    app.include_router(dispatch_routes(space))
    return Client(app)


def receipt(kind: str, **changes: Any) -> dict[str, Any]:
    said = {"receipt_id": "r1", "touch_id": "t1", "kind": kind, "occurred_at": AT.isoformat()}
    return {**said, **changes}


def post(
    client: Client, body: Any, *, signer: str = "sesame", at: datetime = AT, name: str = "crm"
) -> httpx.Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    stamp = str(int(at.timestamp()))
    signed = hmac.new(signer.encode(), f"{stamp}.".encode() + raw, hashlib.sha256).hexdigest()
    headers = {"growth-timestamp": stamp, "growth-signature": f"v1={signed}"}
    return client.post(f"/v1/receipts/{name}", content=raw, headers=headers)


def test_a_receipt_is_taken_once_and_becomes_a_fresh_event_once(client: Client, space: Workspace) -> None:
    for status in ("taken", "repeated"):
        answer = post(client, receipt("opened"))
        assert answer.status_code == 200
        assert answer.json() == [{"receipt_id": "r1", "status": status, "cancelled": 0}]
    (event,) = EventLog(space.database).of_user("u1")
    assert (event.name, event.occurred_at, event.event_id) == ("touch_opened", AT, "crm/r1")
    assert event.lines[0]["channel"] == "email"
    assert client.get("/v1/outbox").json()["receipts"] == {"email": {"opened": 1}}


def test_a_kill_between_the_stores_is_mended_by_the_repetition(client: Client, space: Workspace) -> None:
    """The receipt is in, its event is not: whoever was not answered tells again."""
    service = ReceiptService(space)
    kept, service._log = service._log, None  # type: ignore[assignment]  # as if the process had ended here
    told = read_receipts(json.dumps(receipt("opened")).encode(), AT)
    with pytest.raises(AttributeError):
        service.take("crm", told)
    service._log = kept
    assert service.take("crm", told)[0]["status"] == "repeated"
    assert len(EventLog(space.database).of_user("u1")) == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"signer": "wrong"}, "wrong signature"),
        ({"at": AT - timedelta(minutes=6)}, "five minutes"),
        ({"at": AT + timedelta(minutes=6)}, "five minutes"),
    ],
)
def test_what_is_not_signed_or_too_old_is_refused(
    client: Client, space: Workspace, change: dict[str, Any], why: str
) -> None:
    answer = post(client, receipt("unsubscribed"), **change)
    assert answer.status_code == 401
    assert why in answer.json()["detail"]
    assert client.post("/v1/receipts/crm", json=receipt("unsubscribed")).status_code == 401
    assert space.suppressions.newest() == []


def test_a_provider_that_takes_no_receipts_is_not_found(client: Client) -> None:
    assert post(client, receipt("opened"), name="dumb").status_code == 404
    assert post(client, receipt("opened"), name="nobody").status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        ([], "receipts"),
        (receipt("eaten"), "kind"),
        (receipt("opened", occurred_at="2026-03-02T09:00:00"), "occurred_at"),
        (receipt("opened", occurred_at="2026-03-02T10:00:00+00:00"), "occurred_at"),
        (receipt("opened", hard=True), "hard"),
        (receipt("opened", receipt_id="\ud800"), "receipt_id"),
        (receipt("opened", receipt_id="a\u0000b"), "receipt_id"),
        (receipt("opened", touch_id="t9"), "touch_id"),
        (receipt("opened", more=1), "more"),
        ([receipt("unsubscribed"), receipt("opened", receipt_id="r2", touch_id="t9")], "receipts.1.touch_id"),
    ],
)
def test_one_that_is_wrong_and_none_of_the_request_counts(
    client: Client, space: Workspace, body: Any, field: str
) -> None:
    answer = post(client, body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"].endswith(field)
    assert (space.suppressions.newest(), space.receipts.counts()) == ([], {})


def test_an_unsubscription_calls_off_what_waits_and_lifting_brings_back_nothing_that_was_called_off(
    client: Client, space: Workspace
) -> None:
    task = OutboxTask(
        run="later", task="t", goal="g", benefit="b", touchpoint="p", channel="email", content="c",
        message_class=MessageClass.MARKETING,
    )  # fmt: skip
    space.outbox.load("later", 1, [(task, [OutboxTouch(touch_id="z", user="u1", send_us=NOW + 10**9)])], NOW)
    assert post(client, receipt("unsubscribed")).json()[0]["cancelled"] == 1
    (entry,) = client.get("/v1/suppressions", params={"who": "u1"}).json()
    assert (entry["channel"], entry["reason"], entry["said_by"]) == ("email", "unsubscribed", "crm")
    assert client.delete("/v1/suppressions/u1").json()["changed"] == 1
    assert client.get("/v1/suppressions").json() == []
    newest = client.get("/v1/outbox/users/u1").json()["touches"][0]
    assert (newest["state"], newest["rule"]) == ("cancelled", "suppressed")
    # an old receipt that is told again does not suppress her again
    assert post(client, receipt("unsubscribed")).json()[0]["status"] == "repeated"
    assert client.get("/v1/suppressions").json() == []


def test_the_link_asks_first_then_ends_messages_in_one_click(client: Client, space: Workspace) -> None:
    link = Preparing(space, space.suppressions).unsubscribe_url("t2")
    assert link.startswith("https://growth.tea.example/v1/unsubscribe/t2.")
    path = link.removeprefix("https://growth.tea.example")
    page = client.get(path)
    assert (page.status_code, "<form" in page.text) == (200, True)
    assert space.suppressions.newest() == [], "a scanner that follows links changes nothing"
    for _ in range(2):
        assert client.post(path, content="List-Unsubscribe=One-Click").status_code == 200
    assert [each["user_id"] for each in space.suppressions.newest()] == ["u2"]
    assert client.delete("/v1/suppressions/u2").json()["changed"] == 1


@pytest.mark.parametrize("token", ["t2", "t2.", "t2." + "0" * 32, "t1.é", "%F0%9F%98%80"])
def test_a_link_that_is_not_ours_does_nothing(client: Client, space: Workspace, token: str) -> None:
    assert client.get(f"/v1/unsubscribe/{token}").status_code == 404
    assert client.post(f"/v1/unsubscribe/{token}").status_code == 404
    assert space.suppressions.newest() == []


def test_tasks_are_changed_by_number(client: Client) -> None:
    (task,) = client.get("/v1/outbox").json()["tasks"]
    assert client.post(f"/v1/outbox/{task['number']}/pause").json()[0]["action"] == "pause"
    assert client.get("/v1/outbox", params={"run": "2026-03-02"}).json()["tasks"][0]["state"] == "paused"
    assert client.post(f"/v1/outbox/{task['number']}/cancel").status_code == 200
    assert client.post(f"/v1/outbox/{task['number']}/resume").status_code == 409
    assert client.post("/v1/outbox/77/pause").status_code == 404
    assert client.post("/v1/outbox/1/explode").status_code == 422
    assert client.post(f"/v1/outbox/{2**70}/pause").status_code == 422


def test_suppressing_by_hand_and_what_is_no_name(client: Client) -> None:
    assert client.post("/v1/suppressions", json={"who": "ann@x.example"}).json()["cancelled"] == 0
    assert {each["address"] for each in client.get("/v1/suppressions").json()} == {"ann@x.example", None}
    for who in ("", "a\u0000b", "x" * 300, "\ud800"):
        answer = client.post(
            "/v1/suppressions", content=json.dumps({"who": who}), headers={"content-type": "application/json"}
        )
        assert answer.status_code == 422, who
