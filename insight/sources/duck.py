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

from insight.sources.dialects import to_sql
from insight.sources.files import Stamp, files_version, parts, stamps
from insight.sources.source import Place, in_utc
from kernel.errors import BadInput, GrowthError, Unavailable

#: rows in one piece of a streamed answer
BATCH = 1_000_000
_TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'main' ORDER BY ALL"
#: names that are no file's
_NOWHERE = ("", ".", "..")


class DuckSource:
    """A DuckDB file (`duckdb`), or a folder of Parquet or CSV files (`parquet`, `csv`)."""

    def __init__(self, place: Place) -> None:
        """Raises BadInput when it leads nowhere."""
        self.place = place
        self._open: duckdb.DuckDBPyConnection | None = None
        self._viewed: set[str] = set()
        if not (place.path.is_file() if place.kind == "duckdb" else place.path.is_dir()):
            raise place.wrong(f"leads to no {'file' if place.kind == 'duckdb' else 'folder'}")

    def tables(self) -> list[str]:
        place = self.place
        if place.kind == "duckdb":
            with self._translated():
                return [row[0] for row in self._connection.execute(_TABLES).fetchall()]
        suffix, found = f".{place.kind}", set()
        for each in place.path.iterdir():
            if each.name[0] not in "_." and (each.is_dir() or each.suffix == suffix):
                found.add(each.stem if each.suffix == suffix else each.name)
        return sorted(found)

    def schema(self, table: str, field: str) -> Any:
        return _schema(self.place, table, stamps(self.files(table, field)), field)

    def frame(self, expression: Any) -> pl.DataFrame:
        with self._translated():
            return in_utc(pl.DataFrame(pl.from_arrow(self._relation(expression).to_arrow_table())))

    def frame_beside(self, expression: Any, given: dict[str, pa.Table]) -> pl.DataFrame:
        """The same where some of the expression's tables are given here."""
        for name, table in given.items():
            self._connection.register(name, table)
            self._viewed.add(name)
        try:
            return self.frame(expression)
        finally:
            for name in given:
                self._connection.unregister(name)
                self._viewed.discard(name)

    def batches(self, expression: Any) -> Iterator[pa.RecordBatch]:
        with self._translated():
            yield from self._relation(expression).to_arrow_reader(BATCH)

    def version(self, table: str, field: str) -> str:
        if self.place.kind == "duckdb":
            self.schema(table, field)  # so that a table that is not there has no version
        return files_version(self.files(table, field), self.place.path.parent)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def relation(self, table: str, field: str) -> duckdb.DuckDBPyRelation:
        """The table as its file or database has it. Raises NotFound, or BadInput when it is unreadable."""
        place, connection, files = self.place, self._connection, self.files(table, field)
        try:
            if place.kind == "parquet":
                return connection.read_parquet(_escaped(files), hive_partitioning=_is_hive(files, place))
            if place.kind == "csv":
                types, hive = _csv_types(stamps(files)), _is_hive(files, place)
                return connection.read_csv(_escaped(files), header=True, dtype=types, hive_partitioning=hive)
            known = self.tables()
            if table not in known:
                raise place.unknown(table, known, field)
            return connection.table(_quoted(table))
        except duckdb.Error as error:
            problem = f"cannot be read: {place.said(error)}"
            raise BadInput(problem, where=place.where, field=field, value=files[0].name) from None

    def _relation(self, expression: Any) -> duckdb.DuckDBPyRelation:
        if self.place.kind != "duckdb":
            for table in {each.name for each in expression.op().find(ops.UnboundTable)} - self._viewed:
                sql = self.relation(table, f"sources.{self.place.name}").sql_query()
                self._connection.execute(f"CREATE TEMP VIEW {_quoted(table)} AS {sql}")
                self._viewed.add(table)
        return self._connection.sql(to_sql(expression, "duckdb"))

    def files(self, table: str, field: str) -> list[Path]:
        """The files that hold a table, a database with its log of writes not yet in it.

        Raises NotFound, and BadInput when a folder has the table as a file and as a folder of files.
        """
        place = self.place
        if place.kind == "duckdb":
            return [place.path, place.path.with_name(f"{place.path.name}.wal")]
        found: list[Path] = []
        for path in (place.path / f"{table}.{place.kind}", place.path / table):
            if table not in _NOWHERE and path.parent == place.path and path.exists():
                if found:
                    raise BadInput("is both a file and a folder", where=place.where, field=field, value=table)
                found = [path] if path.is_file() else parts(path, place.kind)
        if not found:
            raise place.unknown(table, self.tables(), field)
        return found

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
                said = f"source {self.place.name!r} cannot be opened: {self.place.said(error)}"
                raise Unavailable(said) from error
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
            raise self.place.misfit(error) from None
        except duckdb.Error as error:
            raise self.place.silent(error) from error


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
def _csv_types(stamped: tuple[Stamp, ...]) -> dict[str, str]:
    """Column → type, judged from whole files. Digits after a leading zero are text, not a number."""
    paths = _escaped([Path(each[0]) for each in stamped])
    with _in_memory().cursor() as connection:
        sniffed = connection.read_csv(paths, header=True, sample_size=-1, hive_partitioning=False)
        types = {column: str(kind) for column, kind in zip(sniffed.columns, sniffed.types, strict=True)}
        text = connection.read_csv(paths, header=True, all_varchar=True, hive_partitioning=False)
        for column, kind in types.items():
            if kind in ("BIGINT", "HUGEINT", "DOUBLE"):
                name = duckdb.ColumnExpression(column)
                padded = duckdb.FunctionExpression(
                    "regexp_matches", name, duckdb.ConstantExpression("^[+-]?0[0-9]")
                )
                if text.filter(padded).limit(1).fetchall():
                    types[column] = "VARCHAR"
    return types


def _escaped(files: list[Path]) -> Any:
    return [glob.escape(str(each)) for each in files]


def _is_hive(files: list[Path], place: Place) -> bool:
    """Whether folders below the table's own are named COLUMN=VALUE."""
    return any("=" in name for each in files for name in each.relative_to(place.path).parts[1:-1])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
