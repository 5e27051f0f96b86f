"""The events that the sources know of some users, read by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import ibis
import polars as pl

from insight.catalog import Catalog
from insight.sources.clickhouse import ClickHouseSource
from insight.sources.duck import DuckSource
from insight.sources.opening import open_source, table_version
from insight.sources.postgres import PostgresSource
from insight.sources.spark import SparkSource
from insight.tables import event_lines
from kernel.events import INSTANT

#: users named in one query where their ids cannot be given as a table
_TOGETHER = 500
_ASKED = "asked users"
User = int | str


def read_lines(
    catalog: Catalog, events: Mapping[str, datetime | None], asked: Sequence[User]
) -> dict[str, pl.DataFrame]:
    """Event → [user, at (microseconds since 1970), event_id where it has one, its fields]: lines after the
    event's instant (None: all). Raises Unavailable, BadInput.

    Sources get the ids as a table of one query; those that only Ibis opens in lists of 500.
    """
    found: dict[str, pl.DataFrame] = {}
    ids = pl.DataFrame({"user": list(asked)})
    with ExitStack() as stack:
        opened: dict[str, Any] = {}
        for name, since in events.items():
            event = catalog.event(name)
            if event.source not in opened:
                opened[event.source] = stack.enter_context(open_source(catalog, event.source))
            source, lines = opened[event.source], event_lines(catalog, name, event.fields)
            if since is not None:
                lines = lines.filter(lines["at"] > ibis.literal(since))
            if isinstance(source, DuckSource | PostgresSource | ClickHouseSource | SparkSource):
                kind = "int64" if ids["user"].dtype == pl.Int64 else "string"
                table = ibis.table({"user": kind}, name=_ASKED)
                mine = lines.filter(lines["user"].isin(table["user"]))
                frames = [source.frame_beside(mine, {_ASKED: ids.to_arrow()})]
            else:
                some = [list(asked[start : start + _TOGETHER]) for start in range(0, len(asked), _TOGETHER)]
                frames = [source.frame(lines.filter(lines["user"].isin(each))) for each in some]
            at = pl.col("at").cast(INSTANT).dt.epoch("us")
            zoned = [short for short, route in event.fields.items() if route.type == "datetime"]
            found[name] = pl.concat(frames).with_columns(at, pl.col(zoned).cast(INSTANT))
    return found


def versions_of(catalog: Catalog, events: Sequence[str]) -> dict[str, str]:
    """`source.table` → version, of every table that lines of these events are read from."""
    found = {}
    for name in events:
        event = catalog.event(name)
        for table in (event.table, *event.join):
            found[f"{event.source}.{table}"] = table_version(catalog, event.source, table)
    return found
