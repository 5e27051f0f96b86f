"""When activities are: holidays, and days around a date of each user's own."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import holidays

from kernel.clock import start_of_day
from kernel.errors import BadInput, NotFound
from planner.activities import Activity, Holiday, Period

#: years ahead in which a holiday is looked for
_AHEAD = 3


@lru_cache(maxsize=256)
def public_holidays(country: str, year: int) -> tuple[tuple[date, str], ...]:
    """[(day, name)] in order, in English where the package has it. Raises NotFound for an unknown country."""
    known = holidays.list_supported_countries(include_aliases=True)
    if country not in known:
        raise NotFound("country", country, known, field="holiday.country")
    languages = holidays.country_holidays(country).supported_languages
    spoken = "en_US" if "en_US" in languages else None
    return tuple(sorted(holidays.country_holidays(country, years=year, language=spoken).items()))


def day_of(holiday: Holiday, zone: ZoneInfo) -> date:
    """Its first day on or after `not_before`. Raises NotFound for a name that the country has not."""
    first = holiday.not_before.astimezone(zone).date()
    names = set[str]()
    for year in range(first.year, first.year + _AHEAD):
        for day, name in public_holidays(holiday.country, year):
            names.update(name.split("; "))
            if day >= first and holiday.name.casefold() in name.casefold():
                return day
    raise NotFound("holiday", holiday.name, names, field="holiday.name")


def span(activity: Activity, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """[start, end) of the whole activity, in UTC; for days of users' own, the season in which they lie."""
    when = activity.when
    if when.holiday is not None:
        day = start_of_day(day_of(when.holiday, zone), zone)
        return day - when.lead, day + when.lasts
    if when.start is None or when.end is None:
        raise BadInput("start and end are required", where=f"activity {activity.name}", field="when")
    return when.start, when.end


def own_span(
    activity: Activity, own: date | None, at: datetime, zone: ZoneInfo
) -> tuple[datetime, datetime] | None:
    """[start, end) of the days around a user's own date that hold `at`; None: it is not in any of them.

    29 February is 1 March in other years.
    """
    if own is None:
        return None
    begin, end = span(activity, zone)
    for year in {at.astimezone(zone).year + step for step in (-1, 0, 1)}:
        try:
            day = own.replace(year=year)
        except ValueError:
            day = date(year, 3, 1)
        first = start_of_day(day, zone)
        low, high = max(begin, first - activity.when.lead), min(end, first + activity.when.lasts)
        if low <= at < high:
            return low, high
    return None


def period_key(period: Period, at: datetime, zone: ZoneInfo) -> str:
    """Which day, week (from Monday) or month of the workspace's zone an instant lies in: sorts by time."""
    day = at.astimezone(zone).date()
    if period is Period.DAY:
        return day.isoformat()
    if period is Period.WEEK:
        return (day - timedelta(days=day.weekday())).isoformat()
    return day.isoformat()[:7] if period is Period.MONTH else "all"


def period_end(period: Period, key: str, zone: ZoneInfo) -> datetime | None:
    """First instant after it; None for the whole activity, which ends with the activity."""
    if period is Period.ALL:
        return None
    if period is Period.MONTH:
        year, month = int(key[:4]), int(key[5:7])
        return start_of_day(date(year + month // 12, month % 12 + 1, 1), zone)
    return start_of_day(date.fromisoformat(key) + timedelta(days=7 if period is Period.WEEK else 1), zone)
