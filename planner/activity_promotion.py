"""The promotion plan of an activity, step by step, as rules of the days on which they are due."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from planner.activities import Activity
from planner.activity_calendar import span
from planner.compose import Resources
from planner.rules import Rule, check_rules

#: what stands before the name of an activity in the names of its promotion's rules, and so of its tasks
PROMOTION = "activity."
#: a group that no rule of a promotion is looked up in: whom it is for follows from the activity
_NO_GROUP = "audience_of_the_activity"


def promotion_rule(activity: Activity, number: int) -> Rule | None:
    """Of a step, `activity.NAME.NUMBER`, from 1; None for one that brings nothing: people do it."""
    step = activity.promotion[number - 1]
    if step.benefit is None:
        return None
    return Rule(
        name=f"{PROMOTION}{activity.name}.{number}",
        label=f"{activity.title}, promotion {number}",
        goal=activity.goal,
        group=_NO_GROUP,
        touchpoint=step.touchpoint,
        benefit=step.benefit,
        content=step.content,
        losing="nothing",
    )


def first_day_of(activity: Activity, zone: ZoneInfo) -> date:
    """The day on the workspace's wall from which the days of its promotion are counted."""
    return span(activity, zone)[0].astimezone(zone).date()


def on_own_day(own: pl.DataFrame, day: date, step: int) -> pl.Series:
    """Of [user, date] those users whose own day lies `step` days before `day`; 29 February is 1 March in
    other years."""
    meant = day - timedelta(days=step)
    there = (pl.col("date").dt.month() == meant.month) & (pl.col("date").dt.day() == meant.day)
    leap = meant.year % 4 == 0 and (meant.year % 100 != 0 or meant.year % 400 == 0)
    if not leap and (meant.month, meant.day) == (3, 1):
        there = there | ((pl.col("date").dt.month() == 2) & (pl.col("date").dt.day() == 29))
    return own.filter(there)["user"]


def check_promotions(activities: Collection[Activity], resources: Resources) -> None:
    """Raises BadInput for the first step whose benefit or content does not fit goal and touchpoint."""
    for activity in activities:
        rules = [promotion_rule(activity, number) for number in range(1, len(activity.promotion) + 1)]
        check_rules([each for each in rules if each is not None], resources, {_NO_GROUP})
