"""Instants have a zone, windows are exact, and anything else is said to be wrong."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from kernel.clock import (
    FixedClock,
    SystemClock,
    aware,
    parse_date,
    parse_instant,
    parse_window,
    parse_zone,
    start_of_day,
)
from kernel.errors import BadInput

NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("90d", timedelta(days=90)),
        ("8w", timedelta(weeks=8)),
        ("36h", timedelta(hours=36)),
        ("15m", timedelta(minutes=15)),
        ("1s", timedelta(seconds=1)),
    ],
)
def test_windows(text: str, window: timedelta) -> None:
    assert parse_window(text) == window


@pytest.mark.parametrize(
    "text", ["", "0d", "-1d", "90", "d", "1.5d", "90 d", "1y", "90D", "1234567d", "90d\n"]
)
def test_what_is_no_window_is_named(text: str) -> None:
    with pytest.raises(BadInput, match=r"^age = .*is not a window such as 90d"):
        parse_window(text, "age")


def test_a_date_is_its_first_instant_in_the_zone() -> None:
    assert parse_instant("2017-10-16", UTC_ZONE) == datetime(2017, 10, 16, tzinfo=UTC)
    assert parse_instant("2017-10-16", NEW_YORK) == datetime(2017, 10, 16, 4, tzinfo=UTC)
    assert parse_instant("2017-12-16", NEW_YORK) == datetime(2017, 12, 16, 5, tzinfo=UTC)


UTC_ZONE = ZoneInfo("UTC")


def test_a_time_keeps_its_own_zone() -> None:
    assert parse_instant("2017-10-16T08:00:00Z", NEW_YORK) == datetime(2017, 10, 16, 8, tzinfo=UTC)
    found = parse_instant("2017-10-16T08:00:00+08:00", NEW_YORK)
    assert found == datetime(2017, 10, 16, tzinfo=UTC)
    assert found.tzinfo is UTC


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(BadInput, match=r"as_of = '2017-10-16T08:00:00': needs a time zone"):
        parse_instant("2017-10-16T08:00:00", NEW_YORK)
    with pytest.raises(BadInput, match="needs a time zone"):
        aware(datetime(2017, 1, 1), "at")  # noqa: DTZ001 # what is refused


@pytest.mark.parametrize(
    "text", ["", "today", "2017-13-01", "2017-02-30", "16.10.2017", "2017-10-16T25:00:00Z"]
)
def test_what_is_no_instant_is_named(text: str) -> None:
    with pytest.raises(BadInput, match=r"^as_of = .*is not a date or time such as"):
        parse_instant(text, NEW_YORK)


def test_dates() -> None:
    assert parse_date("2017-10-16") == date(2017, 10, 16)
    with pytest.raises(BadInput, match="date = '2017-02-30': is not a date such as"):
        parse_date("2017-02-30")


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "/etc", "America"])
def test_what_is_no_zone_is_named(name: str) -> None:
    with pytest.raises(BadInput, match="is not an IANA time zone"):
        parse_zone(name)


def test_a_day_begins_when_its_clocks_say() -> None:
    # Brazil's clocks went from midnight straight to one on that day
    lost = start_of_day(date(2017, 10, 15), parse_zone("America/Sao_Paulo"))
    assert lost == datetime(2017, 10, 15, 3, tzinfo=UTC)
    # 25 hours: New York's clocks went back
    long = start_of_day(date(2017, 11, 6), NEW_YORK) - start_of_day(date(2017, 11, 5), NEW_YORK)
    assert long == timedelta(hours=25)


def test_clocks_tell_utc() -> None:
    at = datetime(2017, 1, 1, 8, tzinfo=timezone(timedelta(hours=8)))
    assert FixedClock(at=at).now() == datetime(2017, 1, 1, tzinfo=UTC)
    assert FixedClock(at=at).now().tzinfo is UTC
    with pytest.raises(BadInput):
        FixedClock(at=datetime(2017, 1, 1)).now()  # noqa: DTZ001 # what is refused
    assert SystemClock().now().tzinfo is UTC
