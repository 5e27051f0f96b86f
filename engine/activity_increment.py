"""What an activity added: everyone whom it was meant for, against those of them who are held out."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from engine.day import population
from engine.holdout import held_out_now
from engine.wiring import Workspace
from insight.api import read_events
from kernel.errors import GrowthError
from kernel.events import INSTANT
from kernel.ids import short_id
from models.api import Experiment, Holdout, read_out
from planner.api import Activity, Metric

_MEANT, _HELD = "meant", "held_out"
_HOUR = timedelta(hours=1)


def increment(
    workspace: Workspace, activity: Activity, start: datetime, until: datetime
) -> dict[str, dict[str, float]]:
    """metric → `{effect, low, high}` a user it was meant for; always-valid intervals. Counts and sums only.

    Everyone in its audience as of the start counts, whether or not they took part: chance alone decides who
    is held out. Empty without an audience, without a holdout, and where sources cannot tell.
    """
    holdout = workspace.definitions().one(Holdout)
    hours = (until - start) // _HOUR
    metrics = [each for each in activity.metrics if each.agg in ("count", "sum")]
    if holdout is None or not activity.audience or not metrics or hours < 1:
        return {}
    try:
        people = population(workspace, start)
        members = people.members(activity.audience[0])
        for group in activity.audience[1:]:
            members |= people.members(group)
        users = people.users(members)
        outcomes = pl.concat([_outcomes(workspace, each, start, until) for each in metrics], how="diagonal")
    except GrowthError:
        return {}
    held = held_out_now(workspace.definitions())
    arms = [_HELD if held(user) else _MEANT for user in users.to_list()]
    assigned = pl.DataFrame({"user": users, "variant": arms}, schema_overrides={"variant": pl.String})
    experiment = Experiment.model_validate(
        {
            "name": f"activity_{short_id(activity.name)}",
            "variants": {_MEANT: 1 - holdout.share, _HELD: holdout.share},
            "holdout": _HELD,
            "starts": start.date(),
            "within": f"{hours}h",
            "planned": max(len(users), 200),
            "metrics": [{"name": each.name, "sum": {_column(each): 1}} for each in metrics],
        }
    )
    at = assigned.with_columns(pl.lit(start).cast(INSTANT).alias("at"))
    found = read_out(experiment, at, outcomes, until)
    return {
        each.metric: {"effect": each.always.mean, "low": each.always.low, "high": each.always.high}
        for each in found.lines
        if each.always is not None
    }


def _outcomes(workspace: Workspace, metric: Metric, start: datetime, until: datetime) -> pl.DataFrame:
    """[user, at, the metric's column]: one row an event that counts."""
    lines = workspace.tombstones.without(read_events(workspace.catalog, str(metric.event), until, start))
    for field, wanted in metric.where.items():
        allowed = wanted if isinstance(wanted, tuple) else (wanted,)
        lines = lines.filter(pl.col(field).cast(pl.String).is_in([str(each) for each in allowed]))
    if metric.agg == "count":
        events = lines.unique(["user", "event_id"], keep="first", maintain_order=True)
        return events.select("user", "at", pl.lit(1.0).alias(_column(metric)))
    return lines.select("user", "at", pl.col(str(metric.of)).cast(pl.Float64).alias(_column(metric)))


def _column(metric: Metric) -> str:
    return f"of_{metric.name}"
