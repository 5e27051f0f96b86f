"""DuckDB files, and folders of Parquet or CSV files read through DuckDB.

Queries run on our own connection, one source each, so that no query can mix up two. The session's zone is
the source's, so that a naive time becomes the instant it means.
"""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.operations as ops
import polars as pl
import pyarrow as pa
from ibis.formats.pyarrow import PyArrowType

from insight.sources.files import Stamp, files_version, stamps
from insight.sources.source import Place
from kernel.errors import BadInput, GrowthError, NotFound, Unavailable

#: rows in one piece of a streamed answer
BATCH = 1_000_000


class DuckSource:
    """A DuckDB file (`duckdb`), or a folder of Parquet or CSV files (`parquet`, `csv`)."""

    def __init__(self, place: Place) -> None:
        """Raises BadInput when it leads nowhere."""
        self.place = place
        self._open: duckdb.DuckDBPyConnection | None = None
        self._viewed: set[str] = set()
        if not (place.path.is_file() if place.kind == "duckdb" else place.path.is_dir()):
            lacking = "file" if place.kind == "duckdb" else "folder"
            url = f"{place.kind}://{place.rest}"
            field = f"sources.{place.name}.url"
            raise BadInput(f"leads to no {lacking}", where=place.where, field=field, value=url)

    def schema(self, table: str, field: str) -> Any:
        return _schema(self.place, table, stamps(self._files(table, field)), field)

    def frame(self, expression: Any) -> pl.DataFrame:
        with self._translated():
            frame = pl.DataFrame(pl.from_arrow(self._relation(expression).to_arrow_table()))
        zoned = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime)]
        return frame.with_columns(pl.col(zoned).dt.convert_time_zone("UTC")) if zoned else frame

    def batches(self, expression: Any) -> Iterator[pa.RecordBatch]:
        with self._translated():
            yield from self._relation(expression).to_arrow_reader(BATCH)

    def version(self, table: str, field: str) -> str:
        return files_version(self._files(table, field), self.place.path.parent)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def relation(self, table: str, field: str) -> duckdb.DuckDBPyRelation:
        """The table as its file or database has it. Raises NotFound, or BadInput when it is unreadable."""
        place, connection, files = self.place, self._connection, self._files(table, field)
        try:
            if place.kind == "parquet":
                return connection.read_parquet(glob.escape(str(files[0])))
            if place.kind == "csv":
                types = _csv_types(stamps(files)[0])
                return connection.read_csv(glob.escape(str(files[0])), header=True, dtype=types)
            known = connection.execute(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'"
            ).fetchall()
            names = [row[0] for row in known]
            if table not in names:
                raise NotFound(f"table of source {place.name}", table, names, where=place.where, field=field)
            return connection.table(_quoted(table))
        except duckdb.Error as error:
            raise BadInput(
                f"cannot be read: {_first_line(error)}", where=place.where, field=field, value=files[0].name
            ) from None

    def _relation(self, expression: Any) -> duckdb.DuckDBPyRelation:
        if self.place.kind != "duckdb":
            for table in {each.name for each in expression.op().find(ops.UnboundTable)} - self._viewed:
                sql = self.relation(table, f"sources.{self.place.name}").sql_query()
                self._connection.execute(f"CREATE TEMP VIEW {_quoted(table)} AS {sql}")
                self._viewed.add(table)
        return self._connection.sql(ibis.to_sql(expression, dialect="duckdb"))

    def _files(self, table: str, field: str) -> list[Path]:
        """The files that hold a table, a database with its log of writes not yet in it. Raises NotFound."""
        place = self.place
        if place.kind == "duckdb":
            return [place.path, place.path.with_name(f"{place.path.name}.wal")]
        known = {path.stem: path for path in sorted(place.path.glob(f"*.{place.kind}")) if path.is_file()}
        if table not in known:
            raise NotFound(f"table of source {place.name}", table, known, where=place.where, field=field)
        return [known[table]]

    @property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        """Of this source's own, in its zone: to its database, or to an empty one for a folder."""
        if self._open is None:
            try:
                if self.place.kind == "duckdb":
                    self._open = duckdb.connect(str(self.place.path), read_only=True, config=_settings())
                else:
                    self._open = _in_memory().cursor()
            except (duckdb.IOException, duckdb.ConnectionException, duckdb.CatalogException) as error:
                raise Unavailable(
                    f"source {self.place.name!r} cannot be opened: {_first_line(error)}"
                ) from error
            self._open.execute("SET python_enable_replacements = false")
            self._open.execute("SET TimeZone = ?", [self.place.timezone])
        return self._open

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except GrowthError:
            raise
        except (duckdb.ConversionException, duckdb.OutOfRangeException) as error:
            raise BadInput(
                f"holds a value that does not fit its type: {_first_line(error)}",
                where=self.place.where,
                field=f"sources.{self.place.name}",
            ) from None
        except duckdb.Error as error:
            raise Unavailable(
                f"source {self.place.name!r} did not answer: {_first_line(error)}"
            ) from error


@lru_cache(maxsize=1)
def _in_memory() -> duckdb.DuckDBPyConnection:
    """One engine for all folders, so that the memory limit holds for the process; cursors share nothing
    that we make: their views are temporary, and settings are the session's."""
    return duckdb.connect(config=_settings())


def _settings() -> dict[str, Any]:
    """Of an engine: what it may hold in memory, and where it puts the rest."""
    return {
        "memory_limit": "1GB",
        "temp_directory": tempfile.gettempdir(),
        "enable_external_file_cache": False,
        # It believes a Parquet file's minimum and maximum, which know no NaN, and so finds no NaN.
        "disabled_optimizers": "statistics_propagation",
    }


@lru_cache(maxsize=4096)
def _schema(place: Place, table: str, stamped: tuple[Stamp, ...], field: str) -> Any:
    """Column → type, remembered until the file changes (`stamped`)."""
    source = DuckSource(place)
    try:
        arrow = source.relation(table, field).limit(0).to_arrow_table().schema
    finally:
        source.close()
    types = {}
    for column in arrow:
        try:
            types[column.name] = PyArrowType.to_ibis(column.type)
        except (TypeError, ValueError, KeyError, NotImplementedError):
            continue  # a type that nothing here could use: the column counts as unknown
    return ibis.schema(types)


@lru_cache(maxsize=4096)
def _csv_types(stamp: Stamp) -> dict[str, str]:
    """Column → type, judged from the whole file. Digits after a leading zero are text, not a number."""
    path = glob.escape(stamp[0])
    with _in_memory().cursor() as connection:
        sniffed = connection.read_csv(path, header=True, sample_size=-1)
        types = {column: str(kind) for column, kind in zip(sniffed.columns, sniffed.types, strict=True)}
        text = connection.read_csv(path, header=True, all_varchar=True)
        for column, kind in types.items():
            if kind in ("BIGINT", "HUGEINT", "DOUBLE"):
                name = duckdb.ColumnExpression(column)
                padded = duckdb.FunctionExpression(
                    "regexp_matches", name, duckdb.ConstantExpression("^[+-]?0[0-9]")
                )
                if text.filter(padded).limit(1).fetchall():
                    types[column] = "VARCHAR"
    return types


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
