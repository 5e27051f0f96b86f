"""Cron expressions: `minute hour day-of-month month day-of-week` on the wall clock of a zone.

`*`, `a`, `a-b`, `*/n`, `a-b/n`, lists with commas; months and weekdays also by name, Sunday is 0 or 7. Where
both days are restricted, either fires, as in Vixie cron. A wall time that a change of clocks skips fires as
much later as the clocks were set forward; one that comes twice fires the first time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from kernel.errors import BadInput

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
#: name, lowest, highest, names and the number of the first
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...], int], ...] = (
    ("minute", 0, 59, (), 0),
    ("hour", 0, 23, (), 0),
    ("day of month", 1, 31, (), 0),
    ("month", 1, 12, _MONTHS, 1),
    ("day of week", 0, 7, _DAYS, 0),
)
_SHORT = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}
#: from one 29 February to the next may take eight years
_LONGEST = timedelta(days=8 * 366)
_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Cron:
    """A parsed expression."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    #: 0 is Sunday
    weekdays: frozenset[int]
    #: both days are restricted: either is enough
    either: bool

    def on(self, day: date) -> bool:
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (in_month or in_week if self.either else in_month and in_week)


@lru_cache(maxsize=1024)
def parse_cron(text: str) -> Cron:
    """Raises BadInput naming the part that is wrong, or when it could never fire."""
    parts = _SHORT.get(text.strip(), text).split()
    if len(parts) != len(_FIELDS):
        raise BadInput("is not minute hour day-of-month month day-of-week", field="cron", value=text)
    sets = [
        _values(part, name, low, high, names, first, text)
        for part, (name, low, high, names, first) in zip(parts, _FIELDS, strict=True)
    ]
    cron = Cron(
        minutes=tuple(sorted(sets[0])),
        hours=tuple(sorted(sets[1])),
        days=sets[2],
        months=sets[3],
        weekdays=frozenset(day % 7 for day in sets[4]),
        either=not parts[2].startswith("*") and not parts[4].startswith("*"),
    )
    start = date(2000, 1, 1)
    if not any(cron.on(start + n * _DAY) for n in range(_LONGEST.days)):
        raise BadInput("never comes", field="cron", value=text)
    return cron


def _values(
    part: str, name: str, low: int, high: int, names: tuple[str, ...], first: int, text: str
) -> frozenset[int]:
    found: set[int] = set()
    for each in part.split(","):
        span, slash, step = each.partition("/")
        if slash and not (step.isascii() and step.isdigit() and 0 < int(step) <= high):
            raise BadInput(f"has a {name} with the step {step!r}", field="cron", value=text)
        start, dash, end = span.partition("-")
        if span == "*":
            begin, last = low, high
        else:
            begin = _number(start, name, low, high, names, first, text)
            last = _number(end, name, low, high, names, first, text) if dash else (high if slash else begin)
        if begin > last:
            raise BadInput(f"has a {name} that runs backwards: {each}", field="cron", value=text)
        found.update(range(begin, last + 1, int(step) if slash else 1))
    return frozenset(found)


def _number(each: str, name: str, low: int, high: int, names: tuple[str, ...], first: int, text: str) -> int:
    if each.lower() in names:
        return names.index(each.lower()) + first
    if each.isascii() and each.isdigit() and low <= int(each) <= high:
        return int(each)
    raise BadInput(f"has no {name} {each!r}; it is {low} … {high}", field="cron", value=text)


def fires(cron: Cron, zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[datetime]:
    """Every instant (UTC) in (after, until], the earliest first."""
    last: datetime | None = None
    day, end = _wall(after, zone).date() - _DAY, _wall(until, zone).date() + _DAY
    while day <= end:
        for at in _instants(cron, zone, day) if cron.on(day) else ():
            if after < at <= until and (last is None or at > last):
                last = at
                yield at
        day += _DAY


def last_fire(cron: Cron, zone: ZoneInfo, after: datetime, until: datetime) -> datetime | None:
    """The latest instant (UTC) in (after, until], or None. Looks back from `until`."""
    day = _wall(until, zone).date() + _DAY
    first = max(_wall(after, zone).date(), day - _LONGEST) - _DAY
    while day >= first:
        found = [at for at in _instants(cron, zone, day) if after < at <= until] if cron.on(day) else []
        if found:
            return max(found)
        day -= _DAY
    return None


def _wall(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone)


def _instants(cron: Cron, zone: ZoneInfo, day: date) -> list[datetime]:
    """The instants of one day on the wall, in order. (A skipped wall time reads as if clocks had not been
    set forward yet, which lands as much later.)"""
    walls = (
        datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
        for hour in cron.hours
        for minute in cron.minutes
    )
    return sorted({wall.astimezone(UTC) for wall in walls})
