"""What declared features are made of, read from the sources: events, fields, touches, cells of plans."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

import polars as pl

from engine.definitions import Definitions
from engine.feature_names import CELL, CELL_FIELDS, ROLES, TOUCH, TOUCH_FIELDS, known_events
from engine.wiring import Workspace
from insight.api import Catalog, read_belongings, read_events, read_fields
from kernel.clock import start_of_day
from kernel.errors import BadInput, NotFound
from kernel.events import INSTANT, OFFER, PURCHASE_ROLES
from kernel.learning import ModelRecipe
from models.api import USER, Belonging, FeatureSet


def sets_in_use(definitions: Definitions) -> list[FeatureSet]:
    """Those that some model learns from."""
    named = dict.fromkeys(each.features for each in definitions.of(ModelRecipe))
    return [definitions.feature_set(name) for name in named if isinstance(name, str)]


def source_name(catalog: Catalog, event: str) -> str:
    """An event of the catalog by its own name or by its role. Raises NotFound."""
    name = event if event in catalog.events else catalog.event_of_role(event)
    if name is None:
        raise NotFound("event", event, (*catalog.events, *ROLES))
    return name


def role_names(catalog: Catalog, event: str) -> dict[str, str]:
    """Field → what it is called where the event is called by its role."""
    if event in catalog.events:
        return {}
    known = (*PURCHASE_ROLES, OFFER)
    fields = catalog.events[source_name(catalog, event)].fields
    return {short: field.role for short, field in fields.items() if field.role in known}


def read_declared(
    workspace: Workspace, sets: Iterable[FeatureSet], until: datetime
) -> tuple[dict[str, pl.DataFrame], pl.DataFrame | None]:
    """Events by name, roles left out, nothing after `until`; and users' fields. Of the forgotten, nothing."""
    sets, tombstones = list(sets), workspace.tombstones
    names = dict.fromkeys(name for each in sets for name in each.events if name not in ROLES)
    events = {name: tombstones.without(_read(workspace, name, until)) for name in names}
    fields = tuple(dict.fromkeys(name for each in sets if each.entity == USER for name in each.fields))
    return events, tombstones.without(read_fields(workspace.catalog, fields)) if fields else None


def read_belonging(workspace: Workspace, sets: Iterable[FeatureSet]) -> dict[str, Belonging]:
    """Entity other than the user → who belongs to which at an instant, and its fields. The forgotten belong
    to nothing, so that nothing is made of their events. Raises NotFound, BadInput for two ways."""
    wanted: dict[str, dict[str, None]] = {}
    for each in sets:
        if each.entity != USER:
            wanted.setdefault(each.entity, {}).update(dict.fromkeys(each.fields))
    return {entity: _belonging(workspace, entity, list(fields)) for entity, fields in wanted.items()}


def _belonging(workspace: Workspace, entity: str, names: list[str]) -> Belonging:
    known = read_belongings(workspace.catalog, entity, f"features of {entity}")
    fields = read_fields(workspace.catalog, names) if names else None
    return Belonging(
        # each event of a set asks for the same instant
        at=lru_cache(maxsize=2)(lambda as_of: workspace.tombstones.without(known.at(as_of))),
        fingerprint=known.fingerprint,
        fields=None if fields is None else fields.with_columns(pl.col("user").cast(pl.String)),
    )


def _read(workspace: Workspace, name: str, until: datetime) -> pl.DataFrame:
    if name in workspace.catalog.events:
        return read_events(workspace.catalog, name, until)
    if name == TOUCH:
        return touches_until(workspace, until)
    if name == CELL:
        return cells_until(workspace, until)
    raise NotFound("event", name, known_events(workspace.catalog), where="features", field="event")


def touches_until(workspace: Workspace, until: datetime, user: int | str | None = None) -> pl.DataFrame:
    """[user, at, event_id, channel, task, plan]: what is confirmed to have been sent, to all or to one."""
    from engine.world import known_users

    users = known_users(workspace, until)["user"] if user is None else pl.Series("user", [user])
    since = until - timedelta(days=3650)
    held = workspace.ledger.held(users=users.cast(pl.String).to_list(), since=since, until=until)
    sent = held.filter((pl.col("state") == "confirmed") & (pl.col("at") <= until))
    return sent.select(
        pl.col("user").cast(users.dtype),
        pl.col("at").cast(INSTANT),
        pl.col("touch_id").alias("event_id"),
        *TOUCH_FIELDS,
    ).sort("at", "event_id")


def cells_until(workspace: Workspace, until: datetime, user: int | str | None = None) -> pl.DataFrame:
    """[user, at, event_id, stage, cluster, tier]: cells of all, or of one, in every plan at its instant;
    `event_id` is its day."""
    parts = []
    for entry in workspace.plans.newest_of_each_day():
        at, path = start_of_day(entry.date, workspace.settings.zone), Path(entry.folder) / "cells.parquet"
        if at <= until and path.exists():
            text = [pl.col(name).cast(pl.String) for name in CELL_FIELDS]
            day = pl.lit(entry.date.isoformat()).alias("event_id")
            mine = pl.lit(True) if user is None else pl.col("user") == user
            cells = pl.scan_parquet(path).filter(mine)
            parts.append(cells.select("user", pl.lit(at).cast(INSTANT).alias("at"), day, *text).collect())
    if not parts:
        said = "has no plan by then, so nobody is in a cell; run: growth plan, or leave the feature out"
        raise BadInput(said, where="features", field="cell")
    return pl.concat(parts)
