"""Time as an argument: aware, UTC inside; a user's zone is data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kernel.errors import BadInput

_WINDOW = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: no event is older
_LONGEST = timedelta(days=73_000)


class Clock(Protocol):
    """Anything that tells the time."""

    def now(self) -> datetime: ...


class SystemClock:
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class FixedClock:
    """A clock that stands still, for tests and replays."""

    #: what it shows; aware
    at: datetime

    def now(self) -> datetime:
        return aware(self.at, "at")


def aware(at: datetime, field: str) -> datetime:
    """`at` in UTC. Raises BadInput when it has no zone: a naive time is a guess."""
    if at.tzinfo is None:
        raise BadInput("needs a time zone, such as 2017-10-16T00:00:00Z", field=field, value=at.isoformat())
    return _in_utc(at, field)


def _in_utc(at: datetime, field: str) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise BadInput("is outside the calendar in UTC", field=field, value=at.isoformat()) from None


def micros(at: datetime, field: str = "at") -> int:
    """Whole microseconds since 1970: exact, and in order, on every database. Raises BadInput as `aware`."""
    return (aware(at, field) - _EPOCH) // _MICROSECOND


def instant(at: int) -> datetime:
    """The inverse of `micros`, in UTC."""
    return _EPOCH + at * _MICROSECOND


def parse_window(text: str, field: str = "within") -> timedelta:
    """`90d`, `8w`, `36h`, … as exact time: a day is 24 hours, never a calendar day."""
    match = _WINDOW.fullmatch(str(text))
    if not match:
        raise BadInput("is not a window such as 90d, 8w, 36h, 15m", field=field, value=text)
    window = timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
    if window > _LONGEST:
        raise BadInput("is longer than 200 years", field=field, value=text)
    return window


def parse_date(text: str, field: str = "date") -> date:
    try:
        return date.fromisoformat(str(text))
    except ValueError:
        raise BadInput("is not a date such as 2017-10-16", field=field, value=text) from None


def parse_instant(text: str, zone: ZoneInfo, field: str = "as_of") -> datetime:
    """An ISO date (its first instant in `zone`) or an aware ISO time, in UTC."""
    try:
        if len(text) == 10:
            return start_of_day(date.fromisoformat(text), zone)
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(
            "is not a date or time such as 2017-10-16 or 2017-10-16T08:00:00Z", field=field, value=text
        ) from None
    return aware(at, field)


def parse_zone(name: str, field: str = "timezone") -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadInput("is not an IANA time zone such as America/New_York", field=field, value=name) from None


def start_of_day(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a calendar day in `zone`, in UTC."""
    return _in_utc(datetime.combine(day, time(0), zone), "date")
