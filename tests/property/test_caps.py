"""Whatever is assigned, capped, quiet or already planned: no promise is broken and nobody is dropped."""

from __future__ import annotations

import tempfile
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.clock import parse_window
from kernel.contact import Cap, MessageClass, QuietHours
from kernel.exposure import Reservation
from kernel.work import Touchpoint
from storage.exposures_lmdb import LmdbLedger
from storage.online_lmdb import LmdbOnlineStore
from touchpoint.api import plan_touches, verify_touches

USERS, CHANNELS = range(4), ("sms", "mail")
NEW_YORK = ZoneInfo("America/New_York")
ZONES = ("America/New_York", "Asia/Shanghai", "Australia/Lord_Howe", "America/Sao_Paulo", "UTC")
#: days on which clocks of those zones change, and one on which none does
DAYS = (date(2017, 11, 5), date(2017, 3, 12), date(2017, 10, 1), date(2017, 10, 15), date(2017, 6, 1))
HOLD = 60 * 86_400 * 1_000_000
WINDOWS = ("1h", "1d", "23h", "36h", "7d")

hour = st.integers(0, 23)
spans = st.tuples(hour, st.integers(1, 24)).map(lambda pair: (min(pair[0], pair[1] - 1), pair[1]))
quiets = st.lists(
    st.tuples(hour, hour, st.sampled_from([None, ("sms",), CHANNELS])).filter(lambda q: q[0] != q[1]),
    max_size=2,
).map(
    lambda each: [
        QuietHours(name=f"q{i}", start=s, end=e, channels=channels) for i, (s, e, channels) in enumerate(each)
    ]
)
caps_of = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([*WINDOWS, "day", "week", "month"]),
        st.sampled_from([None, *CHANNELS]),
        st.sampled_from(["user", "user", "household"]),
        st.sampled_from([("marketing",), ("marketing", "service")]),
    ),
    max_size=3,
).map(
    lambda each: [
        Cap(
            name=f"c{i}",
            at_most=n,
            channel=c,
            by=by,
            classes=tuple(MessageClass(k) for k in classes),
            **{"within" if w in WINDOWS else "per": w},
        )
        for i, (n, w, c, by, classes) in enumerate(each)
    ]
)
tables = st.lists(
    st.tuples(
        st.sampled_from(USERS),
        st.sampled_from("abc"),
        st.sampled_from(CHANNELS),
        st.sampled_from(MessageClass),
    ),
    max_size=12,
    unique_by=lambda row: row[:2],
)


@st.composite
def priors(draw: st.DrawFn, day: date) -> list[tuple[int, str, datetime]]:
    """Touches around the day, often exactly a window from a whole hour of it."""
    found = []
    for _ in range(draw(st.integers(0, 8))):
        start = datetime.combine(day, time(draw(hour)), UTC)
        away = draw(st.sampled_from([timedelta(0), *(parse_window(window) for window in WINDOWS)]))
        nudge = timedelta(microseconds=draw(st.integers(-1, 1)), minutes=draw(st.integers(0, 59)))
        sign = draw(st.sampled_from([1, -1]))
        found.append(
            (draw(st.sampled_from(USERS)), draw(st.sampled_from(CHANNELS)), start + sign * away + nudge)
        )
    return found


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_every_promise_holds_and_nobody_is_dropped(data: st.DataObject) -> None:
    day, rows = data.draw(st.sampled_from(DAYS)), data.draw(tables)
    caps, quiet_hours = data.draw(caps_of), data.draw(quiets)
    touchpoints = [
        Touchpoint(name=f"{c}_main", channel=c, cost_per_touch=0, hours=data.draw(spans)) for c in CHANNELS
    ]
    assignments = pl.DataFrame(
        [(u, t, "g", "b", f"{c}_main", c, "words", str(k)) for u, t, c, k in rows],
        schema={
            "user": pl.Int64,
            **dict.fromkeys(
                ("task", "goal", "benefit", "touchpoint", "channel", "content", "message_class"), pl.String
            ),
        },
        orient="row",
    )
    users = pl.Series("user", list(USERS))
    # the first two are one household, and live at one place
    drawn = [data.draw(st.sampled_from(ZONES)) for _ in USERS]
    zones = pl.DataFrame([users, pl.Series("timezone", [drawn[1], *drawn[1:]])])
    home = {0: {"household": "h"}, 1: {"household": "h"}, 2: {"household": "g"}}
    entities = {"household": pl.DataFrame({"user": [0, 1, 2], "entity": ["h", "h", "g"]})}
    habits = pl.DataFrame(
        [users, pl.Series("hour", [data.draw(st.none() | hour) for _ in USERS], dtype=pl.Int64)]
    )
    allowed = [data.draw(st.sampled_from([True, True, False])) for _ in USERS]
    consent = pl.DataFrame([users, pl.Series("channel", ["sms"] * 4), pl.Series("allowed", allowed)])
    with tempfile.TemporaryDirectory() as folder:
        store = LmdbOnlineStore(Path(folder) / "online", keep=HOLD, hold=HOLD, idle=HOLD)
        store.ready()
        ledger = LmdbLedger(store, Path(folder) / "ledger")
        ledger.reserve_many(
            [
                Reservation(
                    touch_id=f"{i + 100:016x}",
                    user=str(user),
                    channel=channel,
                    at=at,
                    entities=home.get(user, {}),
                )
                for i, (user, channel, at) in enumerate(data.draw(priors(day)))
            ],
            caps=[],
        )
        first, again = (
            plan_touches(
                assignments=assignments,
                touchpoints=touchpoints,
                caps=caps,
                quiet_hours=quiet_hours,
                consent=consent,
                zones=zones,
                default_zone=NEW_YORK,
                habits=habits,
                ledger=ledger,
                plan_date=day,
                run="r",
                seed=1,
                entities=entities,
            )
            for _ in range(2)
        )
        span = datetime.combine(day, time(0), UTC)
        month = timedelta(days=30)
        prior = ledger.held(users=map(str, USERS), since=span - month, until=span + month)
        ledger.close()
        store.close()
    rules = (touchpoints, caps, quiet_hours, consent, zones, NEW_YORK)
    assert verify_touches(first.touches, *rules, prior, entities) == []
    assert first.touches.equals(again.touches)
    assert first.refusals.equals(again.refusals)
    assert set(prior["touch_id"]) - set(first.touches["touch_id"]) <= {f"{i + 100:016x}" for i in range(8)}
    assert set(first.touches["touch_id"]) <= set(prior["touch_id"])
    answered = pl.concat([first.touches.select("user", "task"), first.refusals.select("user", "task")])
    assert sorted(answered.rows()) == sorted((user, task) for user, task, _, _ in rows)
    for touch in first.touches.to_dicts():
        zone = zones.filter(user=touch["user"])["timezone"].item()
        assert touch["send_at"].astimezone(ZoneInfo(zone)).date() == day
