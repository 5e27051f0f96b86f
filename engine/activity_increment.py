"""What an activity added: everyone whom it was meant for, against those of them who are held out."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from engine.holdout import held_out_now
from engine.population import population
from engine.wiring import Workspace
from insight.api import read_events
from kernel.errors import BadInput, GrowthError
from kernel.events import INSTANT
from kernel.ids import short_id
from models.api import Experiment, Holdout, Readout, read_out
from planner.api import Activity, Metric

_MEANT, _HELD = "meant", "held_out"
#: profit in what a user did: metrics × the activity's margins
REVENUE = "revenue"
_HOUR = timedelta(hours=1)


def increment(
    workspace: Workspace, activity: Activity, start: datetime, until: datetime
) -> dict[str, dict[str, float]]:
    """metric → `{effect, low, high}` a user it was meant for; always-valid intervals. Counts and sums only.

    Empty without an audience, without a holdout, and where sources cannot tell.
    """
    try:
        found = activity_readout(workspace, activity, start, until)
    except GrowthError:
        return {}
    return {
        each.metric: {"effect": each.always.mean, "low": each.always.low, "high": each.always.high}
        for each in found.lines
        if each.always is not None and each.metric != REVENUE
    }


def activity_readout(workspace: Workspace, activity: Activity, start: datetime, until: datetime) -> Readout:
    """Each count and sum, and first the revenue (metrics × margins) where that is declared: in money.

    Everyone in its audience as of the start counts, whether or not they took part: chance alone decides who
    is held out. Costs are the activity's, not a user's, and stand in its post-mortem. Raises BadInput without
    an audience, a holdout or such a metric, and before an hour is over.
    """
    holdout, where = workspace.definitions().one(Holdout), f"activity {activity.name}"
    hours = (until - start) // _HOUR
    metrics = [each for each in activity.metrics if each.agg in ("count", "sum")]
    if holdout is None:
        raise BadInput("needs a definition of kind holdout", where=where)
    if not activity.audience:
        raise BadInput("is for everybody: without an audience nobody is compared", where=where)
    if not metrics:
        raise BadInput("has no metric that is a count or a sum", where=where, field="metrics")
    if hours < 1:
        raise BadInput("has not run for an hour by then", where=where, field="as_of", value=until.isoformat())
    people = population(workspace, start)
    members = people.members(activity.audience[0])
    for group in activity.audience[1:]:
        members |= people.members(group)
    users = people.users(members)
    outcomes = pl.concat([_outcomes(workspace, each, start, until) for each in metrics], how="diagonal")
    held = held_out_now(workspace.definitions())
    arms = [_HELD if held(user) else _MEANT for user in users.to_list()]
    assigned = pl.DataFrame({"user": users, "variant": arms}, schema_overrides={"variant": pl.String})
    names = {each.name for each in metrics}
    worth = {f"of_{each.metric}": each.margin for each in activity.revenue if each.metric in names}
    told = [{"name": REVENUE, "sum": worth}] if worth and REVENUE not in names else []
    experiment = Experiment.model_validate(
        {
            "name": f"activity_{short_id(activity.name)}",
            "variants": {_MEANT: 1 - holdout.share, _HELD: holdout.share},
            "holdout": _HELD,
            "starts": start.date(),
            "within": f"{hours}h",
            "planned": max(len(users), 200),
            "metrics": told + [{"name": each.name, "sum": {_column(each): 1}} for each in metrics],
        }
    )
    at = assigned.with_columns(pl.lit(start).cast(INSTANT).alias("at"))
    return read_out(experiment, at, outcomes, until)


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
