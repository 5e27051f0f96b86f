"""Open hours of a day in a zone, on days on which the clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from kernel.contact import MessageClass, QuietHours
from kernel.work import Touchpoint
from touchpoint.timing import Closed, is_quiet, open_hours, quiet_for

NEW_YORK = ZoneInfo("America/New_York")
NIGHT = QuietHours(name="night", start=21, end=8)


def touchpoint(*hours: int) -> Touchpoint:
    return Touchpoint(name="push_app", channel="push", cost_per_touch=0, hours=(hours[0], hours[1]))


@pytest.mark.parametrize(
    ("start", "end", "quiet"),
    [(21, 8, {21, 22, 23, *range(8)}), (13, 15, {13, 14}), (0, 1, {0}), (23, 0, {23})],
)
def test_quiet_hours_wrap_around_midnight(start: int, end: int, quiet: set[int]) -> None:
    rule = QuietHours(name="night", start=start, end=end)
    assert {hour for hour in range(24) if is_quiet(hour, rule)} == quiet


def test_quiet_hours_bind_their_channels_and_never_a_transactional_message() -> None:
    mail = QuietHours(name="mail_night", channels=("mail",), start=20, end=8)
    assert quiet_for("push", MessageClass.MARKETING, [NIGHT, mail]) == [NIGHT]
    assert quiet_for("mail", MessageClass.SERVICE, [NIGHT, mail]) == [NIGHT, mail]
    assert quiet_for("mail", MessageClass.TRANSACTIONAL, [NIGHT, mail]) == []


def test_open_hours_are_those_of_the_touchpoint_that_are_not_quiet() -> None:
    found = open_hours(touchpoint(6, 23), [NIGHT], date(2017, 10, 16), NEW_YORK)
    assert not isinstance(found, Closed)
    assert [each.hour for each in found] == list(range(8, 21))
    assert found[0].starts == datetime(2017, 10, 16, 12, tzinfo=UTC)
    assert found[0].offset == "-04:00"


def test_an_hour_that_the_clock_skips_is_not_used() -> None:
    found = open_hours(touchpoint(0, 24), [], date(2017, 3, 12), NEW_YORK)
    assert not isinstance(found, Closed)
    assert [each.hour for each in found] == [0, 1, *range(3, 24)]


def test_of_an_hour_that_comes_twice_the_first_is_meant() -> None:
    found = open_hours(touchpoint(1, 3), [], date(2017, 11, 5), NEW_YORK)
    assert not isinstance(found, Closed)
    assert [(each.starts.hour, each.offset) for each in found] == [(5, "-04:00"), (7, "-05:00")]


def test_an_hour_that_is_cut_short_is_not_used() -> None:
    found = open_hours(touchpoint(1, 4), [], date(2017, 10, 1), ZoneInfo("Australia/Lord_Howe"))
    assert not isinstance(found, Closed)
    assert [each.hour for each in found] == [1, 3]


def test_a_day_without_an_open_hour_says_why_and_until_when() -> None:
    covered = open_hours(touchpoint(21, 24), [NIGHT], date(2017, 10, 16), NEW_YORK)
    assert isinstance(covered, Closed)
    assert covered.rule == "night"
    assert "refused every day until one of them changes" in covered.reason
    skipped = open_hours(touchpoint(2, 3), [], date(2017, 3, 12), NEW_YORK)
    assert isinstance(skipped, Closed)
    assert skipped.rule == "push_app"
    assert "refused until 2017-03-13" in skipped.reason
