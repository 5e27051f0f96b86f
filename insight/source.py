"""Sources: DuckDB files and folders of Parquet or CSV, opened for reading only, one at a time.

Queries run on our own DuckDB connection, one source each, so that no query can mix up two. The
session's zone is the source's, so that a naive time becomes the instant it means.
"""

from __future__ import annotations

import glob
import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import ibis
import polars as pl
from ibis.formats.pyarrow import PyArrowType

from insight.catalog import Catalog
from kernel.errors import BadInput, NotFound, Unavailable
from kernel.ids import fingerprint

KINDS = ("duckdb", "parquet", "csv")
#: a file as it was when last looked at: path, modification time (ns), size (bytes)
Stamp = tuple[str, int, int]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a source is."""

    name: str
    #: one of KINDS
    kind: str
    #: the database file or the folder
    path: Path
    #: IANA zone of its naive times
    timezone: str
    #: catalog file, for messages
    where: str

    def files(self) -> dict[str, Path]:
        """Table → file, of a folder."""
        return {path.stem: path for path in sorted(self.path.glob(f"*.{self.kind}")) if path.is_file()}

    def file(self, table: str, field: str) -> Path:
        """The file that holds a table. Raises NotFound."""
        if self.kind == "duckdb":
            return self.path
        files = self.files()
        if table not in files:
            raise NotFound(f"table of source {self.name}", table, files, where=self.where, field=field)
        return files[table]


def source_of(catalog: Catalog, name: str) -> Source:
    """Raises BadInput when its address is not understood or leads nowhere."""
    route, field = catalog.sources[name], f"sources.{name}.url"
    kind, _, rest = route.url.partition("://")
    if kind not in KINDS or not rest:
        raise BadInput(
            "is not duckdb://FILE, parquet://FOLDER or csv://FOLDER",
            where=catalog.file,
            field=field,
            value=route.url,
        )
    path = catalog.folder / rest
    if not (path.is_file() if kind == "duckdb" else path.is_dir()):
        lacking = "file" if kind == "duckdb" else "folder"
        raise BadInput(f"leads to no {lacking}", where=catalog.file, field=field, value=route.url)
    return Source(name=name, kind=kind, path=path, timezone=route.timezone, where=catalog.file)


class Reader:
    """One source, open for reading. For one thread, for a short while."""

    def __init__(self, source: Source, connection: duckdb.DuckDBPyConnection) -> None:
        self.source, self._connection = source, connection

    def frame(self, expression: Any) -> pl.DataFrame:
        """What an unbound expression over this source's tables gives; instants in UTC.

        Raises Unavailable when the source does not answer, BadInput when a value does not fit its type.
        """
        sql = ibis.to_sql(expression, dialect="duckdb")
        try:
            frame = pl.DataFrame(pl.from_arrow(self._connection.sql(sql).to_arrow_table()))
        except (duckdb.ConversionException, duckdb.OutOfRangeException) as error:
            raise BadInput(
                f"holds a value that does not fit its type: {_first_line(error)}",
                where=self.source.where,
                field=f"sources.{self.source.name}",
            ) from None
        except duckdb.Error as error:
            raise Unavailable(f"source {self.source.name!r} did not answer: {_first_line(error)}") from error
        zoned = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime)]
        return frame.with_columns(pl.col(zoned).dt.convert_time_zone("UTC")) if zoned else frame


@contextmanager
def open_source(catalog: Catalog, name: str) -> Iterator[Reader]:
    """A reader of the tables that the catalog names. Closed afterwards, so that writers may write."""
    with _reading(source_of(catalog, name), catalog.tables(name)) as reader:
        yield reader


def unbound_table(catalog: Catalog, name: str, table: str, field: str) -> Any:
    """The table as an unbound Ibis expression. Raises NotFound when the source has none such."""
    source = source_of(catalog, name)
    return ibis.table(_schema(source, table, _stamps(source.file(table, field)), field), name=table)


def repeated_key(catalog: Catalog, name: str, table: str, key: str, field: str) -> object:
    """A value of `key` that has several rows in the table; None when each has one."""
    source = source_of(catalog, name)
    return _repeated_key(source, table, key, _stamps(source.file(table, field)), field)


def source_fingerprint(catalog: Catalog) -> str:
    """Of the names, sizes and contents of all files that the catalog reads: 16 digits."""
    found = []
    for name in sorted(catalog.sources):
        source = source_of(catalog, name)
        for path in sorted({source.file(table, f"sources.{name}") for table in catalog.tables(name)}):
            for stamp in _stamps(path):
                found.append([name, Path(stamp[0]).name, stamp[2], _content(stamp)])
    return fingerprint(found)


def _stamps(path: Path) -> tuple[Stamp, ...]:
    """Of the file, and of a database's log of writes not yet in it."""
    both = (path, path.with_name(f"{path.name}.wal"))
    return tuple((str(one), one.stat().st_mtime_ns, one.stat().st_size) for one in both if one.exists())


@lru_cache(maxsize=4096)
def _content(stamp: Stamp) -> str:
    with Path(stamp[0]).open("rb") as handle:
        return hashlib.file_digest(handle, "blake2b").hexdigest()[:32]


@contextmanager
def _reading(source: Source, tables: Iterable[str]) -> Iterator[Reader]:
    with _connected(source) as connection:
        if source.kind != "duckdb":
            for table in tables:
                relation = _relation(source, connection, table, f"sources.{source.name}")
                connection.execute(f"CREATE TEMP VIEW {_quoted(table)} AS {relation.sql_query()}")
        yield Reader(source, connection)


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


@contextmanager
def _connected(source: Source) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection of this source's own, in its zone: to its database, or to an empty one for a folder."""
    try:
        if source.kind == "duckdb":
            connection = duckdb.connect(str(source.path), read_only=True, config=_settings())
        else:
            connection = _in_memory().cursor()
    except (duckdb.IOException, duckdb.ConnectionException, duckdb.CatalogException) as error:
        raise Unavailable(f"source {source.name!r} cannot be opened: {_first_line(error)}") from error
    try:
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET TimeZone = ?", [source.timezone])
        yield connection
    finally:
        connection.close()


def _relation(
    source: Source, connection: duckdb.DuckDBPyConnection, table: str, field: str
) -> duckdb.DuckDBPyRelation:
    """The table as its file or database has it. Raises NotFound, or BadInput when it is unreadable."""
    path = source.file(table, field)
    try:
        if source.kind == "parquet":
            return connection.read_parquet(glob.escape(str(path)))
        if source.kind == "csv":
            types = _csv_types(_stamps(path)[0])
            return connection.read_csv(glob.escape(str(path)), header=True, dtype=types)
        known = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'"
        ).fetchall()
        if table not in {row[0] for row in known}:
            names = [row[0] for row in known]
            raise NotFound(f"table of source {source.name}", table, names, where=source.where, field=field)
        return connection.table(_quoted(table))
    except duckdb.Error as error:
        raise BadInput(
            f"cannot be read: {_first_line(error)}", where=source.where, field=field, value=str(path.name)
        ) from None


@lru_cache(maxsize=4096)
def _schema(source: Source, table: str, stamps: tuple[Stamp, ...], field: str) -> Any:
    """Column → type, remembered until the file changes (`stamps`)."""
    with _connected(source) as connection:
        arrow = _relation(source, connection, table, field).limit(0).to_arrow_table().schema
    types = {}
    for column in arrow:
        try:
            types[column.name] = PyArrowType.to_ibis(column.type)
        except (TypeError, ValueError, KeyError, NotImplementedError):
            continue  # a type that nothing here could use: the column counts as unknown
    return ibis.schema(types)


@lru_cache(maxsize=4096)
def _repeated_key(source: Source, table: str, key: str, stamps: tuple[Stamp, ...], field: str) -> object:
    rows = ibis.table(_schema(source, table, stamps, field), name=table)
    if key not in rows.columns:
        raise NotFound("column", key, rows.columns, where=source.where, field=field)
    rows = rows.select(key=rows[key])
    counted = rows.filter(rows.key.notnull()).group_by("key").agg(n=ibis._.count())
    with _reading(source, [table]) as reader:
        found = reader.frame(counted.filter(counted.n > 1).select("key").order_by("key").limit(1))
    return found["key"][0] if found.height else None


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
