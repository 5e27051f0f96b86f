"""Users, fields and events as Polars frames, for the rooms that need them whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any

import ibis
import polars as pl

from insight.catalog import Catalog
from insight.elastic import is_elastic
from insight.elastic_leaves import elastic_leaves
from insight.sources.opening import open_source, repeated_key
from insight.sources.source import Source
from insight.tables import event_lines, fields, offer_items, users
from kernel.clock import aware
from kernel.errors import BadInput
from kernel.events import EVENT_COLUMNS, INSTANT, OFFER, PURCHASE_ROLES


@contextmanager
def answering(catalog: Catalog) -> Iterator[Callable[[str, Any], pl.DataFrame]]:
    """Runs (source name, expression) → frame; each source is opened once, when first asked."""
    with ExitStack() as stack:
        opened: dict[str, Source] = {}

        def run(source: str, expression: Any) -> pl.DataFrame:
            if source not in opened:
                opened[source] = stack.enter_context(open_source(catalog, source))
            return opened[source].frame(expression)

        yield run


def read_users(catalog: Catalog, as_of: datetime, *, every: int = 1) -> pl.DataFrame:
    """[user], sorted: those who exist as of `as_of` (aware). `every` = k keeps one in k, by hash."""
    if is_elastic(catalog, catalog.entity.source):
        if every > 1:
            problem = "is Elasticsearch, of which there is no sample"
            raise BadInput(problem, where=catalog.file, field="entities.user.source")
        with elastic_leaves(catalog, catalog.entity.source, aware(as_of, "as_of")) as elastic:
            return elastic.users().sort().to_frame()
    expression = users(catalog, aware(as_of, "as_of"), every)
    with open_source(catalog, catalog.entity.source) as reader:
        return reader.frame(expression).sort("user")


def read_fields(catalog: Catalog, names: Sequence[str] | None = None) -> pl.DataFrame:
    """[user, each name], sorted by user: everyone who has a row in any of their tables, as it is now.

    Raises BadInput when a user has more than one row in one of them.
    """
    names = list(catalog.user_fields) if names is None else list(dict.fromkeys(names))
    places: dict[tuple[str, str, str], list[str]] = {}
    for name in names:
        places.setdefault(catalog.field_place(name), []).append(name)
    whole: pl.DataFrame | None = None
    for (source, _, _), here in places.items():
        check_one_row_each(catalog, here[0])
        with open_source(catalog, source) as reader:
            frame = reader.frame(fields(catalog, here))
        whole = frame if whole is None else whole.join(frame, on="user", how="full", coalesce=True)
    if whole is None:
        raise BadInput("names no field", where=catalog.file, field="fields")
    return whole.select("user", *names).sort("user")


def read_events(catalog: Catalog, name: str, until: datetime, since: datetime | None = None) -> pl.DataFrame:
    """[user, at, event_id, each field]: one row a line with since < at ≤ until (aware).

    Sorted by at, user, event_id, then the fields. An event without an id in its source has its row's
    number in this order, from 0. Whoever is in the source is here; join the users of an instant to
    have only those.
    """
    return _read(catalog, name, list(catalog.event(name).fields), until, since)


def read_role(catalog: Catalog, role: str, until: datetime) -> pl.DataFrame | None:
    """The events of a role up to `until`: user, at, event_id, then

    for `purchase` those of amount, discount, category, place and item that exist, under these names,
    and the other fields under their own;
    for `treatment` and `response` the offer, then the other fields under their own names.
    None when no event has the role.
    """
    name = catalog.event_of_role(role)
    if name is None:
        return None
    by_role = {field.role: short for short, field in catalog.events[name].fields.items() if field.role}
    if role == "purchase":
        order = [each for each in PURCHASE_ROLES if each in by_role]
        renamed = {by_role[each]: each for each in order}
        rest = [short for short in catalog.events[name].fields if short not in renamed]
        frame = _read(catalog, name, [*renamed, *rest], until, None)
        return frame.rename(renamed).select(*EVENT_COLUMNS, *order, *rest)
    offer = by_role[OFFER]
    others = [short for short in catalog.events[name].fields if short != offer]
    frame = _read(catalog, name, [offer, *others], until, None)
    return frame.rename({offer: OFFER}).select(*EVENT_COLUMNS, OFFER, *others)


def read_offer_items(catalog: Catalog) -> pl.DataFrame | None:
    """[offer, item], each pair once, sorted; None when the catalog says nothing of offers."""
    if catalog.offers is None:
        return None
    with open_source(catalog, catalog.offers.source) as reader:
        return reader.frame(offer_items(catalog)).sort("offer", "item")


def event_range(catalog: Catalog, name: str) -> tuple[datetime, datetime]:
    """Instants of an event's first and last line. Raises BadInput when it has none."""
    lines = event_lines(catalog, name, [])
    with open_source(catalog, catalog.event(name).source) as reader:
        first, last = reader.frame(lines.aggregate(first=lines["at"].min(), last=lines["at"].max())).row(0)
    if first is None:
        raise BadInput("has no rows", where=catalog.file, field=f"events.{name}")
    return first, last


def check_one_row_each(catalog: Catalog, name: str) -> None:
    """Raises BadInput naming the field when a user has several rows in its table."""
    (source, table, key), at = catalog.field_place(name), f"fields.{name}"
    _no_more_than_one(catalog, source, table, key, at)


def check_lookups(catalog: Catalog, name: str) -> None:
    """Raises BadInput when a table joined to the event is not many-to-one: its lines would double."""
    event = catalog.event(name)
    for table, lookup in event.join.items():
        _no_more_than_one(catalog, event.source, table, lookup.key, f"events.{name}.join.{table}")


def _no_more_than_one(catalog: Catalog, source: str, table: str, key: str, at: str) -> None:
    repeated = repeated_key(catalog, source, table, key, at)
    if repeated is not None:
        problem = f"table {table} has more than one row for {key} {repeated!r}"
        raise BadInput(problem, where=catalog.file, field=at)


def _read(
    catalog: Catalog, name: str, wanted: list[str], until: datetime, since: datetime | None
) -> pl.DataFrame:
    check_lookups(catalog, name)
    lines = event_lines(catalog, name, wanted)
    tests = [lines["at"] <= ibis.literal(aware(until, "until"))]
    if since is not None:
        tests.append(lines["at"] > ibis.literal(aware(since, "since")))
    with open_source(catalog, catalog.event(name).source) as reader:
        frame = reader.frame(lines.filter(*tests))
    frame = frame.with_columns(pl.col("at").cast(INSTANT))
    if "event_id" in frame.columns:
        return frame.select(*EVENT_COLUMNS, *wanted).sort(*EVENT_COLUMNS, *wanted)
    frame = frame.sort("at", "user", *wanted).with_row_index("event_id")
    return frame.with_columns(pl.col("event_id").cast(pl.Int64)).select(*EVENT_COLUMNS, *wanted)
