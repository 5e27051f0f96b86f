"""What declared features are made of, read from the sources: events, fields, touches, cells of plans."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from engine.definitions import Definitions
from engine.feature_names import CELL, CELL_FIELDS, ROLES, TOUCH, TOUCH_FIELDS, known_events
from engine.wiring import Workspace
from insight.api import read_events, read_fields
from kernel.clock import start_of_day
from kernel.errors import BadInput, NotFound
from kernel.events import INSTANT
from kernel.learning import ModelRecipe
from models.api import FeatureSet


def sets_in_use(definitions: Definitions) -> list[FeatureSet]:
    """Those that some model learns from."""
    named = dict.fromkeys(each.features for each in definitions.of(ModelRecipe))
    return [definitions.feature_set(name) for name in named if isinstance(name, str)]


def read_declared(
    workspace: Workspace, sets: Iterable[FeatureSet], until: datetime
) -> tuple[dict[str, pl.DataFrame], pl.DataFrame | None]:
    """Events by name, roles left out, nothing after `until`; and the fields. Of the forgotten, nothing."""
    sets, tombstones = list(sets), workspace.tombstones
    names = dict.fromkeys(name for each in sets for name in each.events if name not in ROLES)
    events = {name: tombstones.without(_read(workspace, name, until)) for name in names}
    fields = tuple(dict.fromkeys(name for each in sets for name in each.fields))
    return events, tombstones.without(read_fields(workspace.catalog, fields)) if fields else None


def _read(workspace: Workspace, name: str, until: datetime) -> pl.DataFrame:
    if name in workspace.catalog.events:
        return read_events(workspace.catalog, name, until)
    if name == TOUCH:
        return _touches(workspace, until)
    if name == CELL:
        return _cells(workspace, until)
    raise NotFound("event", name, known_events(workspace.catalog), where="features", field="event")


def _touches(workspace: Workspace, until: datetime) -> pl.DataFrame:
    """[user, at, event_id, channel, task, plan]: what is confirmed to have been sent."""
    from engine.world import known_users

    users = known_users(workspace, until)["user"]
    since = until - timedelta(days=3650)
    held = workspace.ledger.held(users=users.cast(pl.String).to_list(), since=since, until=until)
    sent = held.filter((pl.col("state") == "confirmed") & (pl.col("at") <= until))
    return sent.select(
        pl.col("user").cast(users.dtype),
        pl.col("at").cast(INSTANT),
        pl.col("touch_id").alias("event_id"),
        *TOUCH_FIELDS,
    ).sort("at", "event_id")


def _cells(workspace: Workspace, until: datetime) -> pl.DataFrame:
    """[user, at, event_id, stage, cluster, tier]: every plan's cells at its instant, `event_id` its day."""
    parts = []
    for entry in workspace.plans.newest_of_each_day():
        at, path = start_of_day(entry.date, workspace.settings.zone), Path(entry.folder) / "cells.parquet"
        if at <= until and path.exists():
            text = [pl.col(name).cast(pl.String) for name in CELL_FIELDS]
            day = pl.lit(entry.date.isoformat()).alias("event_id")
            parts.append(
                pl.read_parquet(path).select("user", pl.lit(at).cast(INSTANT).alias("at"), day, *text)
            )
    if not parts:
        said = "has no plan by then, so nobody is in a cell; run: growth plan, or leave the feature out"
        raise BadInput(said, where="features", field="cell")
    return pl.concat(parts)
