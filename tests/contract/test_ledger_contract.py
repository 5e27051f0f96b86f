"""What every exposure ledger promises. Another database is one more line in `URLS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from sqlalchemy import Engine, create_engine, event

from kernel.contact import Cap, MessageClass
from kernel.errors import BadInput, Stale, Unavailable
from kernel.exposure import ALREADY_SENT, Reservation
from storage.database import _durable_sqlite
from storage.ledger import SqlLedger
from storage.tables import metadata
from touchpoint.api import Ledger

#: name → URL of an empty database for a test, given its folder
URLS: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: f"sqlite:///{folder / 'ledger.db'}",
}
NOON = datetime(2017, 10, 16, 12, tzinfo=UTC)
DAY = timedelta(days=1)
DAILY = Cap(name="daily", at_most=1, within="1d")


class Hand:
    """A clock that the test moves."""

    at = NOON

    def now(self) -> datetime:
        return self.at


@pytest.fixture(params=URLS)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(URLS[request.param](tmp_path))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _durable_sqlite)
    metadata.create_all(engine)
    yield engine
    metadata.drop_all(engine)
    engine.dispose()


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def ledger(engine: Engine, clock: Hand) -> Ledger:
    return SqlLedger(engine, clock)


def wish(touch_id: str, at: datetime = NOON, user: str = "u", plan: str | None = None) -> Reservation:
    return Reservation(touch_id=touch_id, user=user, channel="sms", at=at, run="r", plan=plan)


def held(ledger: Ledger) -> dict[str, str]:
    frame = ledger.held(since=NOON - 400 * DAY, until=NOON + 400 * DAY)
    return dict(frame.select("touch_id", "state").iter_rows())


def test_a_granted_reservation_counts_at_once(ledger: Ledger) -> None:
    assert ledger.reserve(wish("a"), caps=[DAILY]) is None
    refusal = ledger.reserve(wish("b", NOON + timedelta(hours=1)), caps=[DAILY])
    assert refusal is not None
    assert (refusal.rule, refusal.until) == ("daily", NOON + DAY)
    assert held(ledger) == {"a": "reserved"}
    assert ledger.reserve(wish("c", user="someone else"), caps=[DAILY]) is None


def test_reserving_again_counts_once(ledger: Ledger) -> None:
    two = [DAILY.model_copy(update={"at_most": 2})]
    assert [ledger.reserve(wish("a"), caps=two) for _ in range(3)] == [None] * 3
    assert ledger.reserve(wish("b"), caps=two) is None
    assert ledger.reserve(wish("c"), caps=two) is not None


def test_windows_are_half_open(ledger: Ledger) -> None:
    ledger.reserve(wish("a"), caps=[DAILY])
    assert ledger.reserve(wish("b", NOON + DAY - timedelta(microseconds=1)), caps=[DAILY]) is not None
    assert ledger.reserve(wish("b", NOON + DAY), caps=[DAILY]) is None


def test_released_and_expired_reservations_count_no_more(ledger: Ledger, clock: Hand) -> None:
    ledger.reserve(wish("a"), caps=[DAILY])
    ledger.release(["a"])
    ledger.release(["a"])
    assert ledger.reserve(wish("b"), caps=[DAILY], expires_at=NOON + timedelta(minutes=5)) is None
    clock.at = NOON + timedelta(minutes=5) - timedelta(microseconds=1)
    assert ledger.reserve(wish("c"), caps=[DAILY]) is not None
    clock.at = NOON + timedelta(minutes=5)
    assert held(ledger) == {}
    assert ledger.reserve(wish("c"), caps=[DAILY]) is None
    with pytest.raises(Stale, match="touch b has expired"):
        ledger.confirm(["b"])


def test_a_confirmed_touch_counts_for_ever(ledger: Ledger, clock: Hand) -> None:
    ledger.reserve(wish("a"), caps=[DAILY], expires_at=NOON + timedelta(minutes=5))
    ledger.confirm(["a"])
    ledger.confirm(["a"])
    clock.at = NOON + DAY
    assert ledger.reserve(wish("b"), caps=[DAILY]) is not None
    with pytest.raises(Stale, match="touch a is confirmed"):
        ledger.release(["a"])
    assert ledger.reserve(wish("a"), caps=[DAILY]) is None
    again = ledger.reserve(wish("a", NOON + 3 * DAY), caps=[DAILY])
    assert again is not None
    assert again.rule == ALREADY_SENT
    assert held(ledger) == {"a": "confirmed"}


def test_settling_is_all_or_none(ledger: Ledger) -> None:
    ledger.reserve(wish("a"), caps=[])
    with pytest.raises(BadInput, match="'zz': was never reserved"):
        ledger.confirm(["a", "zz"])
    assert held(ledger) == {"a": "reserved"}
    with pytest.raises(BadInput, match="list of ids"):
        ledger.confirm("a")


def test_a_batch_is_admitted_in_order_of_time(ledger: Ledger) -> None:
    late, early = wish("a", NOON + timedelta(hours=2)), wish("b", NOON)
    assert list(ledger.reserve_many([late, early], caps=[DAILY])) == ["a"]
    with pytest.raises(BadInput, match="given twice"):
        ledger.reserve_many([early, early], caps=[])
    with pytest.raises(BadInput, match="belongs to another user"):
        ledger.reserve(wish("b", user="v"), caps=[])


def test_a_plan_replaces_what_it_had_reserved_and_nothing_else(ledger: Ledger) -> None:
    first = [wish("a", plan="p"), wish("b", user="v", plan="p"), wish("sent", user="w", plan="p")]
    assert ledger.reserve_many(first, caps=[DAILY], replaces="p") == {}
    ledger.reserve(wish("other", user="x", plan="q"), caps=[DAILY])
    ledger.confirm(["sent"])
    assert ledger.reserve_many([wish("c", plan="p")], caps=[DAILY], replaces="p") == {}
    assert held(ledger) == {"c": "reserved", "other": "reserved", "sent": "confirmed"}


def test_a_reservation_moves_if_the_new_time_fits_and_falls_if_not(ledger: Ledger) -> None:
    ledger.reserve(wish("a"), caps=[DAILY])
    assert ledger.reserve(wish("a", NOON + timedelta(hours=1)), caps=[DAILY]) is None
    ledger.reserve(wish("b", NOON + 3 * DAY), caps=[DAILY])
    assert ledger.reserve(wish("a", NOON + 3 * DAY), caps=[DAILY]) is not None
    assert held(ledger) == {"b": "reserved"}


def test_held_tells_what_counts_in_a_half_open_span(ledger: Ledger) -> None:
    ledger.reserve_many([wish("a"), wish("b", NOON + DAY), wish("c", NOON + DAY, "v")], caps=[])
    span = ledger.held(since=NOON, until=NOON + DAY, users=["u"])
    assert span.rows() == [("b", "u", "sms", "marketing", NOON + DAY, "reserved")]
    assert span.schema["at"] == pl.Datetime("us", "UTC")


def test_transactional_messages_are_held_and_never_refused(ledger: Ledger) -> None:
    none = DAILY.model_copy(update={"at_most": 0})
    receipt = Reservation(
        touch_id="r", user="u", channel="sms", at=NOON, message_class=MessageClass.TRANSACTIONAL
    )
    assert ledger.reserve(receipt, caps=[none]) is None
    assert ledger.reserve(wish("a"), caps=[none]) is not None
    assert ledger.reserve(wish("a"), caps=[DAILY]) is None


def test_an_expiry_in_the_past_is_refused(ledger: Ledger) -> None:
    with pytest.raises(BadInput, match="expires_at"):
        ledger.reserve(wish("a"), caps=[], expires_at=NOON)


def test_an_outage_fails_closed(engine: Engine, ledger: Ledger) -> None:
    ledger.reserve(wish("a"), caps=[DAILY])
    metadata.drop_all(engine)
    calls: list[Callable[[], object]] = [
        lambda: ledger.reserve(wish("b"), caps=[DAILY]),
        lambda: ledger.reserve_many([wish("b")], caps=[DAILY], replaces="p"),
        lambda: ledger.confirm(["a"]),
        lambda: ledger.release(["a"]),
        lambda: ledger.held(since=NOON, until=NOON),
    ]
    for call in calls:
        with pytest.raises(Unavailable, match="ledger does not answer"):
            call()


def test_no_user_exceeds_a_cap_under_eight_threads(ledger: Ledger) -> None:
    three, users = [DAILY.model_copy(update={"at_most": 3})], [f"u{i}" for i in range(200)]

    def storm(thread: int) -> int:
        granted = 0
        for turn in range(0, len(users), 20):
            wishes = [
                wish(f"{thread}-{user}", NOON + timedelta(minutes=thread), user)
                for user in users[turn : turn + 20]
            ]
            granted += len(wishes) - len(ledger.reserve_many(wishes, caps=three))
            granted += ledger.reserve(wish(f"{thread}+{users[turn]}", NOON, users[turn]), caps=three) is None
        return granted

    with ThreadPoolExecutor(8) as pool:
        granted = sum(pool.map(storm, range(8)))
    assert granted == 600
    counts = ledger.held(since=NOON - DAY, until=NOON + DAY).group_by("user").len()
    assert counts["len"].to_list() == [3] * 200


def test_the_longest_window_is_looked_back_over_in_full(ledger: Ledger) -> None:
    hourly, weekly = Cap(name="hourly", at_most=1, within="1h"), Cap(name="weekly", at_most=1, within="7d")
    ledger.reserve(wish("a"), caps=[])
    refusal = ledger.reserve(wish("b", NOON + 5 * DAY), caps=[hourly, weekly])
    assert refusal is not None
    assert (refusal.rule, refusal.until) == ("weekly", NOON + 7 * DAY)


def test_a_sent_touch_that_may_not_move_still_counts_against_the_others(ledger: Ledger) -> None:
    ledger.reserve(wish("a"), caps=[])
    ledger.confirm(["a"])
    again = [wish("a", NOON + timedelta(hours=1)), wish("b", NOON + timedelta(hours=2))]
    refused = ledger.reserve_many(again, caps=[DAILY])
    assert {key: each.rule for key, each in refused.items()} == {"a": ALREADY_SENT, "b": "daily"}
