"""Candidates as they come in: from Parquet, checked before anything is decided."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from kernel.choices import CANDIDATE_COLUMNS
from kernel.errors import BadInput


def read_candidates(path: Path) -> pl.DataFrame:
    """One row a candidate: `user`, `task`, `value`, and any columns that limits sum or select on.

    Raises BadInput when the file is missing or not Parquet, or its contents are not candidates.
    """
    where = str(path)
    if not path.is_file():
        raise BadInput("no such file", where=where, field="candidates")
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInput(f"is not a Parquet file: {_line(error)}", where=where, field="candidates") from None
    check_candidates(frame, where)
    return frame


def check_candidates(frame: pl.DataFrame, where: str = "candidates") -> None:
    """Raises BadInput for the first thing wrong with the three columns that every candidate has."""
    for column in CANDIDATE_COLUMNS:
        if column not in frame.columns:
            known = ", ".join(frame.columns) or "none"
            raise BadInput(f"this column is missing; there are: {known}", where=where, field=column)
    for column in ("user", "task"):
        dtype = frame.schema[column]
        if not (dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum)):
            if frame.height == 0 and dtype == pl.Null:
                continue
            raise BadInput("must be integers or text", where=where, field=column, value=str(dtype))
        if frame[column].null_count():
            row = _first(frame[column].is_null())
            raise BadInput(f"is empty in row {row}", where=where, field=column)
    check_numbers(frame, "value", where)
    twice = frame.select("user", "task").is_duplicated()
    if twice.any():
        user, task = frame.select("user", "task").row(_first(twice))
        raise BadInput("stands in two rows", where=where, field="(user, task)", value=(user, task))


def check_numbers(frame: pl.DataFrame, column: str, where: str) -> None:
    """Raises BadInput unless the column is finite numbers, every one there."""
    dtype = frame.schema[column]
    if not dtype.is_numeric() and not (frame.height == 0 and dtype == pl.Null):
        raise BadInput("must be numbers", where=where, field=column, value=str(dtype))
    numbers = frame[column].cast(pl.Float64)
    if numbers.null_count():
        raise BadInput(f"is empty in row {_first(numbers.is_null())}", where=where, field=column)
    bad = ~numbers.is_finite()
    if bad.any():
        row = _first(bad)
        raise BadInput(f"is not a finite number, in row {row}", where=where, field=column, value=numbers[row])


def _first(mask: pl.Series) -> int:
    """Number of the first row of which it holds, from 0."""
    return int(mask.arg_true()[0])


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:120]
