"""Whom caps and consent keep from a channel all day, known before the allocation spends a budget on them."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import polars as pl

from engine.wiring import Workspace
from engine.world import zones_and_consent
from kernel.clock import parse_window, start_of_day
from kernel.contact import Cap, MessageClass
from planner.api import Resources

#: how far zones are apart: what is of today in one is surely of today in all after so long
_ZONES = timedelta(hours=14)


def not_today(workspace: Workspace, resources: Resources, users: pl.Series, day: date) -> pl.DataFrame:
    """[user, channel] of those who would be refused at every hour of the day.

    Touches are refused when they are planned anyway; who is left out here leaves the budget to another. So
    what is not known yet (the hour, the user's own zone, the task) is taken at its best: nobody is left out
    wrongly. Caps that count by task, activity or household are left to the ledger alone.
    """
    people = users.unique().sort().rename("user")
    channels = tuple(sorted({each.channel for each in resources.touchpoints}))
    names = pl.DataFrame({"user": people, "key": people.cast(pl.String)})
    _, consent = zones_and_consent(workspace, channels)
    parts = [] if consent is None else [_refused(consent)]
    parts += _capped(workspace, names["key"], day, channels)
    if not parts:
        return pl.DataFrame(schema={"user": people.dtype, "channel": pl.String})
    found = pl.concat(parts).unique(maintain_order=True)
    return names.join(found, on="key", maintain_order="left").select("user", "channel")


def _refused(consent: pl.DataFrame) -> pl.DataFrame:
    """False or unknown refuses; who has no row is not known to object."""
    refused = consent.filter(~pl.col("allowed").fill_null(value=False))
    return refused.select(pl.col("user").cast(pl.String).alias("key"), "channel")


def _capped(
    workspace: Workspace, keys: pl.Series, day: date, channels: tuple[str, ...]
) -> list[pl.DataFrame]:
    zone = workspace.settings.zone
    end = start_of_day(day + timedelta(days=1), zone)
    counted = [
        (cap, _since(workspace, cap, day, end))
        for cap in workspace.definitions().of(Cap)
        if cap.by == "user"
        and cap.activity is None
        and cap.each in (None, "channel")
        and MessageClass.MARKETING in cap.classes
    ]
    if not counted:
        return []
    since = min(begin for _, begin in counted)
    held = workspace.ledger.held(users=keys.to_list(), since=since, until=end)
    # what an earlier plan of this very day reserved is replaced by the new one
    held = held.filter(pl.col("plan").ne_missing(f"plan/{day}"))
    parts = []
    for cap, begin in counted:
        letters = [each.value for each in cap.classes]
        mine = held.filter((pl.col("at") > begin) & pl.col("message_class").is_in(letters))
        bound = channels if cap.channel is None else (cap.channel,)
        reached = pl.DataFrame({"channel": bound}, schema={"channel": pl.String})
        if cap.at_most == 0:
            everyone = pl.DataFrame({"key": keys})
            parts.append(everyone.join(reached, how="cross"))
            continue
        if cap.channel is not None:
            mine = mine.filter(pl.col("channel") == cap.channel)
        by = ["user", "channel"] if cap.each == "channel" else ["user"]
        full = mine.group_by(by).len().filter(pl.col("len") >= cap.at_most).rename({"user": "key"})
        if cap.each != "channel":
            full = full.join(reached, how="cross")
        parts.append(full.select(pl.col("key").cast(pl.String), "channel"))
    return parts


def _since(workspace: Workspace, cap: Cap, day: date, end: datetime) -> datetime:
    """After which a touch counts whatever the hour of the new one."""
    if cap.within is not None:
        return end - parse_window(cap.within)
    first = {"week": day - timedelta(days=day.weekday()), "month": day.replace(day=1)}.get(cap.per or "", day)
    return start_of_day(first, workspace.settings.zone) + _ZONES
