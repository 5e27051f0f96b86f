"""What the outbox, receipts and suppressions promise, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from kernel.clock import instant
from kernel.contact import MessageClass
from kernel.delivery import (
    Failure,
    OutboxTask,
    OutboxTouch,
    Rate,
    ReceiptKind,
    Settled,
    Suppressed,
    TouchState,
)
from kernel.errors import BadInput, NotFound, Stale
from storage.database import Engine
from storage.outbox import SqlOutbox
from storage.outbox_leases import DEAD
from storage.outbox_receipts import NewReceipt, Receipts
from storage.suppress import Suppressions
from storage.tombstones import Tombstones

NOW, SECOND = 1_700_000_000_000_000, 1_000_000
RUN = "2023-11-14"


@pytest.fixture
def engine(database: Engine) -> Iterator[Engine]:
    yield database
    tables = ("touch_receipts", "outbox_touches", "outbox_tasks", "outbox_rates", "outbox_dispatchers")
    with database.begin() as connection:
        for table in (*tables, "suppressions", "suppression_names"):
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608  names of our own


@pytest.fixture
def outbox(engine: Engine, tmp_path: Path) -> SqlOutbox:
    return SqlOutbox(engine, tmp_path / "dispatch")


@pytest.fixture
def book(engine: Engine, tmp_path: Path) -> Suppressions:
    return Suppressions(engine, Tombstones(engine, tmp_path / "secret"))


@pytest.fixture
def receipts(engine: Engine, outbox: SqlOutbox, book: Suppressions) -> Receipts:
    return Receipts(engine, outbox, book)


def task(name: str = "t", channel: str = "email", **changes: Any) -> OutboxTask:
    said = {
        "run": RUN, "task": name, "goal": "g", "benefit": "b", "touchpoint": "p", "channel": channel,
        "content": "c", "message_class": MessageClass.MARKETING,
    }  # fmt: skip
    return OutboxTask(**{**said, **changes})


def touch(number: int, at: int = NOW, task_: str = "t", **changes: Any) -> OutboxTouch:
    said = {"touch_id": f"{task_}{number:04x}", "user": f"u{number}", "send_us": at}
    return OutboxTouch(**{**said, **changes})


def load(outbox: SqlOutbox, *numbers: int, version: int = 1, at: int = NOW, name: str = "t") -> Any:
    several = [touch(number, at, name) for number in numbers]
    return outbox.load(RUN, version, [(task(name), several)], NOW)


def states(outbox: SqlOutbox) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in outbox.tasks():
        for state, count in each["touches"].items():
            found[state] = found.get(state, 0) + count
    return found


def leased(outbox: SqlOutbox, owner: str, limit: int = 100, now: int = NOW, **more: Any) -> list[OutboxTouch]:
    found = outbox.lease(owner, ["email"], limit=limit, now_us=now, limits=more.pop("limits", {}), **more)
    return [each for _, each in found.touches]


@pytest.fixture
def me(outbox: SqlOutbox) -> Iterator[str]:
    dispatcher = outbox.dispatcher()
    dispatcher.join(NOW)
    yield dispatcher.owner
    dispatcher.leave(NOW)


def test_a_run_is_loaded_once_however_often_it_is_loaded(outbox: SqlOutbox) -> None:
    assert (load(outbox, 1, 2).new, load(outbox, 1, 2).new) == (2, 0)
    assert outbox.loaded(RUN) == 1
    assert states(outbox) == {"queued": 2}


def test_a_newer_version_takes_the_place_of_what_waits_and_only_of_that(outbox: SqlOutbox, me: str) -> None:
    load(outbox, 1, 2, 3)
    (first,) = leased(outbox, me, limit=1)
    outbox.settle(me, [Settled(number=first.number, state=TouchState.ACCEPTED)], NOW)
    later = NOW + 60 * SECOND
    assert load(outbox, 2, 4, version=2, at=later).dropped == 1
    rows = {row["user_id"]: row for row in outbox.outcomes(RUN)}
    assert {user: row["state"] for user, row in rows.items()} == {
        "u1": "accepted", "u2": "queued", "u3": "cancelled", "u4": "queued",
    }  # fmt: skip
    assert leased(outbox, me) == []
    assert {each.user for each in leased(outbox, me, now=later)} == {"u2", "u4"}
    # what a version dropped and the next one wants again goes out after all
    load(outbox, 3, version=3, at=later)
    assert {each.user for each in leased(outbox, me, now=later)} == {"u3"}


def test_what_is_not_wholly_loaded_does_not_go_out(outbox: SqlOutbox, me: str) -> None:
    load(outbox, 1)

    clash = [(task(), [touch(1), touch(5, touch_id="t0001")])]
    with pytest.raises(BadInput, match="task = 't'"):
        outbox.load(RUN, 2, clash, NOW)
    assert outbox.loaded(RUN) is None
    assert outbox.interrupted() == [RUN]
    assert leased(outbox, me) == []
    load(outbox, 1, version=2)
    assert (outbox.interrupted(), len(leased(outbox, me))) == ([], 1)


def test_nobody_leases_what_another_has(outbox: SqlOutbox) -> None:
    load(outbox, *range(200))
    several = [outbox.dispatcher() for _ in range(4)]
    for each in several:
        each.join(NOW)

    def take(owner: str) -> list[str]:
        found: list[str] = []
        while some := leased(outbox, owner, limit=7):
            found += [each.touch_id for each in some]
        return found

    with ThreadPoolExecutor(4) as pool:
        taken = [touch_id for part in pool.map(take, [each.owner for each in several]) for touch_id in part]
    assert sorted(taken) == sorted(f"t{number:04x}" for number in range(200))
    for each in several:
        each.leave(NOW)
    assert states(outbox) == {"queued": 200}


def test_leases_of_a_dispatcher_that_was_silent_go_back_and_it_must_join_again(outbox: SqlOutbox) -> None:
    load(outbox, 1, 2)
    silent, other = outbox.dispatcher(), outbox.dispatcher()
    silent.join(NOW)
    first, second = leased(outbox, silent.owner)
    assert outbox.hand(silent.owner, [second.number], NOW) == {second.number}
    other.join(NOW)
    assert leased(outbox, other.owner) == [], "it lives, for its file is locked"
    other.beat(NOW + DEAD + 1)
    assert states(outbox) == {"queued": 1, "in_doubt": 1}
    with pytest.raises(Stale, match="silent"):
        leased(outbox, silent.owner)
    with pytest.raises(Stale, match="silent"):
        silent.beat(NOW)
    assert outbox.hand(silent.owner, [first.number], NOW) == set(), "it may not hand over what it lost"
    outbox.settle(silent.owner, [Settled(number=first.number, state=TouchState.ACCEPTED)], NOW)
    assert states(outbox) == {"queued": 1, "in_doubt": 1}
    assert [what for _, _, what in outbox.owed()] == ["confirm"], "what may have arrived counts"
    for each in (silent, other):
        each.leave(NOW)


def test_rates_hold_for_all_dispatchers_together(outbox: SqlOutbox, me: str) -> None:
    load(outbox, *range(50))
    other = outbox.dispatcher()
    other.join(NOW)
    limits = {
        "email": [Rate(name="channel/email", per_second=10, burst=10), Rate(name="p", per_second=4, burst=4)]
    }
    assert len(leased(outbox, me, limits=limits)) == 4, "the narrower bucket counts"
    assert len(leased(outbox, other.owner, limits=limits)) == 0
    found = outbox.lease(me, ["email"], limit=9, now_us=NOW, limits=limits)
    assert found.next_us is not None
    assert NOW + 0.2 * SECOND < found.next_us <= NOW + 0.3 * SECOND, "and says when there is room again"
    assert len(leased(outbox, other.owner, now=NOW + SECOND, limits=limits)) == 4
    outbox.give_tokens_back({"p": 3})
    assert len(leased(outbox, me, now=NOW + SECOND, limits=limits)) == 3, "what was given back"
    other.leave(NOW)


def test_transactional_goes_first_and_what_is_due_earlier_before_what_is_due_later(
    outbox: SqlOutbox, me: str
) -> None:
    urgent = task("z", message_class=MessageClass.TRANSACTIONAL)
    outbox.load(
        RUN, 1,
        [
            (task("a"), [touch(1, NOW, "a")]), (task("b"), [touch(2, NOW - 5, "b")]),
            (urgent, [touch(3, NOW, "z")]),
        ],
        NOW,
    )  # fmt: skip
    assert [each.user for each in leased(outbox, me)] == ["u3", "u2", "u1"]


def test_paused_waits_resumed_goes_on_cancelled_is_over(outbox: SqlOutbox, me: str) -> None:
    load(outbox, 1, 2, 3)
    (number,) = outbox.find("t")
    outbox.pause(number, NOW)
    assert (leased(outbox, me), outbox.halted()) == ([], frozenset({number}))
    outbox.resume(number, NOW)
    (first,) = leased(outbox, me, limit=1)
    assert outbox.cancel(number, NOW) == 2
    assert states(outbox) == {"leased": 1, "cancelled": 2}
    outbox.settle(me, [Settled(number=first.number, state=TouchState.QUEUED)], NOW)
    assert leased(outbox, me) == []
    with pytest.raises(Stale, match="cancelled"):
        outbox.resume(number, NOW)
    assert states(outbox) == {"cancelled": 3}, "what came back is called off too"
    assert [what for _, _, what in outbox.owed()] == ["release"] * 3
    with pytest.raises(NotFound, match="did you mean"):
        outbox.find("tt")


def test_in_doubt_goes_out_again_only_by_a_persons_word(outbox: SqlOutbox, me: str) -> None:
    load(outbox, 1, 2)
    first, second = leased(outbox, me)
    outbox.settle(
        me,
        [
            Settled(number=first.number, state=TouchState.IN_DOUBT, rule="in_doubt", reason="?"),
            Settled(number=second.number, state=TouchState.FAILED, rule=Failure.ACT_ON_IT, reason="no"),
        ],
        NOW,
    )
    assert leased(outbox, me, now=NOW + 10**12) == []
    (number,) = outbox.find("t")
    assert outbox.send_again(number, NOW) == 1
    assert [each.user for each in leased(outbox, me)] == [first.user]


def test_a_failed_attempt_comes_back_when_it_is_due_and_is_counted(outbox: SqlOutbox, me: str) -> None:
    load(outbox, 1)
    (only,) = leased(outbox, me)
    again = Settled(
        number=only.number, state=TouchState.QUEUED, rule=Failure.RETRIABLE, reason="busy",
        due_us=NOW + 5 * SECOND, attempted=True,
    )  # fmt: skip
    outbox.settle(me, [again], NOW)
    assert leased(outbox, me, now=NOW + 4 * SECOND) == []
    assert [each.attempts for each in leased(outbox, me, now=NOW + 5 * SECOND)] == [1]
    assert [(row["rule"], row["count"]) for row in outbox.reasons()] == [("retriable", 1)]


def test_a_file_gets_the_whole_task_at_once_and_counts_its_parts(outbox: SqlOutbox, me: str) -> None:
    outbox.load(RUN, 1, [(task(), [touch(1, NOW), touch(2, NOW + 10**10)])], NOW)
    found = outbox.lease(me, ["email"], limit=9, now_us=NOW, limits={}, whole=True)
    assert [each.user for _, each in found.touches] == ["u1", "u2"]
    results = [Settled(number=each.number, state=TouchState.ACCEPTED) for _, each in found.touches]
    outbox.settle(me, results, NOW, parts=found.parts + 1, told=True)
    assert outbox.owed() == []
    outbox.load(RUN, 2, [(task(), [touch(1), touch(2), touch(3)])], NOW)
    assert outbox.lease(me, ["email"], limit=9, now_us=NOW, limits={}, whole=True).parts == 1


def sent(outbox: SqlOutbox, me: str, *numbers: int, mark: str = "") -> None:
    load(outbox, *numbers)
    results = [
        Settled(number=each.number, state=TouchState.ACCEPTED, address=mark) for each in leased(outbox, me)
    ]
    outbox.settle(me, results, NOW)


def told(kind: ReceiptKind, number: int = 1, receipt_id: str = "r", **changes: Any) -> NewReceipt:
    said = {
        "receipt_id": receipt_id,
        "touch_id": f"t{number:04x}",
        "kind": kind,
        "hard": False,
        "occurred_us": NOW,
    }
    return NewReceipt(**{**said, **changes})


def test_a_receipt_counts_once(outbox: SqlOutbox, receipts: Receipts, me: str) -> None:
    sent(outbox, me, 1)
    twice = [told(ReceiptKind.OPENED), told(ReceiptKind.OPENED)]
    assert [each.new for each in receipts.take("crm", twice, NOW)] == [True, False]
    assert [each.new for each in receipts.take("crm", twice, NOW)] == [False, False]
    assert [each.new for each in receipts.take("other", twice[:1], NOW)] == [True], (
        "ids are the provider's own"
    )
    assert receipts.counts() == {"email": {"opened": 1}}


def test_receipts_of_unknown_touches_are_refused_and_none_of_them_counts(
    outbox: SqlOutbox, receipts: Receipts, me: str
) -> None:
    sent(outbox, me, 1)
    with pytest.raises(BadInput, match=r"receipts\.1\.touch_id = 't0009'"):
        receipts.take("crm", [told(ReceiptKind.OPENED), told(ReceiptKind.OPENED, 9, "s")], NOW)
    assert receipts.counts() == {}


@pytest.mark.parametrize(
    ("kind", "channel", "cancelled"),
    [
        (ReceiptKind.UNSUBSCRIBED, "email", {"u1 on email"}),
        (ReceiptKind.COMPLAINED, "", {"u1 on email", "u1 on sms"}),
    ],
)
def test_who_unsubscribes_or_complains_is_suppressed_at_once(
    outbox: SqlOutbox, receipts: Receipts, book: Suppressions, me: str, kind: ReceiptKind, channel: str,
    cancelled: set[str],
) -> None:  # fmt: skip
    sent(outbox, me, 1)
    later, bill = NOW + 10**10, task("bill", message_class=MessageClass.TRANSACTIONAL)
    outbox.load(
        "later", 1,
        [
            (task("a", run="later"), [touch(1, later, "a"), touch(2, later, "a")]),
            (task("b", "sms", run="later"), [touch(1, later, "b")]),
            (task("bill", run="later", message_class=bill.message_class), [touch(1, later, "bill")]),
        ],
        NOW,
    )  # fmt: skip
    (taken,) = receipts.take("crm", [told(kind)], NOW)
    assert taken.cancelled == len(cancelled)
    rows = outbox.outcomes("later")
    assert {f"{r['user_id']} on {r['channel']}" for r in rows if r["state"] == "cancelled"} == cancelled
    assert book.binding([book.mark_of_user("u1")]) == {
        book.mark_of_user("u1"): [(channel, Suppressed(str(kind)))]
    }


def test_a_hard_bounce_suppresses_the_address_and_a_soft_one_nothing(
    outbox: SqlOutbox, receipts: Receipts, book: Suppressions, me: str
) -> None:
    mark = book.mark_of_address("Ann@X.example ")
    sent(outbox, me, 1, mark=mark)
    receipts.take("crm", [told(ReceiptKind.BOUNCED)], NOW)
    assert book.binding([mark]) == {}
    receipts.take("crm", [told(ReceiptKind.BOUNCED, receipt_id="s", hard=True)], NOW)
    assert book.binding([book.mark_of_address("ann@x.example")]) == {
        mark: [("email", Suppressed.HARD_BOUNCE)]
    }
    assert book.binding([book.mark_of_user("u1")]) == {}


def test_suppressions_are_listed_lifted_and_outlive_their_names(
    receipts: Receipts, book: Suppressions
) -> None:
    receipts.suppress(user="ann", now_us=NOW)
    receipts.suppress(user="ann", channel="sms", now_us=NOW)
    receipts.suppress(address="ann@x.example", now_us=NOW)
    assert {(each["user_id"], each["address"], each["channel"]) for each in book.newest()} == {
        ("ann", None, None), ("ann", None, "sms"), (None, "ann@x.example", None),
    }  # fmt: skip
    assert book.newest()[0]["since"] == instant(NOW).isoformat()
    assert book.forget(["ann"], ["ann@x.example"]) == 2
    assert {(each["user_id"], each["address"]) for each in book.newest()} == {(None, None)}
    assert book.count() == {"manual": 3}
    assert book.lift("ann", "sms") == 1
    assert book.binding([book.mark_of_user("ann")])[book.mark_of_user("ann")] == [("", Suppressed.MANUAL)]
    assert (book.lift("ann"), book.lift("ann@x.example"), book.count()) == (1, 1, {})


def test_a_reason_that_binds_more_takes_the_place_of_one_that_binds_less(
    receipts: Receipts, book: Suppressions
) -> None:
    mark = book.mark_of_address("a@x.example")
    receipts.suppress(address="a@x.example", channel="email", now_us=NOW)
    receipts.bounced("crm", [(mark, "email", "ann")], NOW)
    receipts.suppress(address="a@x.example", channel="email", now_us=NOW)
    assert book.binding([mark]) == {mark: [("email", Suppressed.HARD_BOUNCE)]}
