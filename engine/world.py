"""What the rooms are told of the users, as of one instant: read from the catalog's sources."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import polars as pl

from engine.feature_sources import read_belonging, read_declared, sets_in_use
from engine.wiring import Workspace
from insight.api import event_range, read_fields, read_offer_items, read_role, read_users
from kernel.clock import start_of_day
from kernel.errors import BadInput
from models.api import History


def plan_instant(workspace: Workspace, day: date, field: str = "date") -> datetime:
    """The first instant of the day in the workspace's zone: a plan knows nothing after it.

    Raises BadInput when the purchases do not reach from before it to the day before it.
    """
    catalog = workspace.catalog
    event = catalog.event_of_role("purchase")
    if event is None:
        raise BadInput("no event has role purchase", where=catalog.file, field="events")
    first, last = event_range(catalog, event)
    as_of = start_of_day(day, workspace.settings.zone)
    if not first < as_of <= last + timedelta(days=2):
        zone = workspace.settings.zone
        span = f"{first.astimezone(zone).date()} to {last.astimezone(zone).date()}"
        raise BadInput(f"is outside the data, which reaches from {span}", field=field, value=day.isoformat())
    return as_of


def read_history(workspace: Workspace, until: datetime) -> History:
    """Purchases, treatments, responses, the items of offers and what models' feature sets are made of, with
    nothing after `until`, and nothing of the forgotten."""
    catalog = workspace.catalog

    def known(role: str) -> pl.DataFrame | None:
        lines = read_role(catalog, role, until)
        return None if lines is None else workspace.tombstones.without(lines)

    purchases = known("purchase")
    if purchases is None:
        raise BadInput("no event has role purchase", where=catalog.file, field="events")
    if purchases.height and purchases["amount"].null_count() == purchases.height:
        raise BadInput("is missing in every line", where="event purchase", field="amount")
    sets = sets_in_use(workspace.definitions())
    events, fields = read_declared(workspace, sets, until)
    return History(
        purchases=purchases,
        treatments=known("treatment"),
        responses=known("response"),
        offer_items=read_offer_items(catalog),
        events=events,
        fields=fields,
        belongs=read_belonging(workspace, sets),
    )


def known_users(workspace: Workspace, as_of: datetime) -> pl.DataFrame:
    """[user], without the forgotten. Raises BadInput when there is nobody."""
    users = workspace.tombstones.without(read_users(workspace.catalog, as_of))
    if users.is_empty():
        raise BadInput("knows no user by then", field="date", value=as_of.isoformat())
    return users


def known_fields(workspace: Workspace, users: pl.DataFrame, names: tuple[str, ...]) -> pl.DataFrame:
    """[user, names…] for these users; only `user` when no names are given."""
    if not names:
        return users
    for name in names:
        workspace.catalog.field(name, "definitions", "sociology")
    return users.join(read_fields(workspace.catalog, names), on="user", how="left", maintain_order="left")


def zones_and_consent(
    workspace: Workspace, channels: tuple[str, ...], users: pl.Series | None = None
) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
    """[user, timezone] and [user, channel, allowed], where the catalog has fields of these roles; only of
    `users` where they are given."""
    catalog = workspace.catalog
    zone, consent = catalog.field_of_role("timezone"), catalog.field_of_role("consent")

    def read(field: str, name: str) -> pl.DataFrame:
        frame = read_fields(catalog, [field]).rename({field: name})
        if users is None:
            return frame
        return frame.filter(pl.col("user").cast(pl.String).is_in(users.cast(pl.String).unique().implode()))

    zones = None if zone is None else read(zone, "timezone").drop_nulls()
    if consent is None:
        return zones, None
    allowed = read(consent, "allowed")
    return zones, allowed.join(pl.DataFrame({"channel": channels}), how="cross")


def shopping_hours(history: History, zone: str, users: pl.Series) -> pl.DataFrame:
    """[user, hour]: the local hour in which each of `users` most often buys; the earliest of several."""
    mine = history.purchases.select("user", "event_id", "at").join(
        users.unique().to_frame("user"), on="user", how="semi", maintain_order="left"
    )
    baskets = mine.unique(["user", "event_id"], keep="first", maintain_order=True)
    hours = baskets.select(
        "user", pl.col("at").dt.convert_time_zone(zone).dt.hour().cast(pl.Int64).alias("hour")
    )
    counted = (
        hours.group_by("user", "hour").len().sort(["user", "len", "hour"], descending=[False, True, False])
    )
    return counted.unique("user", keep="first", maintain_order=True).select("user", "hour")
