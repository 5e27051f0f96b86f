"""What goes out through a webhook: once, signed, tried again, paused and cancelled; and by itself."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from engine.dispatching import Dispatcher, dispatching
from engine.outbox import change_task, outbox_report
from engine.replaying import ReplayClock
from kernel.contact import MessageClass
from kernel.delivery import OutboxTask, OutboxTouch
from kernel.exposure import Reservation
from touchpoint.api import verify_signature


def test_a_touch_is_handed_over_once_signed_with_its_own_words_and_confirmed(world: Any, hook: Any) -> None:
    space = world.make(hook.provider())
    assert world.run(space).accepted == 3
    assert world.run(space).accepted == 0
    assert world.states() == dict.fromkeys(world.NAMES, "accepted")
    assert world.held() == dict.fromkeys(world.NAMES, "confirmed")
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


def test_one_rejected_address_does_not_disturb_the_rest(world: Any, hook: Any) -> None:
    hook.answer = lambda said: (422, {}, b"no such device") if said["user_id"] == "bob" else (200, {}, b"")
    space = world.make(hook.provider())
    assert world.run(space).accepted == 2
    assert world.states() == {"ann": "accepted", "bob": "failed", "cleo": "accepted"}
    assert world.rules()["bob"] == "act_on_it"
    assert world.held()["bob"] == "released", "what did not arrive does not count"
    (why,) = outbox_report(space)["reasons"]
    assert "422: no such device" in why["reason"]


def test_a_batch_has_an_answer_for_each(world: Any, hook: Any) -> None:
    results = [
        {"touch_id": world.id_of("ann"), "status": "accepted", "id": "m-1"},
        {"touch_id": world.id_of("bob"), "status": "bounced", "reason": "gone"},
        {"touch_id": world.id_of("cleo"), "status": "retry"},
    ]
    hook.answer = lambda _: (200, {}, json.dumps({"results": results}).encode())
    space = world.make(hook.provider(batch=10))
    world.run(space)
    assert len(hook.got) == 1
    assert world.states() == {"ann": "accepted", "bob": "failed", "cleo": "queued"}
    marks = [space.suppressions.mark_of_address("bob@x.example")]
    assert space.suppressions.binding(marks), "a rejected address is suppressed"


@pytest.mark.parametrize("down", [True, False])
def test_what_may_work_later_is_tried_again_and_given_up_only_when_the_provider_is_up(
    world: Any, hook: Any, down: bool
) -> None:
    hook.answer = lambda _: (503 if down else 500, {}, b"busy")
    space = world.make(hook.provider(attempts=2))
    clock = ReplayClock(world.AT)
    object.__setattr__(space, "clock", clock)
    assert world.run(space).trouble or not down
    assert set(world.states().values()) == {"queued"}
    for _ in range(8):
        clock._at += timedelta(minutes=30)
        world.run(space)
    after = {"queued"} if down else {"failed"}
    assert set(world.states().values()) == after
    # while it is down, the others are left alone
    assert set(world.rules().values()) == ({"", "retriable"} if down else {"retriable"})


def test_retry_after_is_obeyed(world: Any, hook: Any) -> None:
    hook.answer = lambda _: (429, {"retry-after": "120"}, b"")
    space = world.make(hook.provider())
    world.run(space)
    (task,) = space.outbox.tasks()
    assert task["next"] is not None
    rows = [row for name in world.NAMES for row in space.outbox.of_user(name)]
    due = {row["due"] for row in rows if row["rule"] == "retriable"}
    assert due == {(world.AT + timedelta(seconds=120)).isoformat()}


def test_redirects_and_wrong_keys_cost_no_touch(world: Any, hook: Any) -> None:
    hook.answer = lambda _: (401, {}, b"who are you")
    space = world.make(hook.provider(attempts=1))
    assert "401: who are you" in world.run(space).trouble["carrier"]
    assert set(world.states().values()) == {"queued"}


def test_without_its_secret_a_provider_waits_and_says_so(
    world: Any, hook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = world.make(hook.provider())
    monkeypatch.delenv(hook.KEY)
    assert "is not set in the environment" in world.run(space, until_empty=True).trouble["carrier"]
    assert "TEST_CRM_KEY" in outbox_report(space)["trouble"]["carrier"]
    assert set(world.states().values()) == {"queued"}


def test_paused_nothing_goes_out_resumed_all_does(world: Any, hook: Any) -> None:
    space = world.make(hook.provider())
    change_task(space, "pause", "buy.coupon.mailing.new")
    world.run(space)
    assert hook.got == []
    change_task(space, "resume", "buy.coupon.mailing.new")
    assert world.run(space).accepted == 3


def test_cancelled_in_flight_stops_within_the_round(world: Any, hook: Any) -> None:
    """The first request cancels the task; of the others only those of its own round may still go."""
    space = world.make(hook.provider(connections=1))
    task = OutboxTask(
        run="r", task="many", goal="buy", benefit="coupon", touchpoint="mailing", channel="email",
        content="hello", message_class=MessageClass.TRANSACTIONAL,
    )  # fmt: skip
    at = int(world.AT.timestamp() * 1e6)
    rows = [OutboxTouch(touch_id=f"x{number}", user=f"ann{number}", send_us=at) for number in range(300)]
    space.outbox.load("r", 1, [(task, rows)], at)
    wishes = [
        Reservation(touch_id=each.touch_id, user=each.user, channel="email", at=world.AT,
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
    world.run(space)
    (report,) = [each for each in outbox_report(space)["tasks"] if each["task"] == "many"]
    assert report["touches"]["cancelled"] >= 300 - 3 * 64, (
        "three leases of the first size may be on their way"
    )
    assert report["touches"]["cancelled"] + report["touches"]["accepted"] == 300


def test_waves_go_out_at_their_own_times_in_a_replay(world: Any, hook: Any) -> None:
    clock = ReplayClock(world.AT - timedelta(hours=5))
    space = world.make(hook.provider())
    object.__setattr__(space, "clock", clock)
    dispatcher = Dispatcher(space, say=lambda _: None, pass_time=clock.pass_time)
    asyncio.run(dispatcher.run(until_empty=True))
    assert world.states() == dict.fromkeys(world.NAMES, "accepted")
    assert world.AT <= clock.now() < world.AT + timedelta(minutes=15)


def test_beside_a_server_touches_go_out_by_themselves(world: Any, hook: Any) -> None:
    came = threading.Event()

    def answer(_: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        if len(hook.got) == 3:
            came.set()
        return 200, {}, b""

    hook.answer = answer
    space = world.make(hook.provider())
    with dispatching(space):
        assert came.wait(60)
    assert world.states() == dict.fromkeys(world.NAMES, "accepted")
