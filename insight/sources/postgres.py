"""PostgreSQL, through ADBC: Arrow all the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import ibis
import polars as pl
import pyarrow as pa
from ibis.backends.sql.datatypes import PostgresType

from insight.sources.dialects import compiled, to_sql, written
from insight.sources.given import with_ids
from insight.sources.idle import Idle
from insight.sources.source import Place, as_asked, needs, whole
from kernel.errors import GrowthError
from kernel.ids import fingerprint

#: PostgreSQL's classes of errors that are about a value: SQLSTATE 22
_ABOUT_VALUES = "22"
_IDLE = Idle()


class PostgresSource:
    """`postgres://USER:PASSWORD@HOST:PORT/DATABASE`; tables are found along the search path."""

    def __init__(self, place: Place) -> None:
        needs(place, "adbc_driver_postgresql", "postgres")
        self.place = place
        self._open: Any = None
        self._key = ("", "")

    def tables(self) -> list[str]:
        found = self._rows(
            "SELECT relname FROM pg_class WHERE pg_table_is_visible(oid) "
            "AND relkind IN ('r', 'p', 'v', 'm', 'f') AND relnamespace NOT IN "
            "('pg_catalog'::regnamespace, 'information_schema'::regnamespace) ORDER BY 1"
        )
        return [str(row[0]) for row in found]

    def schema(self, table: str, field: str) -> Any:
        asked = (
            "SELECT a.attname, format_type(coalesce(nullif(t.typbasetype, 0), a.atttypid), a.atttypmod) "
            "FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
            "JOIN pg_class c ON c.oid = a.attrelid WHERE c.relname = $1 AND pg_table_is_visible(c.oid) "
            "AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped "
            "ORDER BY a.attnum"
        )
        columns = self._rows(asked, table)
        if not columns:
            raise self.place.unknown(table, self.tables(), field)
        return ibis.schema({name: kind for name, said in columns if (kind := _kind(said)) is not None})

    def frame(self, expression: Any) -> pl.DataFrame:
        return whole(self.batches(expression), expression)

    def frame_beside(self, expression: Any, given: dict[str, pa.Table]) -> pl.DataFrame:
        """The same where some of the expression's tables, of one column of ids, are given here."""
        query = with_ids(compiled(expression, "postgres"), given, "postgres")
        return whole(self._answers(written(query, "postgres"), expression), expression)

    def batches(self, expression: Any) -> Iterator[pa.RecordBatch]:
        return self._answers(to_sql(expression, "postgres"), expression)

    def _answers(self, sql: str, expression: Any) -> Iterator[pa.RecordBatch]:
        with self._cursor() as cursor:
            cursor.execute(sql)
            for batch in cursor.fetch_record_batch():
                yield as_asked(batch, expression)

    def version(self, table: str, field: str) -> str:
        """What is committed in the whole server, which any write to any table advances, and which table."""
        asked = "SELECT pg_current_snapshot()::text, coalesce(to_regclass(quote_ident($1))::oid::text, '')"
        snapshot, known = self._rows(asked, table)[0]
        if not known:
            self.schema(table, field)
        return fingerprint([snapshot, known])

    def close(self) -> None:
        if self._open is not None:
            _IDLE.give(self._key, self._open)
            self._open = None

    def _rows(self, sql: str, *values: str) -> list[tuple[Any, ...]]:
        with self._cursor() as cursor:
            cursor.execute(sql, values or None)
            return [tuple(row) for row in cursor.fetchall()]

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        dbapi: Any = import_module("adbc_driver_postgresql.dbapi")  # it has no types

        def connected() -> Any:
            connection = dbapi.connect(self._key[0], autocommit=True)
            with connection.cursor() as cursor:
                cursor.execute("SET default_transaction_read_only = on")
                cursor.execute("SELECT set_config('TimeZone', $1, false)", (self.place.timezone,))
            return connection

        try:
            if self._open is None:
                self._key = (self.place.address(), self.place.timezone)
                self._open = _IDLE.take(self._key, connected)
            with self._open.cursor() as cursor:
                yield cursor
        except GrowthError:
            raise
        except (dbapi.Error, pa.ArrowException, OSError) as error:
            if self._open is not None:
                self._open.close()
                self._open = None
            if str(getattr(error, "sqlstate", None) or "").startswith(_ABOUT_VALUES):
                raise self.place.misfit(error) from None
            raise self.place.silent(error) from None


def _kind(said: str) -> Any:
    """PostgreSQL's own name of a type as Ibis's; None for one that nothing here could use."""
    try:
        kind = PostgresType.from_string(said)
    except Exception:  # noqa: BLE001  Ibis passes on whatever its parser raises
        return None
    return None if kind.is_unknown() else kind
