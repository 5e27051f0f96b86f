"""May this touch go out now, later, or not at all?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from kernel.contact import MessageClass, QuietHours
from kernel.delivery import Suppressed
from kernel.work import Touchpoint
from touchpoint.dispatch_rules import GO, Rules, Situation

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = QuietHours(name="night", start=22, end=7)
NOON = QuietHours(name="siesta", channels=("sms",), start=12, end=14)
POINT = Touchpoint(name="app", channel="push", cost_per_touch=0.0, hours=(8, 21))


def rules(*quiet: QuietHours, late: Any = "wait", points: tuple[Touchpoint, ...] = (POINT,)) -> Rules:
    return Rules(quiet_hours=quiet or (NIGHT, NOON), touchpoints=points, late={"push": late, "sms": late})


def case(at: datetime, **changes: Any) -> Situation:
    said: dict[str, Any] = {
        "channel": "push", "message_class": MessageClass.MARKETING, "send_at": at,
        "expires_at": at + timedelta(days=1), "zone": BERLIN, "forgotten": False, "consent": None,
        "suppressed": (), "reserved": True, "reachable": True,
    }  # fmt: skip
    return Situation(**{**said, **changes})


def berlin(day: int, hour: int, minute: int = 0, month: int = 6) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=BERLIN).astimezone(UTC)


def test_in_open_hours_it_goes() -> None:
    at = berlin(1, 12)
    assert rules().judge("app", case(at), at) == GO


@pytest.mark.parametrize(
    ("now", "rule", "until"),
    [
        (berlin(1, 22, 30), "night", berlin(2, 8)),
        (berlin(1, 6, 59), "night", berlin(1, 8)),
        (berlin(1, 7, 15), "app", berlin(1, 8)),
        (berlin(1, 21), "app", berlin(2, 8)),
    ],
)
def test_otherwise_it_waits_for_the_next_hour_that_is_allowed(
    now: datetime, rule: str, until: datetime
) -> None:
    verdict = rules().judge("app", case(now - timedelta(hours=2)), now)
    assert (verdict.what, verdict.rule, verdict.until) == ("wait", rule, until)
    assert until.astimezone(BERLIN).isoformat(sep=" ", timespec="minutes") in verdict.reason


def test_the_hours_are_those_of_her_own_wall_also_when_clocks_change() -> None:
    # on 29 March 2026 Berlin's clocks go from 2:00 to 3:00
    before = datetime(2026, 3, 28, 22, 30, tzinfo=BERLIN).astimezone(UTC)
    verdict = rules().judge("app", case(before), before)
    assert verdict.until == datetime(2026, 3, 29, 6, 0, tzinfo=UTC), "eight by the new clock"
    # on 25 October they go from 3:00 back to 2:00
    before = datetime(2026, 10, 24, 22, 30, tzinfo=BERLIN).astimezone(UTC)
    assert rules().judge("app", case(before), before).until == datetime(2026, 10, 25, 7, 0, tzinfo=UTC)
    half = case(before, zone=ZoneInfo("Australia/Lord_Howe"))
    found = rules().judge("app", half, datetime(2026, 10, 3, 12, 30, tzinfo=UTC))
    assert found.until is not None
    assert found.until.astimezone(half.zone).hour == 8


def test_quiet_hours_bind_their_channels_and_every_class_but_transactional() -> None:
    noon = berlin(1, 12)
    hook = case(noon, channel="sms")
    assert rules().judge("app", hook, noon).rule == "siesta"
    assert (
        rules().judge("app", case(noon, channel="sms", message_class=MessageClass.SERVICE), noon).rule
        == "siesta"
    )
    assert rules().judge("app", case(noon), noon) == GO
    bill = case(noon, channel="sms", message_class=MessageClass.TRANSACTIONAL)
    assert rules().judge("app", bill, noon) == GO


def test_what_would_wait_too_long_is_refused_and_says_until_when() -> None:
    night = berlin(1, 23)
    short = case(night, expires_at=night + timedelta(hours=2))
    verdict = rules().judge("app", short, night)
    assert (verdict.what, verdict.rule, verdict.until) == ("refuse", "night", berlin(2, 8))
    at_once = rules(late="expire").judge("app", case(night), night)
    assert (at_once.what, at_once.rule) == ("refuse", "night")


def test_hours_that_never_open_refuse() -> None:
    always = (QuietHours(name="a", start=0, end=12), QuietHours(name="b", start=12, end=0))
    at = berlin(1, 3)
    verdict = rules(*always).judge("app", case(at), at)
    assert (verdict.what, verdict.rule) == ("refuse", "a")
    assert "no hour" in verdict.reason


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"forgotten": True, "consent": False}, "forgotten"),
        ({"consent": False}, "consent"),
        ({"suppressed": [("", Suppressed.MANUAL)]}, "suppressed"),
        ({"suppressed": [("push", Suppressed.UNSUBSCRIBED)]}, "suppressed"),
        ({"reachable": False}, "address"),
        ({"reserved": False}, "reservation"),
        ({"expires_at": berlin(1, 11)}, "expired"),
    ],
)
def test_each_promise_refuses_by_its_name(changes: dict[str, Any], rule: str) -> None:
    at = berlin(1, 12)
    verdict = rules().judge("app", case(at, **changes), at)
    assert (verdict.what, verdict.rule) == ("refuse", rule)
    assert verdict.reason


def test_what_is_suppressed_elsewhere_or_does_not_bind_the_class_lets_it_go() -> None:
    at = berlin(1, 12)
    elsewhere = case(at, suppressed=[("sms", Suppressed.COMPLAINED)])
    assert rules().judge("app", elsewhere, at) == GO
    bill = MessageClass.TRANSACTIONAL
    left = case(at, suppressed=[("", Suppressed.UNSUBSCRIBED)], message_class=bill)
    assert rules().judge("app", left, at) == GO
    bounced = case(at, suppressed=[("", Suppressed.HARD_BOUNCE)], message_class=bill)
    assert rules().judge("app", bounced, at).rule == "suppressed", "it cannot arrive"
    assert rules().judge("app", case(at, consent=False, message_class=bill), at).rule == "consent"


def test_what_was_open_a_moment_ago_is_judged_anew() -> None:
    asked, noon, night = rules(), berlin(1, 12), berlin(1, 23)
    assert asked.judge("app", case(noon), noon) == GO
    assert asked.judge("app", case(noon), night).what == "wait"
    assert asked.judge("app", case(noon), noon) == GO
