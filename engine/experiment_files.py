"""Frames that people hand over, and get."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from kernel.errors import BadInput
from kernel.events import INSTANT
from storage.lake import write_parquet


def read_frame(path: Path, field: str) -> pl.DataFrame:
    """A Parquet or CSV file. Raises BadInput when it is not there, or is none."""
    if not path.is_file():
        raise BadInput("no such file", field=field, value=str(path))
    try:
        frame = pl.read_csv(path, try_parse_dates=True) if path.suffix == ".csv" else pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        problem = str(error).splitlines()[0]
        raise BadInput(f"cannot be read: {problem}", field=field, value=str(path)) from None
    kind = frame.schema["at"] if "at" in frame.columns else None
    if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
        frame = frame.with_columns(pl.col("at").dt.convert_time_zone("UTC").cast(INSTANT))
    return frame


def write_frame(out: Path, frame: pl.DataFrame) -> None:
    """As Parquet or CSV. Raises BadInput when the name says neither, or it cannot be written."""
    if out.suffix not in (".parquet", ".csv"):
        raise BadInput("is neither .parquet nor .csv", field="--out", value=str(out))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".csv":
            frame.write_csv(out)
        else:
            write_parquet(out, frame)
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror}", field="--out", value=str(out)) from None
