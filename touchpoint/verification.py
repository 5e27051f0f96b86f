"""Whether touches keep every promise, found out another way than they were planned: row by row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from kernel.clock import parse_window
from kernel.contact import Cap, QuietHours
from kernel.work import Touchpoint

_EXEMPT = "transactional"


def verify_touches(
    touches: pl.DataFrame,
    touchpoints: Sequence[Touchpoint],
    caps: Sequence[Cap],
    quiet_hours: Sequence[QuietHours],
    consent: pl.DataFrame | None,
    zones: pl.DataFrame | None,
    default_zone: ZoneInfo,
    prior: pl.DataFrame | None,
) -> list[str]:
    """A sentence for each promise that `touches` break; empty when they keep all.

    `prior`: what counted besides, as the ledger's `held` gives it (touch_id, user, channel,
    message_class, at); rows whose id is among the touches are those touches.
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
        found += _over(cap, rows, past)
    return found


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


def _over(cap: Cap, rows: list[dict[str, Any]], past: list[dict[str, Any]]) -> list[str]:
    """The cap's windows (t − window, t] that hold a new touch and too many in all."""
    new: dict[str, list[datetime]] = defaultdict(list)
    everything: dict[str, list[datetime]] = defaultdict(list)
    for row in rows:
        if _counted(cap, row):
            new[str(row["user"])].append(row["send_at"])
            everything[str(row["user"])].append(row["send_at"])
    for row in past:
        if _counted(cap, row):
            everything[str(row["user"])].append(row["at"])
    window, found = parse_window(cap.within), []
    for user, sent in new.items():
        for end in sorted(everything[user]):
            inside = [at for at in everything[user] if end - window < at <= end]
            if len(inside) > cap.at_most and any(end - window < at <= end for at in sent):
                found.append(
                    f"user {user}: {len(inside)} touches in the {cap.within} to {end}, {cap.name} "
                    f"allows {cap.at_most}"
                )
    return found


def _counted(cap: Cap, row: dict[str, Any]) -> bool:
    exempt = row["message_class"] == _EXEMPT or row["message_class"] not in [str(c) for c in cap.classes]
    return not exempt and (cap.channel is None or cap.channel == row["channel"])
