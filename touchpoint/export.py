"""Touches as files: one table for each executing system, and the whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import polars as pl

from kernel.errors import BadInput, Unavailable


def export_touches(touches: pl.DataFrame, out: Path) -> list[Path]:
    """`touches_TOUCHPOINT.csv` for each touchpoint, then `touches.parquet`; their paths.

    The first column of a CSV is the user's own id; times are ISO 8601 in UTC. Each file appears whole or
    not at all, the Parquet last: while it is not new, the export is not complete. A `touches_*.csv` of an
    earlier export into the same folder whose touchpoint has no touches now is removed, so that nobody
    sends it. Raises BadInput when `out` cannot be a folder, Unavailable when the disk does not take it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot be a folder: {error.strerror}", field="out", value=str(out)) from None
    columns = ["user", *(name for name in touches.columns if name != "user")]
    ordered = touches.sort("send_at", "touch_id")
    parts = {
        out / f"touches_{name}.csv": ordered.filter(pl.col("touchpoint") == name).select(columns)
        for name in ordered["touchpoint"].unique().sort()
    }
    whole = out / "touches.parquet"
    try:
        for old in sorted(set(out.glob("touches_*.csv")) - set(parts)):
            old.unlink()
        for path, part in parts.items():
            _replace(path, _csv_rows(part).write_csv)
        _replace(whole, ordered.write_parquet)
    except OSError as error:
        raise Unavailable(f"the touches could not be written to {out}: {error.strerror}") from error
    return [*parts, whole]


def _csv_rows(part: pl.DataFrame) -> pl.DataFrame:
    return part.with_columns(pl.col("send_at").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(draft)
        with draft.open("rb") as handle:
            os.fsync(handle.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
