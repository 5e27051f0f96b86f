"""Everything that is known of one user's events, from the sources and from the log, nothing twice."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from insight.catalog import Catalog
from insight.fresh_events import Fresh
from insight.fresh_history import User, read_lines
from insight.fresh_lines import Sent, merged
from kernel.events import EVENT_COLUMNS, INSTANT


def user_lines(
    catalog: Catalog, user: User, names: Iterable[str], fresh: Iterable[Fresh]
) -> dict[str, pl.DataFrame]:
    """Event → [user, at, event_id, fields], of this user alone; `fresh`: of the log, typed.

    Raises Unavailable when a source does not answer.
    """
    names = tuple(dict.fromkeys(names))
    known, sent = read_lines(catalog, dict.fromkeys(names), [user]), Sent(catalog)
    sent.add([(0, each) for each in fresh if each.name in names and each.user == user])
    found = {}
    for name in names:
        lines = known[name].with_columns(place=pl.lit(0, pl.Int32)).drop("user")
        lines = lines.rename({"event_id": "id"} if "event_id" in lines.columns else {})
        fields = list(catalog.events[name].fields)
        ids = ["id"] if "id" in lines.columns else []
        whole = merged(
            catalog, name, lines.select("place", "at", *ids, *fields), sent.of(name, np.ones(1, bool))
        )
        frame = lines.clear() if whole is None else whole
        if not ids:
            frame = frame.with_row_index("id").with_columns(pl.col("id").cast(pl.Int64))
        found[name] = frame.select(
            pl.lit(user).alias("user"),
            pl.from_epoch("at", "us").dt.replace_time_zone("UTC").cast(INSTANT).alias("at"),
            pl.col("id").alias(EVENT_COLUMNS[2]),
            *fields,
        )
    return found
