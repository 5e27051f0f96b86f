"""What a frequency is learned from: its audience in segments, and exposures, outcomes and leaves of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from engine.wiring import Workspace
from engine.world import known_users
from insight.api import has_text_ids, read_events, read_fields, typed_users
from kernel.errors import BadInput
from kernel.events import INSTANT
from storage.events import EventLog
from touchpoint.api import EVERYBODY, UNKNOWN, Frequency, first_share, is_drawn

_PAGE = 50_000
#: segments that come from the cells of a day's plan
_OF_CELLS = ("cell", "stage", "cluster", "tier")


@dataclass(frozen=True, kw_only=True)
class Told:
    """Frames as `touchpoint.api.derive_states` takes them."""

    #: user, segment, randomised
    users: pl.DataFrame
    #: of the users, whose number of touches is drawn
    share: float
    #: user, at
    exposures: pl.DataFrame
    outcomes: pl.DataFrame
    leaves: pl.DataFrame


def read_told(
    workspace: Workspace,
    definition: Frequency,
    as_of: datetime,
    cells: pl.DataFrame | None,
    share: float | None,
) -> Told:
    """As of an instant. `cells`: user, cell, stage, cluster, tier; where segments come from them. `share`: of
    the users, whose number of touches is drawn; None: as many as at first.

    Raises BadInput for a name that the catalog or the definitions do not know, or segments of cells where
    no plan has laid any.
    """
    since = as_of - timedelta(days=definition.days("history"))
    users = _audience(workspace, definition, as_of)
    users = _segmented(workspace, definition, users, cells)
    if share is None:
        segments = max(users["segment"].n_unique(), 1)
        share = first_share(
            definition.randomised, users=users.height, segments=segments, at_most=definition.at_most
        )
    drawn = [is_drawn(user, definition.name, share) for user in users["user"]]
    users = users.with_columns(pl.Series("randomised", drawn, dtype=pl.Boolean))
    kind = users.schema["user"]
    return Told(
        users=users,
        share=share,
        exposures=_exposures(workspace, definition, users, since, as_of),
        outcomes=event_times(workspace, definition.outcome, since, as_of, kind),
        leaves=pl.DataFrame(schema={"user": kind, "at": INSTANT})
        if definition.opt_out is None
        else event_times(workspace, definition.opt_out, since, as_of, kind),
    )


def event_times(
    workspace: Workspace,
    name: str,
    since: datetime,
    until: datetime,
    kind: pl.DataType,
    fields: tuple[str, ...] = (),
    summed: str | None = None,
) -> pl.DataFrame:
    """user, at, these fields (of the first line), and `value`: the sum of `summed` over the lines, where
    asked for. From the event's source, and from what was sent since the source knows; each event once.
    since < at < until. Of the forgotten, nothing."""
    catalog = workspace.catalog
    for field in (*fields, *((summed,) if summed else ())):
        if field not in catalog.event(name).fields:
            raise BadInput("is no field of the event", where=f"event {name}", field=field)
    lines = read_events(catalog, name, until, since).filter(pl.col("at") < until)
    firsts = [
        pl.col("user").first().cast(kind),
        pl.col("at").first(),
        *(pl.col(each).first() for each in fields),
    ]
    if summed:
        firsts.append(pl.col(summed).cast(pl.Float64).sum().alias("value"))
    batch = lines.group_by("event_id", maintain_order=True).agg(firsts).drop("event_id")
    fresh = _fresh(workspace, name, since, until, fields, summed)
    if fresh.height:
        fresh = fresh.select(pl.col(each).cast(batch.schema[each]) for each in batch.columns)
        fresh = fresh.join(batch, on=["user", "at"], how="anti", maintain_order="left")
        batch = pl.concat([batch, fresh])
    return workspace.tombstones.without(batch)


def _fresh(
    workspace: Workspace,
    name: str,
    since: datetime,
    until: datetime,
    fields: tuple[str, ...],
    summed: str | None,
) -> pl.DataFrame:
    log, after, rows = EventLog(workspace.database), 0, []
    while page := log.after(after, [name], _PAGE):
        after = page[-1].number
        for each in page:
            if since < each.occurred_at < until:
                line = each.lines[0] if each.lines else {}
                total = [float(sum(one.get(summed) or 0 for one in each.lines))] if summed else []
                rows.append((each.user_id, each.occurred_at, *(line.get(field) for field in fields), *total))
    columns = ["user", "at", *fields, *(["value"] if summed else [])]
    frame = pl.DataFrame(rows, schema=columns, orient="row", schema_overrides={"at": INSTANT})
    if not rows:
        return frame
    ids = typed_users(has_text_ids(workspace.catalog), frame["user"].to_list())
    return frame.with_columns(pl.Series("user", ids))


def _audience(workspace: Workspace, definition: Frequency, as_of: datetime) -> pl.DataFrame:
    if definition.audience is None:
        return known_users(workspace, as_of)
    from engine.population import population

    people = population(workspace, as_of)
    if definition.audience not in people.groups:
        raise BadInput(
            "is no group", where=f"frequency {definition.name}", field="audience", value=definition.audience
        )
    members = people.users(people.members(definition.audience))
    if members.is_empty():
        raise BadInput("has no members", where=f"group {definition.audience}", field="as_of", value=as_of)
    return pl.DataFrame({"user": members})


def _segmented(
    workspace: Workspace, definition: Frequency, users: pl.DataFrame, cells: pl.DataFrame | None
) -> pl.DataFrame:
    """[user, segment]"""
    by = definition.segments
    if by is None:
        return users.with_columns(segment=pl.lit(EVERYBODY))
    if by in _OF_CELLS:
        if cells is None:
            problem = "comes from the cells of a plan, and there is none yet; run: growth plan"
            raise BadInput(problem, where=f"frequency {definition.name}", field="segments", value=by)
        labels = cells.select("user", pl.col(by).cast(pl.String).alias("segment"))
    else:
        workspace.catalog.field(by, f"frequency {definition.name}", "segments")
        labels = read_fields(workspace.catalog, [by]).select(
            "user", pl.col(by).cast(pl.String).alias("segment")
        )
    found = users.join(labels, on="user", how="left", maintain_order="left")
    return found.with_columns(pl.col("segment").fill_null(UNKNOWN))


def _exposures(
    workspace: Workspace, definition: Frequency, users: pl.DataFrame, since: datetime, until: datetime
) -> pl.DataFrame:
    kind = users.schema["user"]
    if definition.exposure is not None:
        fields = () if definition.channel_field is None else (definition.channel_field,)
        found = event_times(workspace, definition.exposure, since, until, kind, fields)
        if definition.channel_field is not None:
            named = pl.col(definition.channel_field).cast(pl.String).is_in(list(definition.channels))
            found = found.filter(named)
        return found.select("user", "at")
    texts = users["user"].cast(pl.String)
    held = workspace.ledger.held(users=texts.to_list(), since=since, until=until)
    sent = pl.col("channel").is_in(list(definition.channels)) & (pl.col("state") == "confirmed")
    return held.filter(sent).select(pl.col("user").cast(kind), pl.col("at").cast(INSTANT))
