"""Lines of an event as a Parquet file, piece by piece: for those who read more than fits in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import ibis
import polars as pl
import pyarrow.parquet as pq

from insight.catalog import Catalog
from insight.reading import check_lookups
from insight.sources.opening import open_source
from insight.tables import event_lines
from kernel.clock import aware
from kernel.events import EVENT_COLUMNS, INSTANT


def spool_events(catalog: Catalog, name: str, fields: Sequence[str], until: datetime, path: Path) -> int:
    """Writes [user, at, event_id, fields] of every line up to `until`; how many.

    An event without an id in its source has the row's number. The file is there whole or not at all. Raises
    Unavailable when the source does not answer.
    """
    check_lookups(catalog, name)
    lines = event_lines(catalog, name, fields)
    lines = lines.filter(lines["at"] <= ibis.literal(aware(until, "until")))
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh, rows = path.with_suffix(f".{os.getpid()}"), 0
    writer: pq.ParquetWriter | None = None
    try:
        with open_source(catalog, catalog.event(name).source) as source:
            for batch in source.batches(lines):
                frame = _typed(pl.DataFrame(pl.from_arrow(batch)), rows, fields)
                rows += frame.height
                table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
                writer = writer or pq.ParquetWriter(fresh, table.schema)
                writer.write_table(table)
            if writer is None:
                _typed(source.frame(lines.limit(0)), 0, fields).write_parquet(fresh)
    finally:
        if writer is not None:
            writer.close()
    fresh.replace(path)
    return rows


def _typed(frame: pl.DataFrame, begin: int, fields: Sequence[str]) -> pl.DataFrame:
    at = pl.col("at").dt.convert_time_zone("UTC").cast(INSTANT)
    frame = frame.with_columns(at)
    if "event_id" not in frame.columns:
        frame = frame.with_row_index("event_id", offset=begin).with_columns(pl.col("event_id").cast(pl.Int64))
    return frame.select(*EVENT_COLUMNS, *fields)
