"""Promotion of activities in the day's plan: which steps are due, for whom, and whom they reached."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import polars as pl

from engine.population import population
from engine.wiring import Workspace
from insight.api import read_fields
from kernel.clock import start_of_day
from kernel.definitions import parse
from planner.api import (
    PROMOTION,
    Activity,
    Firing,
    Promotion,
    State,
    first_day_of,
    on_own_day,
    promotion_rule,
)
from storage.activities import ActivityStore

#: states in which an activity is promoted
_PROMOTED = (State.READY, State.RUNNING)


def promotion_firings(workspace: Workspace, day: date) -> tuple[Firing, ...]:
    """The steps that are due on a day, of activities that are ready or running, each with its users as of the
    day's beginning. The day is each user's own: so are birthdays."""
    zone, found = workspace.settings.zone, list[Firing]()
    store = ActivityStore(workspace.database)
    for row in store.all():
        if row.state not in _PROMOTED:
            continue
        activity = parse(Activity, row.body, f"activity {row.name}")
        first, last = first_day_of(activity, zone), row.end.astimezone(zone).date()
        for number, step in enumerate(activity.promotion, 1):
            rule = promotion_rule(activity, number)
            own = activity.when.around is not None
            due = (
                first <= day - timedelta(days=step.day) <= last
                if own
                else day == first + timedelta(days=step.day)
            )
            if rule is not None and due:
                users = _users(workspace, store, activity, step, day)
                found.append(Firing(rule=rule, shares={"only": 1.0}, users=users))
    return tuple(found)


def told(workspace: Workspace, name: str) -> int:
    """Users to whom plans have planned a touch of its promotion."""
    users, prefix = set[str](), f"rule.{PROMOTION}{name}."
    for entry in workspace.plans.newest_of_each_day():
        file = Path(entry.folder) / "touches.parquet"
        if file.exists():
            mine = pl.col("task").str.starts_with(prefix)
            users.update(
                pl.scan_parquet(file).filter(mine).select(pl.col("user").cast(pl.String)).collect()["user"]
            )
    return len(users)


def _users(
    workspace: Workspace, store: ActivityStore, activity: Activity, step: Promotion, day: date
) -> pl.Series:
    """Of its audience, or of those it admits, or everybody: who takes part already, or not yet."""
    people = population(workspace, start_of_day(day, workspace.settings.zone))
    groups = activity.audience or ((activity.admits,) if activity.admits else ())
    members = people.universe
    if groups:
        members = people.members(groups[0])
        for group in groups[1:]:
            members = members | people.members(group)
    users = people.users(members)
    if activity.when.around is not None:
        field = activity.when.around
        dates = read_fields(workspace.catalog, [field])
        own = dates.select("user", pl.col(field).cast(pl.Date, strict=False).alias("date")).drop_nulls()
        meant = on_own_day(own, day, step.day).cast(pl.String)
        users = users.filter(users.cast(pl.String).is_in(meant.unique().implode()))
    part = pl.Series([each.user_id for each in store.participants(activity.name)], dtype=pl.String)
    inside = users.cast(pl.String).is_in(part.implode())
    return users.filter(inside if step.to == "participants" else ~inside)
