"""Candidates as they come in: from Parquet, checked before anything is decided."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl

from conflict.scan import open_source
from kernel.choices import CANDIDATE_COLUMNS
from kernel.errors import BadInput


def read_candidates(path: Path) -> pl.DataFrame:
    """One row a candidate: `user`, `task`, `value`, and any columns that limits sum or select on.

    From a Parquet file, a folder of them or a pattern. Raises BadInput when there is none or one is not
    Parquet, or the contents are not candidates.
    """
    source = open_source(path)
    frame = source.frame()
    check_candidates(frame, source.where)
    return frame


def check_candidates(frame: pl.DataFrame, where: str = "candidates") -> None:
    """Raises BadInput for the first thing wrong with the three columns that every candidate has."""
    check_columns(frame.schema, where, empty=frame.height == 0)
    check_rows(frame, where)
    twice = frame.select("user", "task").is_duplicated()
    if twice.any():
        user, task = frame.select("user", "task").row(first_row(twice))
        raise stands_twice(where, user, task)


def check_columns(schema: pl.Schema, where: str, *, empty: bool) -> None:
    """Raises BadInput unless the three columns are there and of a type that fits; `empty`: no rows."""
    for column in CANDIDATE_COLUMNS:
        if column not in schema:
            known = ", ".join(schema) or "none"
            raise BadInput(f"this column is missing; there are: {known}", where=where, field=column)
    for column in ("user", "task"):
        dtype = schema[column]
        if not (dtype.is_integer() or is_text(dtype) or (empty and dtype == pl.Null)):
            raise BadInput("must be integers or text", where=where, field=column, value=str(dtype))
    check_numeric(schema, "value", where, empty=empty)


def check_rows(frame: pl.DataFrame, where: str, first: int = 0) -> None:
    """Raises BadInput unless every row has a user, a task and a finite value; `first`: its first row."""
    for column in ("user", "task"):
        if frame[column].null_count():
            row = first + first_row(frame[column].is_null())
            raise BadInput(f"is empty in row {row}", where=where, field=column)
    check_numbers(frame, "value", where, first)


def check_numeric(schema: pl.Schema, column: str, where: str, *, empty: bool) -> None:
    dtype = schema[column]
    if not dtype.is_numeric() and not (empty and dtype == pl.Null):
        raise BadInput("must be numbers", where=where, field=column, value=str(dtype))


def check_numbers(frame: pl.DataFrame, column: str, where: str, first: int = 0) -> None:
    """Raises BadInput unless the column is finite numbers, every one there; `first`: its first row."""
    check_numeric(frame.schema, column, where, empty=frame.height == 0)
    own = frame[column]
    # a sum is finite only if all numbers are, and quicker than a look at each
    if not own.null_count() and (own.dtype.is_integer() or math.isfinite(own.sum() or 0)):
        return
    numbers = own.cast(pl.Float64)
    if numbers.null_count():
        row = first + first_row(numbers.is_null())
        raise BadInput(f"is empty in row {row}", where=where, field=column)
    bad = ~numbers.is_finite()
    if bad.any():
        at = first_row(bad)
        raise BadInput(
            f"is not a finite number, in row {first + at}", where=where, field=column, value=numbers[at]
        )


def stands_twice(where: str, user: object, task: object) -> BadInput:
    return BadInput("stands in two rows", where=where, field="(user, task)", value=(user, task))


def is_text(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Categorical, pl.Enum)


def first_row(mask: pl.Series) -> int:
    """Number of the first row of which it holds, from 0."""
    return int(mask.arg_true()[0])
