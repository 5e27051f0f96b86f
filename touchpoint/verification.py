"""Whether touches keep every promise, found out another way than they were planned: row by row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from kernel.clock import parse_window
from kernel.contact import Cap, QuietHours
from kernel.work import Touchpoint

_EXEMPT = "transactional"
#: what two instants of one day, week or month have in common on a wall
_CALENDAR = {"day": "%Y-%m-%d", "week": "%G-%V", "month": "%Y-%m"}


def verify_touches(
    touches: pl.DataFrame,
    touchpoints: Sequence[Touchpoint],
    caps: Sequence[Cap],
    quiet_hours: Sequence[QuietHours],
    consent: pl.DataFrame | None,
    zones: pl.DataFrame | None,
    default_zone: ZoneInfo,
    prior: pl.DataFrame | None,
    entities: Mapping[str, pl.DataFrame] | None = None,
) -> list[str]:
    """A sentence for each promise that `touches` break; empty when they keep all.

    `prior`: what counted besides, as the ledger's `held` gives it (touch_id, user, channel,
    message_class, at); rows whose id is among the touches are those touches. `entities`: as planning is given
    them.
    """
    rows = touches.to_dicts()
    zone_names = {} if zones is None else {str(r["user"]): r["timezone"] for r in zones.to_dicts()}
    denied = {
        (str(r["user"]), r["channel"])
        for r in ([] if consent is None else consent.to_dicts())
        if r["allowed"] is not True
    }
    hours = {touchpoint.name: touchpoint.hours for touchpoint in touchpoints}
    found: list[str] = []
    seen: set[str] = set()
    for row in rows:
        who = f"touch {row['touch_id']} of user {row['user']}"
        if row["touch_id"] in seen:
            found.append(f"{who} is there twice")
        seen.add(row["touch_id"])
        if (str(row["user"]), row["channel"]) in denied:
            found.append(f"{who}: consent for {row['channel']} is denied")
        zone = zone_names.get(str(row["user"]))
        local = row["send_at"].astimezone(ZoneInfo(zone) if zone else default_zone)
        found += [f"{who} at {local}: {broken}" for broken in _wrong_hour(row, local, hours, quiet_hours)]
    past = [] if prior is None else [r for r in prior.to_dicts() if r["touch_id"] not in seen]
    for cap in caps:
        whose = _owners(cap, entities)
        found += _over(cap, rows, past, whose, lambda user: zone_names.get(user) or default_zone.key)
    return found


def _owners(cap: Cap, entities: Mapping[str, pl.DataFrame] | None) -> dict[str, str]:
    """User → whose touches the cap counts together with hers."""
    if cap.by == "user" or entities is None:
        return {}
    return {str(row["user"]): f"{cap.by} {row['entity']}" for row in entities[cap.by].to_dicts()}


def _wrong_hour(
    row: dict[str, Any],
    local: datetime,
    hours: dict[str, tuple[int, int]],
    quiet_hours: Sequence[QuietHours],
) -> list[str]:
    broken = []
    if row["touchpoint"] not in hours:
        return [f"touchpoint {row['touchpoint']} is not defined"]
    low, high = hours[row["touchpoint"]]
    if not low <= local.hour < high:
        broken.append(f"outside {low}:00 to {high}:00 of touchpoint {row['touchpoint']}")
    if datetime.fromisoformat(row["local_time"]) != row["send_at"] or row["local_time"] != local.isoformat():
        broken.append(f"its local time is said to be {row['local_time']}")
    for quiet in quiet_hours:
        bound = quiet.channels is None or row["channel"] in quiet.channels
        spent = (local.hour - quiet.start) % 24  # hours since the quiet began
        if bound and row["message_class"] != _EXEMPT and spent < (quiet.end - quiet.start) % 24:
            broken.append(f"within quiet hours {quiet.name}")
    return broken


def _over(
    cap: Cap,
    rows: list[dict[str, Any]],
    past: list[dict[str, Any]],
    whose: Mapping[str, str],
    zone: Callable[[str], str],
) -> list[str]:
    """The cap's windows that hold a new touch and too many in all. A new touch of a calendar cap looks at the
    days of its own user's wall."""
    new: dict[tuple[str, str], list[tuple[datetime, str]]] = defaultdict(list)
    everything: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    told = [(row, row["send_at"], True) for row in rows] + [(row, row["at"], False) for row in past]
    for row, at, is_new in told:
        if _counted(cap, row):
            user = str(row["user"])
            key = (whose.get(user, f"user {user}"), str(row.get(cap.each) or "") if cap.each else "")
            everything[key].append(at)
            if is_new:
                new[key].append((at, zone(user)))
    found = []
    for key, sent in new.items():
        for end, where in sent if cap.per else [(end, "") for end in sorted(everything[key])]:
            inside, ours = _together(cap, end, where, everything[key], [at for at, _ in sent])
            if len(inside) > cap.at_most and ours:
                span = f"the {cap.within} to" if cap.within else f"the {cap.per} of"
                found.append(
                    f"{key[0]}: {len(inside)} touches in {span} {end}, {cap.name} allows {cap.at_most}"
                )
    return found


def _together(
    cap: Cap, at: datetime, zone: str, everything: list[datetime], sent: list[datetime]
) -> tuple[list[datetime], list[datetime]]:
    """Of everything, and of what is sent, what lies in one window of the cap with `at`, its last instant."""
    if cap.within is not None:
        window = parse_window(cap.within)
        inside = [[each for each in some if at - window < each <= at] for some in (everything, sent)]
        return inside[0], inside[1]
    name = _CALENDAR[cap.per or "day"]

    def same(each: datetime) -> bool:
        return each.astimezone(ZoneInfo(zone)).strftime(name) == at.astimezone(ZoneInfo(zone)).strftime(name)

    return [each for each in everything if same(each)], [each for each in sent if same(each)]


def _counted(cap: Cap, row: dict[str, Any]) -> bool:
    exempt = row["message_class"] == _EXEMPT or row["message_class"] not in [str(c) for c in cap.classes]
    labels = (cap.channel, row["channel"]), (cap.activity, row.get("activity"))
    return not exempt and all(wanted is None or wanted == said for wanted, said in labels)
