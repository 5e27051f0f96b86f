"""ClickHouse: a server, or the engine in this process (chdb) on its data directory or on Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlsplit

import ibis
import polars as pl
import pyarrow as pa
import sqlglot as sg
import sqlglot.expressions as sge
from ibis.backends.sql.datatypes import ClickHouseType
from ibis.backends.sql.dialects import ClickHouse

from insight.sources.dialects import compiled
from insight.sources.duck import DuckSource
from insight.sources.given import with_ids
from insight.sources.idle import Idle
from insight.sources.source import Place, as_asked, needs, whole
from kernel.errors import BadInput, GrowthError
from kernel.ids import fingerprint

#: of every session: NULL where a join finds nothing, long lists of values, exactness before speed
_SETTINGS = {
    "join_use_nulls": 1,
    "max_query_size": 2**28,
    "max_ast_elements": 2**24,
    "max_expanded_ast_elements": 2**24,
    "max_ast_depth": 10_000,
    "max_parser_depth": 10_000,
    "transform_null_in": 0,
    "output_format_arrow_string_as_string": 1,
    "output_format_arrow_low_cardinality_as_dictionary": 0,
}
#: ClickHouse's errors that are about a value
_ABOUT_VALUES = ("CANNOT_CONVERT_TYPE", "CANNOT_PARSE_", "VALUE_IS_OUT_OF_RANGE", "ARGUMENT_OUT_OF_BOUND")
#: characters that make a pattern of a path
_PATTERN = set("*?{}[]")
_IDLE = Idle()


class ClickHouseSource:
    """`clickhouse://USER:PASSWORD@HOST:PORT/DATABASE` (`clickhouses` for TLS), or `chdb://FOLDER`.

    Of chdb: ClickHouse's own data directory (`?database=NAME` for another than `default`), else a folder of
    Parquet as `parquet://` reads it. Its engine has one data directory at a time in a process.
    """

    def __init__(self, place: Place) -> None:
        """Raises BadInput when a folder is not there, or a driver is not installed."""
        needs(place, "clickhouse_connect", "clickhouse")
        self.place = place
        self._open: Any = None
        self._key: object = None
        #: where the tables are files: who knows them
        self._folder: DuckSource | None = None
        if place.kind == "chdb":
            needs(place, "chdb", "chdb")
            rest, _, self._database = place.rest.partition("?database=")
            path = replace(place, rest=rest).path
            if not path.is_dir():
                raise place.wrong("leads to no folder")
            if not (path / "store").is_dir():
                self._folder = DuckSource(replace(place, kind="parquet", rest=rest))
            self._path = str(path.resolve())

    def tables(self) -> list[str]:
        if self._folder is not None:
            return self._folder.tables()
        found = self._rows("SELECT name FROM system.tables WHERE database = currentDatabase() ORDER BY name")
        return [str(row[0]) for row in found]

    def schema(self, table: str, field: str) -> Any:
        if self._folder is not None:
            return self._folder.schema(table, field)
        columns = self._rows(
            "SELECT name, type FROM system.columns "
            "WHERE database = currentDatabase() AND table = {t:String} ORDER BY position",
            table,
        )
        if not columns:
            raise self.place.unknown(table, self.tables(), field)
        return ibis.schema({name: kind for name, said in columns if (kind := _kind(said)) is not None})

    def frame(self, expression: Any) -> pl.DataFrame:
        return whole(self.batches(expression), expression)

    def frame_beside(self, expression: Any, given: dict[str, pa.Table]) -> pl.DataFrame:
        """The same where some of the expression's tables, of one column of ids, are given here."""
        return whole(self._answers(self._sql(expression, given), expression), expression)

    def batches(self, expression: Any) -> Iterator[pa.RecordBatch]:
        return self._answers(self._sql(expression), expression)

    def _answers(self, sql: str, expression: Any) -> Iterator[pa.RecordBatch]:
        with self._client() as client, client.query_arrow_stream(sql) as stream:
            for batch in stream:
                yield as_asked(batch, expression)

    def version(self, table: str, field: str) -> str:
        """Of a folder's files, else the table's active parts; merging parts counts as a change."""
        if self._folder is not None:
            return self._folder.version(table, field)
        known = self._rows(
            "SELECT engine, uuid, (SELECT groupArray((name, hash_of_all_files, rows)) FROM "
            "(SELECT * FROM system.parts WHERE active AND database = currentDatabase() "
            "AND table = {t:String} ORDER BY name)) "
            "FROM system.tables WHERE database = currentDatabase() AND name = {t:String}",
            table,
        )
        if not known:
            raise self.place.unknown(table, self.tables(), field)
        engine, uuid, parts = known[0]
        if not str(engine).endswith("MergeTree"):
            problem = (
                f"is a {engine} in ClickHouse, which does not say when it changes; name a MergeTree table"
            )
            raise BadInput(problem, where=self.place.where, field=field, value=table)
        return fingerprint([str(uuid), parts])

    def close(self) -> None:
        if self._open is not None:
            _IDLE.give(self._key, self._open)
            self._open = None

    def _sql(self, expression: Any, given: Mapping[str, pa.Table] | None = None) -> str:
        query = with_ids(compiled(expression, "clickhouse", self.place.timezone), given or {}, "clickhouse")
        if self._folder is not None:
            query = query.transform(self._as_files)
        return str(query.sql(dialect=ClickHouse))

    def _as_files(self, node: Any) -> Any:
        """Where a table is named: its files, naive times as the instants that they mean."""
        if not isinstance(node, sge.Table) or self._folder is None:
            return node
        assert isinstance(node.this, sge.Identifier)  # noqa: S101  Ibis names tables, and nothing else
        field = f"sources.{self.place.name}"
        paths = [str(each) for each in self._folder.files(node.name, field)]
        for path in paths:
            if _PATTERN & set(path):
                raise BadInput(
                    "has one of *?{}[] in its path, a pattern to ClickHouse",
                    where=self.place.where,
                    field=field,
                    value=path,
                )
        naive = [
            name
            for name, kind in self._folder.schema(node.name, field).items()
            if kind.is_timestamp() and kind.timezone is None
        ]
        changed = [sge.alias_(self._instant(name), name, quoted=True) for name in naive]
        star = sge.Star(**{"replace": changed}) if changed else sge.Star()
        folders: dict[str, list[str]] = {}
        for path in paths:
            folder, _, file = path.rpartition("/")
            folders.setdefault(folder, []).append(file)
        each = [
            sg.select(star).from_(_file(f"{folder}/{_either(names)}")) for folder, names in folders.items()
        ]
        whole = each[0] if len(each) == 1 else sg.union(*each, distinct=False)
        return whole.subquery(node.alias or node.name)

    def _instant(self, name: str) -> Any:
        """ClickHouse reads naive times of files as those of UTC: written down and read again in our zone."""
        wall = sg.func(
            "toString", sg.func("toDateTime64", sg.column(name, quoted=True), sge.convert(6), _text("UTC"))
        )
        return sg.func("toDateTime64", wall, sge.convert(6), _text(self.place.timezone))

    def _rows(self, sql: str, table: str = "") -> list[tuple[Any, ...]]:
        with self._client() as client:
            return [tuple(row) for row in client.query(sql, parameters={"t": table}).result_rows]

    @contextmanager
    def _client(self) -> Iterator[Any]:
        import clickhouse_connect
        from clickhouse_connect.driver.exceptions import ClickHouseError

        def connected() -> Any:
            if self.place.kind == "chdb":
                # an unused connection holds the engine to its data directory
                _IDLE.clear(lambda kept: kept[0].get("path") == where["path"])
            settings = {**_SETTINGS, "session_timezone": self.place.timezone}
            return clickhouse_connect.get_client(**where, settings=settings)

        try:
            if self._open is None:
                where = self._where(self.place.address())
                self._key = (where, self.place.timezone)
                self._open = _IDLE.take(self._key, connected)
            yield self._open
        except GrowthError:
            raise
        except (ClickHouseError, pa.ArrowException, OSError, EOFError) as error:
            if self._open is not None:
                self._open.close()
                self._open = None
            if any(f"({name}" in str(error) for name in _ABOUT_VALUES):
                raise self.place.misfit(error) from None
            raise self.place.silent(error) from None

    def _where(self, address: str) -> dict[str, Any]:
        if self.place.kind == "chdb":
            path = None if self._folder is not None else self._path
            return {"interface": "chdb", "path": path, "database": self._database or "default"}
        try:
            parts = urlsplit(address)
            secure = parts.scheme == "clickhouses"
            port = parts.port or (8443 if secure else 8123)
        except ValueError:
            raise self.place.wrong("is not clickhouse://USER:PASSWORD@HOST:PORT/DATABASE") from None
        return {
            "interface": "https" if secure else "http",
            "host": parts.hostname or "localhost",
            "port": port,
            "username": unquote(parts.username or "default"),
            "password": unquote(parts.password or ""),
            "database": unquote(parts.path.strip("/")) or "default",
        }


def _either(names: list[str]) -> str:
    return names[0] if len(names) == 1 else "{" + ",".join(names) + "}"


def _file(path: str) -> Any:
    return sge.Table(this=sge.Anonymous(this="file", expressions=[_text(path), _text("Parquet")]))


def _text(value: str) -> Any:
    return sge.Literal.string(value)


def _kind(said: str) -> Any:
    """ClickHouse's own name of a type as Ibis's; None for one that nothing here could use."""
    try:
        kind = ClickHouseType.from_string(said)
    except Exception:  # noqa: BLE001  Ibis passes on whatever its parser raises
        return None
    return None if kind.is_unknown() else kind
