"""From a plan's folder to a webhook, a mail server, files, the screen and a sandbox: what goes out."""

from __future__ import annotations

import asyncio
import csv
import json
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
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

from engine.dispatching import Dispatcher, deliver, dispatching
from engine.outbox import change_task, enqueue, outbox_report, suppress
from engine.replaying import ReplayClock
from engine.usecases import apply
from engine.wiring import Workspace, open_workspace
from kernel.clock import FixedClock
from kernel.contact import MessageClass
from kernel.delivery import OutboxTask, OutboxTouch
from kernel.errors import BadInput, Unavailable
from kernel.exposure import Reservation
from touchpoint.api import verify_signature

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


def webhook(hook: Hook, **more: Any) -> dict[str, Any]:
    return {"type": "webhook", "url": hook.url, "secret": KEY, "connections": 2, **more}


def run(space: Workspace, *, until_empty: bool = False) -> Dispatcher:
    return deliver(space, until_empty=until_empty, say=lambda _: None)


def test_a_touch_is_handed_over_once_signed_with_its_own_words_and_confirmed(
    world: World, hook: Hook
) -> None:
    space = world.make(webhook(hook))
    assert run(space).accepted == 3
    assert run(space).accepted == 0
    assert world.states() == dict.fromkeys(NAMES, "accepted")
    assert world.held() == dict.fromkeys(NAMES, "confirmed")
    said = {each["user_id"]: each for each in hook.bodies}
    assert len(hook.got) == 3
    assert said["bob"]["subject"] == "Ten off for <Bob>"
    assert said["bob"]["html"] == "<b>&lt;Bob&gt;</b>"
    assert (said["ann"]["text"], said["ann"]["address"]) == ("Take C-ann.", "ann@x.example")
    for headers, body in hook.got:
        assert headers["idempotency-key"] == json.loads(body)["touch_id"]
        stamp = headers["growth-timestamp"]
        now = datetime.fromtimestamp(int(stamp), UTC)
        verify_signature(b"sesame", body, stamp, headers["growth-signature"], now)


def test_one_rejected_address_does_not_disturb_the_rest(world: World, hook: Hook) -> None:
    hook.answer = lambda said: (422, {}, b"no such device") if said["user_id"] == "bob" else (200, {}, b"")
    space = world.make(webhook(hook))
    assert run(space).accepted == 2
    assert world.states() == {"ann": "accepted", "bob": "failed", "cleo": "accepted"}
    assert world.rules()["bob"] == "act_on_it"
    assert world.held()["bob"] == "released", "what did not arrive does not count"
    (why,) = outbox_report(space)["reasons"]
    assert "422: no such device" in why["reason"]


def test_a_batch_has_an_answer_for_each(world: World, hook: Hook) -> None:
    results = [
        {"touch_id": _id("ann"), "status": "accepted", "id": "m-1"},
        {"touch_id": _id("bob"), "status": "bounced", "reason": "gone"},
        {"touch_id": _id("cleo"), "status": "retry"},
    ]
    hook.answer = lambda _: (200, {}, json.dumps({"results": results}).encode())
    space = world.make(webhook(hook, batch=10))
    run(space)
    assert len(hook.got) == 1
    assert world.states() == {"ann": "accepted", "bob": "failed", "cleo": "queued"}
    marks = [space.suppressions.mark_of_address("bob@x.example")]
    assert space.suppressions.binding(marks), "a rejected address is suppressed"


@pytest.mark.parametrize("down", [True, False])
def test_what_may_work_later_is_tried_again_and_given_up_only_when_the_provider_is_up(
    world: World, hook: Hook, down: bool
) -> None:
    hook.answer = lambda _: (503 if down else 500, {}, b"busy")
    space = world.make(webhook(hook, attempts=2))
    clock = ReplayClock(AT)
    object.__setattr__(space, "clock", clock)
    assert run(space).trouble or not down
    assert set(world.states().values()) == {"queued"}
    for _ in range(8):
        clock._at += timedelta(minutes=30)
        run(space)
    after = {"queued"} if down else {"failed"}
    assert set(world.states().values()) == after
    # while it is down, the others are left alone
    assert set(world.rules().values()) == ({"", "retriable"} if down else {"retriable"})


def test_retry_after_is_obeyed(world: World, hook: Hook) -> None:
    hook.answer = lambda _: (429, {"retry-after": "120"}, b"")
    space = world.make(webhook(hook))
    run(space)
    (task,) = space.outbox.tasks()
    assert task["next"] is not None
    rows = [row for name in NAMES for row in space.outbox.of_user(name)]
    due = {row["due"] for row in rows if row["rule"] == "retriable"}
    assert due == {(AT + timedelta(seconds=120)).isoformat()}


def test_redirects_and_wrong_keys_cost_no_touch(world: World, hook: Hook) -> None:
    hook.answer = lambda _: (401, {}, b"who are you")
    space = world.make(webhook(hook, attempts=1))
    assert "401: who are you" in run(space).trouble["carrier"]
    assert set(world.states().values()) == {"queued"}


def test_without_its_secret_a_provider_waits_and_says_so(
    world: World, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = world.make(webhook(hook))
    monkeypatch.delenv(KEY)
    assert "is not set in the environment" in run(space, until_empty=True).trouble["carrier"]
    assert "TEST_CRM_KEY" in outbox_report(space)["trouble"]["carrier"]
    assert set(world.states().values()) == {"queued"}


def test_consent_is_asked_again_when_the_time_has_come(world: World, hook: Hook) -> None:
    space = world.make(webhook(hook), users={"allowed": [True, False, None]})
    run(space)
    assert world.states() == {"ann": "accepted", "bob": "refused", "cleo": "refused"}
    assert world.rules()["cleo"] == "consent", "unknown is not yes"
    assert world.held()["bob"] == "released"


def test_without_users_nothing_goes_out(world: World, hook: Hook) -> None:
    space = world.make(webhook(hook))
    (world.root / "data" / "users.parquet").unlink()
    with pytest.raises(Unavailable, match="nothing is sent"):
        run(space)
    assert (hook.got, set(world.states().values())) == ([], {"queued"})


def test_the_suppressed_get_nothing_and_what_waits_is_called_off(world: World, hook: Hook) -> None:
    space = world.make(webhook(hook))
    assert suppress(space, "ann")["cancelled"] == 1
    suppress(space, "Bob@X.example")
    run(space)
    assert world.states() == {"ann": "cancelled", "bob": "refused", "cleo": "accepted"}
    assert world.rules()["bob"] == "suppressed"
    assert world.held()["ann"] == "released"


def test_transactional_goes_to_the_suppressed_and_at_night(world: World, hook: Hook) -> None:
    night = AT.replace(hour=23)
    space = world.make(webhook(hook), message_class="transactional", at=night, now=night)
    suppress(space, "ann")
    run(space)
    assert world.states() == dict.fromkeys(NAMES, "accepted")


@pytest.mark.parametrize("late", ["wait", "expire"])
def test_late_for_quiet_hours_waits_for_the_morning_of_her_own_zone_or_expires(
    world: World, hook: Hook, late: str
) -> None:
    evening, night = AT.replace(hour=18), AT.replace(hour=22, minute=30)
    zones = {"zone": ["Europe/Berlin", "America/New_York", None]}
    space = world.make(webhook(hook), channel={"late": late}, users=zones, at=evening, now=night)
    run(space)
    assert world.states()["bob"] == "accepted", "it is half past five in New York"
    if late == "expire":
        assert world.states() == {"ann": "refused", "bob": "accepted", "cleo": "refused"}
        assert world.rules()["ann"] == "night"
        return
    assert world.states() == {"ann": "queued", "bob": "accepted", "cleo": "queued"}
    (row,) = space.outbox.of_user("ann")
    assert row["due"] == "2026-03-03T07:00:00+00:00", "eight o'clock in Berlin, when the touchpoint opens"
    assert "night forbids it until 2026-03-03 08:00+01:00" in row["reason"]
    held = space.ledger.held(users=["ann"], since=night, until=night + timedelta(days=1))
    assert held["at"].to_list() == [datetime(2026, 3, 3, 7, tzinfo=UTC)], "caps count it where it moved to"


def test_what_nobody_wants_any_more_is_not_sent(world: World, hook: Hook) -> None:
    space = world.make(webhook(hook), channel={"expires": "2h"}, now=AT + timedelta(hours=3))
    run(space)
    assert set(world.rules().values()) == {"expired"}
    assert hook.got == []


def test_without_its_place_under_the_caps_nothing_goes_out(world: World, hook: Hook) -> None:
    space = world.make(webhook(hook))
    space.ledger.release([_id("ann")])
    run(space)
    assert world.states() == {"ann": "refused", "bob": "accepted", "cleo": "accepted"}
    assert world.rules()["ann"] == "reservation"


def test_forgotten_people_and_people_without_an_address_get_nothing(world: World, hook: Hook) -> None:
    space = world.make(webhook(hook), users={"email": ["ann@x.example", None, " "]})
    space.tombstones.begin(["ann"], AT)
    run(space)
    assert world.rules() == {"ann": "forgotten", "bob": "address", "cleo": "address"}


def test_a_value_that_one_user_lacks_refuses_only_her(world: World, hook: Hook) -> None:
    space = world.make(webhook(hook), users={"name": ["Ann", None, "Cleo"]})
    run(space)
    assert world.states() == {"ann": "accepted", "bob": "refused", "cleo": "accepted"}
    assert "content hello, subject" in space.outbox.of_user("bob")[0]["reason"]


def test_a_variable_that_nobody_knows_is_told_before_anything_is_sent(world: World, hook: Hook) -> None:
    with pytest.raises(BadInput, match=r"content hello, text, line 1: variable = 'user\.nmae'.*user\.name"):
        world.make(webhook(hook), content={"text": "{{ user.nmae }}"})


def test_paused_nothing_goes_out_resumed_all_does(world: World, hook: Hook) -> None:
    space = world.make(webhook(hook))
    change_task(space, "pause", "buy.coupon.mailing.new")
    run(space)
    assert hook.got == []
    change_task(space, "resume", "buy.coupon.mailing.new")
    assert run(space).accepted == 3


def test_cancelled_in_flight_stops_within_the_round(world: World, hook: Hook) -> None:
    """The first request cancels the task; of the others only those of its own round may still go."""
    space = world.make(webhook(hook, connections=1))
    task = OutboxTask(
        run="r", task="many", goal="buy", benefit="coupon", touchpoint="mailing", channel="email",
        content="hello", message_class=MessageClass.TRANSACTIONAL,
    )  # fmt: skip
    at = int(AT.timestamp() * 1e6)
    rows = [OutboxTouch(touch_id=f"x{number}", user=f"ann{number}", send_us=at) for number in range(300)]
    space.outbox.load("r", 1, [(task, rows)], at)
    wishes = [
        Reservation(touch_id=each.touch_id, user=each.user, channel="email", at=AT,
                    message_class=MessageClass.TRANSACTIONAL)
        for each in rows
    ]  # fmt: skip
    space.ledger.reserve_many(wishes, caps=[])
    frame = pl.read_parquet(world.root / "data" / "users.parquet").head(0)
    several = pl.DataFrame({"uid": [each.user for each in rows]}).with_columns(
        email=pl.lit("a@x.example"), name=pl.lit("A"), allowed=True, zone=pl.lit("UTC")
    )
    pl.concat([frame, several]).write_parquet(world.root / "data" / "users.parquet")

    def answer(_: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        if len(hook.got) == 1:
            change_task(space, "cancel", "many")
        return 200, {}, b""

    hook.answer = answer
    run(space)
    (report,) = [each for each in outbox_report(space)["tasks"] if each["task"] == "many"]
    assert report["touches"]["cancelled"] >= 300 - 3 * 64, (
        "three leases of the first size may be on their way"
    )
    assert report["touches"]["cancelled"] + report["touches"]["accepted"] == 300


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


def smtp(port: int) -> dict[str, Any]:
    return {
        "type": "smtp", "host": "127.0.0.1", "port": port, "security": "none", "connections": 2,
        "sender": "Tea & Co <news@tea.example>", "unsubscribe": "leave@tea.example",
    }  # fmt: skip


def test_mail_is_plain_and_html_with_a_way_out(world: World, mailbox: tuple[Mailbox, int]) -> None:
    box, port = mailbox
    box.unknown = {"bob@x.example"}
    space = world.make(smtp(port))
    run(space)
    assert world.states() == {"ann": "accepted", "bob": "failed", "cleo": "accepted"}
    assert space.suppressions.newest()[0]["reason"] == "hard_bounce"
    mails = {str(mail["To"]): mail for mail in box.mails}
    ann = mails["ann@x.example"]
    assert (ann["Subject"], ann["From"]) == ("Ten off for Ann", "Tea & Co <news@tea.example>")
    assert ann["Message-ID"] == f"<{_id('ann')}@tea.example>"
    out = f"<mailto:leave@tea.example?subject=unsubscribe%20{_id('ann')}>"
    assert ann["List-Unsubscribe"].strip() == out
    plain, html = ann.get_body(("plain",)), ann.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert plain.get_content().strip() == "Take C-ann."
    assert html.get_content().strip() == "<b>Ann</b>"


def test_mail_that_may_have_arrived_is_in_doubt_and_not_sent_again(
    world: World, mailbox: tuple[Mailbox, int]
) -> None:
    box, port = mailbox
    box.hang_up = True
    space = world.make(smtp(port))
    run(space)
    assert set(world.states().values()) == {"in_doubt"}
    assert set(world.held().values()) == {"confirmed"}, "it may have arrived, so it counts"
    box.hang_up = False
    assert run(space).accepted == 0
    change_task(space, "send-again", "buy.coupon.mailing.new")
    assert run(space).accepted == 3


def test_mail_waits_while_the_server_is_down(world: World, mailbox: tuple[Mailbox, int]) -> None:
    space = world.make(smtp(1))
    assert "does not answer" in run(space).trouble["carrier"]
    assert set(world.states().values()) == {"queued"}


def test_bulk_mail_without_a_way_out_is_not_sent(world: World, mailbox: tuple[Mailbox, int]) -> None:
    said = {name: value for name, value in smtp(mailbox[1]).items() if name != "unsubscribe"}
    space = world.make(said)
    assert "so that people can unsubscribe" in run(space).trouble["carrier"]
    assert mailbox[0].mails == []


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_file_holds_the_whole_task_at_its_times(world: World, form: str) -> None:
    later = AT + timedelta(hours=3)
    space = world.make(
        {"type": "file", "url": "drop", "format": form, "lead": "4h"},
        at=later,
        users={"allowed": [True, False, True]},
    )
    run(space)
    assert world.states() == {"ann": "accepted", "bob": "refused", "cleo": "accepted"}
    (path,) = (world.root / "drop" / DAY).iterdir()
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


def test_a_file_that_cannot_be_written_is_written_later(world: World) -> None:
    space = world.make({"type": "file", "url": "drop"})
    (world.root / "drop").write_text("in the way")
    assert "cannot be written" in run(space).trouble["carrier"]
    assert set(world.states().values()) == {"queued"}


def test_the_screen_and_the_sandbox(world: World, tmp_path: Path) -> None:
    lines: list[str] = []
    space = world.make({"type": "console"})
    deliver(space, say=lines.append)
    assert len(lines) == 3
    assert any("email to ann@x.example  Ten off for Ann: Take C-ann. [C-ann]" in line for line in lines)


def test_the_sandbox_keeps_what_it_gets_and_refuses_as_a_gateway_does(world: World) -> None:
    tokens = {"email": ["tok-1", "gone-2", "no token"]}
    space = world.make({"type": "sandbox", "url": "box", "medium": "push"}, users=tokens)
    run(space)
    assert world.states() == {"ann": "accepted", "bob": "failed", "cleo": "failed"}
    kept = [json.loads(line) for line in (world.root / "box" / "push.jsonl").read_text().splitlines()]
    assert [(each["user_id"], each["token"]) for each in kept] == [("ann", "tok-1")]


def test_waves_go_out_at_their_own_times_in_a_replay(world: World, hook: Hook) -> None:
    clock = ReplayClock(AT - timedelta(hours=5))
    space = world.make(webhook(hook))
    object.__setattr__(space, "clock", clock)
    dispatcher = Dispatcher(space, say=lambda _: None, pass_time=clock.pass_time)
    asyncio.run(dispatcher.run(until_empty=True))
    assert world.states() == dict.fromkeys(NAMES, "accepted")
    assert AT <= clock.now() < AT + timedelta(minutes=15)


def test_beside_a_server_touches_go_out_by_themselves(world: World, hook: Hook) -> None:
    came = threading.Event()

    def answer(_: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        if len(hook.got) == 3:
            came.set()
        return 200, {}, b""

    hook.answer = answer
    space = world.make(webhook(hook))
    with dispatching(space):
        assert came.wait(60)
    assert world.states() == dict.fromkeys(NAMES, "accepted")
