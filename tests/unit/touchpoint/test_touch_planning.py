"""Planned touches: who, when, and every refusal with its rule and an end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from kernel.contact import Cap, QuietHours
from kernel.errors import BadInput, NotFound
from kernel.exposure import Reservation
from kernel.ids import short_id
from kernel.work import Touchpoint
from storage.exposures_lmdb import LmdbLedger
from storage.online_lmdb import LmdbOnlineStore
from touchpoint.api import TouchPlan, plan_touches, verify_touches

DAY = date(2017, 10, 16)
HOLD = 31 * 86_400 * 1_000_000
NEW_YORK = ZoneInfo("America/New_York")
SMS = Touchpoint(name="sms_main", channel="sms", cost_per_touch=0.05, hours=(9, 20))
MAIL = Touchpoint(name="mail_main", channel="mail", cost_per_touch=0.5, hours=(6, 23))
NIGHT = QuietHours(name="night", start=21, end=8)
DAILY = Cap(name="daily", at_most=1, within="1d")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[LmdbLedger]:
    store = LmdbOnlineStore(tmp_path / "online", keep=HOLD, hold=HOLD, idle=HOLD)
    store.ready()
    ledger = LmdbLedger(store, tmp_path / "ledger")
    yield ledger
    ledger.close()
    store.close()


def assigned(*rows: tuple[object, str, Touchpoint]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "user": user,
                "task": task,
                "goal": "retain",
                "benefit": "five_off",
                "touchpoint": touchpoint.name,
                "channel": touchpoint.channel,
                "content": "words",
                "value": 1.5,
            }
            for user, task, touchpoint in rows
        ]
    )


def plan(ledger: LmdbLedger, assignments: pl.DataFrame, **changed: Any) -> TouchPlan:
    given: dict[str, Any] = {
        "touchpoints": [SMS, MAIL],
        "caps": [],
        "quiet_hours": [],
        "consent": None,
        "zones": None,
        "default_zone": NEW_YORK,
        "habits": None,
        "plan_date": DAY,
        "run": "r",
        "seed": 7,
    }
    return plan_touches(assignments=assignments, ledger=ledger, **(given | changed))


def reason(found: TouchPlan) -> tuple[str, str]:
    (row,) = found.refusals.to_dicts()
    return row["rule"], row["reason"]


def test_a_touch_says_when_on_both_clocks(ledger: LmdbLedger) -> None:
    found = plan(ledger, assigned((42, "t", SMS)))
    (touch,) = found.touches.to_dicts()
    assert touch["touch_id"] == short_id(DAY, 42, "t")
    assert touch["user"] == 42
    assert touch["message_class"] == "marketing"
    local = touch["send_at"].astimezone(NEW_YORK)
    assert touch["local_time"] == local.isoformat()
    assert local.date() == DAY
    assert 9 <= local.hour < 20
    assert found.refusals.is_empty()


def test_each_user_is_reached_on_the_own_wall(ledger: LmdbLedger) -> None:
    zones = pl.DataFrame({"user": [1, 2], "timezone": ["Asia/Shanghai", None]})
    habits = pl.DataFrame({"user": [1, 2, 3], "hour": [10, 10, 3]})
    found = plan(ledger, assigned((1, "t", SMS), (2, "t", SMS), (3, "t", SMS)), zones=zones, habits=habits)
    at = {row["user"]: row for row in found.touches.to_dicts()}
    assert at[1]["local_time"].startswith("2017-10-16T10:")
    assert at[1]["local_time"].endswith("+08:00")
    assert at[1]["send_at"].hour == 2
    assert at[2]["send_at"].hour == 14
    assert 9 <= at[3]["send_at"].astimezone(NEW_YORK).hour < 20  # the habit is outside the hours


def test_a_wave_and_not_a_spike(ledger: LmdbLedger) -> None:
    found = plan(ledger, assigned(*((i, "t", SMS) for i in range(2200))))
    hours = found.touches["send_at"].dt.convert_time_zone("America/New_York").dt.hour()
    sizes = hours.value_counts()["count"]
    assert sizes.len() == 11
    assert min(sizes) > 150
    assert max(sizes) < 250
    habits = pl.DataFrame({"user": range(2200), "hour": [12] * 2200})
    focused = plan(ledger, assigned(*((i, "t", SMS) for i in range(2200))), habits=habits)
    minutes = focused.touches["send_at"].dt.minute().value_counts()["count"]
    assert minutes.len() == 60


def test_the_same_time_each_day_so_a_daily_cap_is_not_in_its_own_way(ledger: LmdbLedger) -> None:
    users = assigned(*((i, "t", SMS) for i in range(50)))
    assert plan(ledger, users, caps=[DAILY]).touches.height == 50
    assert plan(ledger, users, caps=[DAILY], plan_date=DAY + timedelta(days=1)).touches.height == 50


def test_touches_of_one_user_are_spread_over_the_hours(ledger: LmdbLedger) -> None:
    found = plan(ledger, assigned((1, "a", SMS), (1, "b", SMS)))
    first, second = found.touches["send_at"]
    assert abs((second - first) - timedelta(hours=5.5)) < timedelta(seconds=2)


def test_planning_twice_reserves_once_and_says_the_same(ledger: LmdbLedger) -> None:
    users = assigned(*((i % 30, f"t{i // 30}", SMS) for i in range(90)))
    first, again = (plan(ledger, users, caps=[DAILY]) for _ in range(2))
    assert first.touches.height == 30
    assert first.touches.equals(again.touches)
    assert first.refusals.equals(again.refusals)
    held = ledger.held(
        users=map(str, range(100)),
        since=datetime(2017, 1, 1, tzinfo=UTC),
        until=datetime(2018, 1, 1, tzinfo=UTC),
    )
    assert set(held["touch_id"]) == set(first.touches["touch_id"])


def test_another_plan_of_the_day_takes_the_place_of_the_first(ledger: LmdbLedger) -> None:
    plan(ledger, assigned((1, "a", SMS)), caps=[DAILY])
    found = plan(ledger, assigned((1, "b", SMS)), caps=[DAILY], run="another")
    assert found.touches["task"].to_list() == ["b"]


def test_what_was_sent_is_not_sent_again_at_another_time(ledger: LmdbLedger) -> None:
    users = assigned((1, "a", SMS))
    ledger.confirm(plan(ledger, users).touches["touch_id"].to_list())
    assert plan(ledger, users).touches.height == 1
    moved = plan(ledger, users, habits=pl.DataFrame({"user": [1], "hour": [9]}), seed=8)
    assert moved.touches.is_empty()
    assert reason(moved)[0] == "already_sent"


def test_a_cap_refuses_until_an_instant(ledger: LmdbLedger) -> None:
    noon = datetime(2017, 10, 15, 16, tzinfo=UTC)
    ledger.reserve(Reservation(touch_id="old", user="1", channel="mail", at=noon), caps=[])
    weekly = Cap(name="weekly", label="The weekly cap", at_most=1, within="7d")
    assert reason(plan(ledger, assigned((1, "t", SMS)), caps=[weekly])) == (
        "weekly",
        "The weekly cap allows 1 touches in 7d; refused until 2017-10-22 12:00:00-04:00",
    )
    by_sms = weekly.model_copy(update={"channel": "sms"})
    assert plan(ledger, assigned((1, "t", SMS)), caps=[by_sms]).touches.height == 1
    none = by_sms.model_copy(update={"at_most": 0})
    assert "no sms touches at all" in reason(plan(ledger, assigned((1, "t", SMS)), caps=[none]))[1]


def test_consent_refuses_its_channel_and_unknown_is_not_a_yes(ledger: LmdbLedger) -> None:
    consent = pl.DataFrame(
        {"user": [1, 1, 2], "channel": ["sms", "mail", "sms"], "allowed": [False, True, None]}
    )
    wanted = assigned((1, "t", SMS), (1, "u", MAIL), (2, "t", SMS), (3, "t", SMS))
    found = plan(ledger, wanted, consent=consent)
    assert found.touches.select("user", "channel").sort("user").rows() == [(1, "mail"), (3, "sms")]
    assert found.refusals.select("user", "rule").rows() == [(1, "consent"), (2, "consent")]
    assert found.refusals["reason"][0] == "the user does not allow sms; refused until the user does"


def test_quiet_hours_narrow_the_day_or_refuse_it(ledger: LmdbLedger) -> None:
    found = plan(ledger, assigned(*((i, "t", MAIL) for i in range(300))), quiet_hours=[NIGHT])
    hours = found.touches["send_at"].dt.convert_time_zone("America/New_York").dt.hour().unique()
    assert hours.sort().to_list() == list(range(8, 21))
    late = SMS.model_copy(update={"hours": (21, 24)})
    assert (
        reason(plan(ledger, assigned((1, "t", late)), touchpoints=[late], quiet_hours=[NIGHT]))[0] == "night"
    )


def test_transactional_messages_pass_caps_and_quiet_hours_but_not_consent(ledger: LmdbLedger) -> None:
    late = SMS.model_copy(update={"hours": (21, 24)})
    receipt = assigned((1, "t", late)).with_columns(message_class=pl.lit("transactional"))
    none = DAILY.model_copy(update={"at_most": 0})
    rules: dict[str, Any] = {"touchpoints": [late], "quiet_hours": [NIGHT], "caps": [none]}
    assert plan(ledger, receipt, **rules).touches.height == 1
    consent = pl.DataFrame({"user": [1], "channel": ["sms"], "allowed": [False]})
    assert plan(ledger, receipt, **rules, consent=consent).touches.is_empty()


def test_nobody_assigned_is_an_empty_plan(ledger: LmdbLedger) -> None:
    found = plan(ledger, assigned((1, "t", SMS)).head(0), caps=[DAILY], quiet_hours=[NIGHT])
    assert (found.touches.height, found.refusals.height) == (0, 0)
    assert found.touches.schema["user"] == pl.Int64


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"assignments": assigned((1, "t", SMS)).drop("goal")}, BadInput, "assignments: goal: is a column"),
        ({"assignments": assigned((None, "t", SMS))}, BadInput, "assignments: user: is empty"),
        (
            {"assignments": assigned((1, "t", SMS), (1, "t", SMS))},
            BadInput,
            "task = 't': is assigned to user 1",
        ),
        ({"touchpoints": [MAIL]}, NotFound, "touchpoint = 'sms_main'"),
        ({"touchpoints": [SMS.model_copy(update={"channel": "x"})]}, BadInput, "channel = 'sms'"),
        (
            {"caps": [DAILY.model_copy(update={"classes": ("transactional",)})]},
            BadInput,
            "cap daily: classes",
        ),
        ({"zones": pl.DataFrame({"user": [1], "timezone": ["Mars/North"]})}, BadInput, "zones: timezone"),
        (
            {"zones": pl.DataFrame({"user": [1, 1], "timezone": ["UTC", "Asia/Shanghai"]})},
            BadInput,
            "two things about user 1",
        ),
        ({"habits": pl.DataFrame({"user": [1], "hour": [24]})}, BadInput, "habits: hour = 24"),
        ({"habits": pl.DataFrame({"user": [1], "hour": [9.5]})}, BadInput, "habits: hour"),
        ({"consent": pl.DataFrame({"user": [1], "channel": ["sms"]})}, BadInput, "consent: allowed"),
        (
            {"consent": pl.DataFrame({"user": [1], "channel": ["sms"], "allowed": ["no"]})},
            BadInput,
            "consent: allowed",
        ),
    ],
)
def test_bad_input_is_one_sentence(
    ledger: LmdbLedger, changed: dict[str, Any], error: type[BadInput], said: str
) -> None:
    assignments = changed.pop("assignments", assigned((1, "t", SMS)))
    with pytest.raises(error, match=said):
        plan(ledger, assignments, **changed)


def test_the_verifier_finds_each_broken_promise(ledger: LmdbLedger) -> None:
    found = plan(ledger, assigned((1, "a", MAIL), (2, "a", MAIL))).touches
    consent = pl.DataFrame({"user": [1], "channel": ["mail"], "allowed": [False]})
    night = found.with_columns(
        pl.lit(datetime(2017, 10, 17, 1, 30, tzinfo=UTC)).dt.cast_time_unit("us").alias("send_at")
    )
    night = night.with_columns(local_time=pl.lit("2017-10-16T21:30:00-04:00"))
    prior = pl.DataFrame(
        {
            "touch_id": ["old"],
            "user": ["2"],
            "channel": ["sms"],
            "message_class": ["marketing"],
            "at": [datetime(2017, 10, 17, 20, tzinfo=UTC)],
        }
    )

    def said(touches: pl.DataFrame, **changed: Any) -> str:
        given: dict[str, Any] = {
            "touchpoints": [SMS, MAIL],
            "caps": [],
            "quiet_hours": [],
            "consent": None,
            "zones": None,
            "default_zone": NEW_YORK,
            "prior": None,
        }
        return "; ".join(verify_touches(touches, **(given | changed)))

    assert said(found) == said(night) == ""
    assert "consent for mail is denied" in said(found, consent=consent)
    assert said(night, quiet_hours=[NIGHT]).count("within quiet hours night") == 2
    early = MAIL.model_copy(update={"hours": (6, 21)})
    assert "outside 6:00 to 21:00" in said(night, touchpoints=[early])
    assert "user 2: 2 touches in the 1d" in said(night, caps=[DAILY], prior=prior)
    assert "user 1" not in said(night, caps=[DAILY], prior=prior)
    apart = prior.with_columns(at=night["send_at"].first() - pl.duration(days=1))
    assert said(night, caps=[DAILY], prior=apart) == ""
    nearer = apart.with_columns(pl.col("at") + pl.duration(microseconds=1))
    assert "user 2: 2 touches" in said(night, caps=[DAILY], prior=nearer)
    assert "is said to be" in said(found.with_columns(local_time=pl.lit("2017-10-16T21:30:00-04:00")))
    assert "is there twice" in said(pl.concat([found, found]))
    assert "is not defined" in said(found, touchpoints=[SMS])
    shanghai = pl.DataFrame({"user": [1, 2], "timezone": ["Asia/Shanghai"] * 2})
    assert said(night, zones=shanghai).count("is said to be") == 2
