"""One meaning on every engine: Ibis's compilers, corrected where engines differ on what we ask.

| asked | what differs without this |
| --- | --- |
| different values | ClickHouse estimates them, and holds −0 and 0 for two |
| rounding | half up, half even, or half away from zero; here ⌊x·10ⁿ + ½⌋ / 10ⁿ in doubles |
| order of text | PostgreSQL orders by its locale; here by code point |
| hash | every engine has its own; here arithmetic of whole numbers, MD5 of text |
| sum of whole numbers | wraps around in ClickHouse, fails in Spark |
| instants and dates | seconds in ClickHouse unless told; years that its `Date` does not know |
| whole numbers that do not fit | wrap around in ClickHouse; here they are an error |
"""

# ruff: noqa: N802, N815  the names of methods are Ibis's

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

import ibis.expr.datatypes as dt
import sqlglot as sg
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.base import SQLGlotCompiler
from ibis.backends.sql.compilers.clickhouse import ClickHouseCompiler
from ibis.backends.sql.compilers.duckdb import DuckDBCompiler
from ibis.backends.sql.compilers.postgres import PostgresCompiler
from ibis.backends.sql.compilers.pyspark import PySparkCompiler

from kernel.errors import BadInput

#: Ibis writes the methods of a compiler's simple operations anew in its subclasses, over ours: not these
NONE_AGAIN: dict[Any, str] = {}
#: a prime below 2³¹, and two multipliers whose powers run through all its remainders (Park and Miller)
_PRIME, _FIRST, _SECOND = 2_147_483_647, 48_271, 69_621
#: years that ClickHouse's dates and instants know
_YEARS = (1900, 2299)


def to_sql(expression: Any, dialect: str, zone: str = "UTC") -> str:
    """An unbound expression in `duckdb`, `postgres`, `clickhouse` or `spark`; `zone`: of the session."""
    return written(compiled(expression, dialect, zone), dialect, zone)


def written(query: Any, dialect: str, zone: str = "UTC") -> str:
    """A tree of sqlglot as text."""
    return str(query.sql(dialect=_compiler(dialect, zone).dialect))


def compiled(expression: Any, dialect: str, zone: str = "UTC") -> Any:
    """The same as a tree of sqlglot."""
    return _compiler(dialect, zone).to_sqlglot(expression)


@lru_cache(maxsize=64)
def _compiler(dialect: str, zone: str) -> Any:
    if dialect == "clickhouse":
        return _ClickHouse(zone)
    return {"duckdb": _DuckDB, "postgres": _Postgres, "spark": _Spark}[dialect]()


class _Portable:
    """What is said alike in all four."""

    def visit_Round(self: Any, op: Any, *, arg: Any, digits: Any) -> Any:
        if digits is None or not op.dtype.is_floating():
            return SQLGlotCompiler.visit_Round(self, op, arg=arg, digits=digits)
        unit = self.cast(sge.convert(10.0**op.digits.value), dt.float64)
        scaled = self.cast(arg, dt.float64) * unit + self.cast(sge.convert(0.5), dt.float64)
        return sge.paren(self.below(scaled)) / unit

    def below(self: Any, number: Any) -> Any:
        """The next whole number down, as a double."""
        return self.f.floor(number)

    def visit_Hash(self: Any, op: Any, *, arg: Any) -> Any:
        if op.arg.dtype.is_string():
            return self.md5_number(arg)

        def left(number: Any) -> Any:
            return self.cast(sge.paren(number) % sge.convert(_PRIME), dt.int64)

        first = left(left(arg) * sge.convert(_FIRST))
        return left(sge.paren(left(first * first) + first) * sge.convert(_SECOND))


class _DuckDB(_Portable, DuckDBCompiler):  # type: ignore[misc]  # Ibis has no types
    SIMPLE_OPS = NONE_AGAIN

    def md5_number(self, arg: Any) -> Any:
        return self.cast(self.f.concat("0x", self.f.substr(self.f.md5(arg), 1, 8)), dt.int64)


class _Postgres(_Portable, PostgresCompiler):  # type: ignore[misc]  # Ibis has no types
    SIMPLE_OPS = NONE_AGAIN

    def md5_number(self, arg: Any) -> Any:
        bits = sge.Cast(
            this=self.f.concat("x", self.f.substr(self.f.md5(arg), 1, 8)), to=sge.DataType.build("bit(32)")
        )
        return self.cast(bits, dt.int64)

    def _ordered(self, op: Any, left: Any) -> Any:
        if not op.left.dtype.is_string():
            return left
        return sge.Collate(this=sge.paren(left), expression=sg.to_identifier("C", quoted=True))

    def visit_Less(self, op: Any, *, left: Any, right: Any) -> Any:
        return self.binop(sge.LT, self._ordered(op, left), right)

    def visit_LessEqual(self, op: Any, *, left: Any, right: Any) -> Any:
        return self.binop(sge.LTE, self._ordered(op, left), right)

    def visit_Greater(self, op: Any, *, left: Any, right: Any) -> Any:
        return self.binop(sge.GT, self._ordered(op, left), right)

    def visit_GreaterEqual(self, op: Any, *, left: Any, right: Any) -> Any:
        return self.binop(sge.GTE, self._ordered(op, left), right)


class _Spark(_Portable, PySparkCompiler):  # type: ignore[misc]  # Ibis has no types
    SIMPLE_OPS = NONE_AGAIN

    # Ibis's own ask an option of its backend, which we do not load: whether NaN reads as NULL.
    visit_Field = SQLGlotCompiler.visit_Field

    def visit_NonNullLiteral(self, op: Any, *, value: Any, dtype: Any) -> Any:
        if dtype.is_floating():
            return SQLGlotCompiler.visit_NonNullLiteral(self, op, value=value, dtype=dtype)
        return super().visit_NonNullLiteral(op, value=value, dtype=dtype)

    def md5_number(self, arg: Any) -> Any:
        return self.cast(self.f.conv(self.f.substr(self.f.md5(arg), 1, 8), 16, 10), dt.int64)

    def below(self, number: Any) -> Any:
        # Spark's floor is a whole number of 64 bits, which ends at 9·10¹⁸
        return sge.paren(number) - self.f.pmod(number, self.cast(sge.convert(1), dt.float64))

    def visit_Sum(self, op: Any, *, arg: Any, where: Any) -> Any:
        if op.arg.dtype.is_integer():
            arg = self.cast(arg, dt.Decimal(38, 0))
        return super().visit_Sum(op, arg=arg, where=where)


class _ClickHouse(_Portable, ClickHouseCompiler):  # type: ignore[misc]  # Ibis has no types
    SIMPLE_OPS = NONE_AGAIN

    def __init__(self, zone: str) -> None:
        super().__init__()
        self.zone = zone

    def md5_number(self, arg: Any) -> Any:
        first = self.f.reverse(self.f.substring(self.f.MD5(arg), 1, 4))
        return self.f.toInt64(self.f.reinterpretAsUInt32(first))

    def visit_CountDistinct(self, op: Any, *, arg: Any, where: Any) -> Any:
        if op.arg.dtype.is_floating():
            arg = arg + sge.convert(0)
        return self.agg.uniqExact(arg, where=where)

    def visit_Sum(self, op: Any, *, arg: Any, where: Any) -> Any:
        if op.arg.dtype.is_integer():
            arg = self.f.toInt128(arg)
        return super().visit_Sum(op, arg=arg, where=where)

    def visit_Cast(self, op: Any, *, arg: Any, to: Any) -> Any:
        known = op.arg.dtype
        if to.is_timestamp():
            kind = f"Nullable(DateTime64(6, '{to.timezone or self.zone}'))"
            return sge.Cast(this=arg, to=sge.DataType.build(kind, "clickhouse"))
        if to.is_date():
            there = self.f.toTimeZone(arg, self.zone) if known.is_timestamp() else arg
            return self.f.toDate32(there)
        if to.is_integer() and known.is_unsigned_integer():
            return self.f.accurateCast(arg, self.type_mapper.to_string(to))
        return super().visit_Cast(op, arg=arg, to=to)

    def visit_NonNullLiteral(self, op: Any, *, value: Any, dtype: Any) -> Any:
        if dtype.is_timestamp():
            at = value.to_pydatetime() if hasattr(value, "to_pydatetime") else value
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
            at = max(at, datetime(_YEARS[0], 1, 1, tzinfo=UTC))
            at = min(at, datetime(_YEARS[1], 12, 31, tzinfo=UTC))
            return self.f.toDateTime64(f"{at:%Y-%m-%d %H:%M:%S.%f}", 6, "UTC")
        if dtype.is_date():
            return self.f.toDate32(_known_day(value).isoformat())
        return super().visit_NonNullLiteral(op, value=value, dtype=dtype)


def _known_day(value: date) -> date:
    if not _YEARS[0] <= value.year <= _YEARS[1]:
        problem = f"is outside the years that ClickHouse knows, {_YEARS[0]} to {_YEARS[1]}"
        raise BadInput(problem, field="date", value=value.isoformat())
    return value
