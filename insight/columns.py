"""Tests of a Parquet file's own columns, as Polars expressions.

Polars decodes a column of a file faster than any engine that we know, so the plainest tests of the plainest
types are its own: where a test surely means the same as the compiled query (None: it does not).
`insight.conditions` says what it means.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl

from insight.conditions import Test

_WHOLE = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32)
_INSTANT = pl.Datetime("us", "UTC")


def tested(column: str, kind: pl.DataType, declared: str, test: Test) -> pl.Expr | None:
    """A test that NULL fails, of a column of type `kind` that the catalog declares as `declared`; true or
    false, never NULL."""
    found = as_declared(column, kind, declared)
    if found is None:
        return None
    if kind.is_float() and test.op in ("gt", "ge", "not_null"):  # for Polars NaN is the greatest number
        met = _compared(test, found, found.dtype) & found.expr.is_not_nan()
    else:
        met = _compared(test, found, found.dtype)
    return met.fill_null(False)


class Column:
    """An expression with the type that its values are compared in."""

    def __init__(self, expr: pl.Expr, dtype: pl.DataType) -> None:
        self.expr, self.dtype = expr, dtype


def as_declared(column: str, kind: pl.DataType, declared: str) -> Column | None:
    """The column where its own type already is the declared one, or widens to it."""
    own = pl.col(column)
    if declared == "string" and kind == pl.String:
        return Column(own, pl.String())
    if declared == "boolean" and kind == pl.Boolean:
        return Column(own, pl.Boolean())
    if declared == "integer" and kind in _WHOLE:
        return Column(own, kind)
    if declared == "decimal" and kind == pl.Float64:
        return Column(own, kind)
    if declared == "decimal" and (kind in _WHOLE or kind == pl.Float32):
        return Column(own.cast(pl.Float64), pl.Float64())
    if declared == "date" and kind == pl.Date:
        return Column(own, kind)
    if declared == "datetime" and kind == _INSTANT:
        return Column(own, kind)
    return None


def _compared(test: Test, column: Column, kind: pl.DataType) -> pl.Expr:
    value: Any = test.value
    own = column.expr
    if test.op == "not_null":
        return own.is_not_null()
    if test.op == "contains":
        return own.str.contains(value, literal=True)
    if kind in _WHOLE and _outside(value, kind):
        own, kind = own.cast(pl.Int64), pl.Int64()
    if test.op == "in":
        return own.is_in(pl.Series(list(value), dtype=kind).implode())
    if test.op == "between":
        return (own >= _literal(value[0], kind)) & (own <= _literal(value[1], kind))
    literal = _literal(value, kind)
    if test.op == "eq":
        return own == literal
    if test.op == "lt":
        return own < literal
    if test.op == "le":
        return own <= literal
    return own > literal if test.op == "gt" else own >= literal


def _literal(value: Any, kind: pl.DataType) -> pl.Expr:
    if isinstance(value, datetime):
        return pl.lit(value).cast(_INSTANT)
    return pl.lit(value, dtype=kind)


def _limits(kind: pl.DataType) -> tuple[int, int]:
    bits = int(str(kind).lstrip("UInt"))
    return (0, 2**bits - 1) if str(kind).startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _outside(value: Any, kind: pl.DataType) -> bool:
    """Whether a whole number is too large for the column's type."""
    values = value if isinstance(value, tuple) else (value,)
    low, high = _limits(kind)
    return any(not low <= each <= high for each in values)
