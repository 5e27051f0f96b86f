"""When, on a day and on the user's own wall, a touchpoint may speak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from kernel.contact import MessageClass, QuietHours
from kernel.work import Touchpoint

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class OpenHour:
    """An hour of the wall clock in which something may be sent."""

    #: 0 … 23
    hour: int
    #: its first instant, in UTC; where the clock is set back, of the first of the two
    starts: datetime
    #: such as `-04:00`, for people
    offset: str


@dataclass(frozen=True, kw_only=True)
class Closed:
    """Why no hour of the day is open."""

    rule: str
    reason: str


def is_quiet(hour: int, quiet: QuietHours) -> bool:
    """Whether the hour of the user's day is among the quiet ones, which may wrap around midnight."""
    if quiet.start < quiet.end:
        return quiet.start <= hour < quiet.end
    return hour >= quiet.start or hour < quiet.end


def quiet_for(
    channel: str, message_class: MessageClass, quiet_hours: Sequence[QuietHours]
) -> list[QuietHours]:
    """The quiet hours that bind such a message; none bind a transactional one."""
    if message_class is MessageClass.TRANSACTIONAL:
        return []
    return [quiet for quiet in quiet_hours if quiet.channels is None or channel in quiet.channels]


def open_hours(
    touchpoint: Touchpoint, quiet_hours: Sequence[QuietHours], day: date, zone: ZoneInfo
) -> tuple[OpenHour, ...] | Closed:
    """The touchpoint's hours of `day` in `zone` that are not quiet, or why there is none.

    An hour that the zone skips or cuts short on that day (clocks set forward) is not used.
    """
    low, high = touchpoint.hours
    loud = [hour for hour in range(low, high) if not any(is_quiet(hour, each) for each in quiet_hours)]
    if not loud:
        covering = [each for each in quiet_hours if any(is_quiet(hour, each) for hour in range(low, high))]
        names = " and ".join(repr(each.name) for each in covering)
        return Closed(
            rule=covering[0].name,
            reason=f"quiet hours {names} cover all of {low}:00 to {high}:00, in which {touchpoint.name!r} "
            f"may send; refused every day until one of them changes",
        )
    opened = tuple(each for hour in loud if (each := _whole_hour(day, hour, zone)) is not None)
    return opened or Closed(
        rule=touchpoint.name,
        reason=f"the clocks of {zone.key} skip every hour of {day} in which {touchpoint.name!r} may send; "
        f"refused until {day + timedelta(days=1)}",
    )


def hours_left(
    opened: tuple[OpenHour, ...], touchpoint: Touchpoint, day: date, zone: ZoneInfo, earliest: datetime
) -> tuple[OpenHour, ...] | Closed:
    """Those of a day's hours that are not over at `earliest`, or that there is none."""
    left = tuple(each for each in opened if each.starts + 3600 * _SECOND > earliest)
    if left:
        return left
    at = earliest.astimezone(zone)
    return Closed(
        rule=touchpoint.name,
        reason=f"no hour of {day} in which {touchpoint.name!r} may send is left at {at:%Y-%m-%d %H:%M} "
        f"in {zone.key}",
    )


def _whole_hour(day: date, hour: int, zone: ZoneInfo) -> OpenHour | None:
    wall = datetime.combine(day, time(hour), zone)
    last = wall.replace(minute=59, second=59)
    starts, ends = wall.astimezone(UTC), last.astimezone(UTC)
    exists = starts.astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None)
    if not exists or ends - starts != 3599 * _SECOND:
        return None
    return OpenHour(hour=hour, starts=starts, offset=wall.isoformat()[19:])
