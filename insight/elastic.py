"""Elasticsearch as a source: indices as tables, and what can be asked of one besides leaves.

An index's fields are columns under their full paths (`orders.amount`); text has no column, its keyword
sub-field has (`town.keyword`). Ibis does not know Elasticsearch: fields and events of such a source can be
asked in conditions (`insight.elastic_leaves`), and cannot be read whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import ibis
import polars as pl
import pyarrow as pa

from insight.catalog import ELASTIC, Catalog
from insight.elastic_http import Elastic
from insight.elastic_query import exists
from insight.sources.source import Place
from kernel.errors import BadInput, NotFound
from kernel.ids import fingerprint

#: Elasticsearch type → Ibis type
_TYPES = {
    **dict.fromkeys(("keyword", "constant_keyword", "wildcard"), "string"),
    **{"byte": "int8", "short": "int16", "integer": "int32", "long": "int64", "unsigned_long": "uint64"},
    **dict.fromkeys(("double", "scaled_float"), "float64"),
    **{"float": "float32", "half_float": "float32", "boolean": "boolean"},
    **dict.fromkeys(("date", "date_nanos"), "timestamp('UTC')"),
}


def is_elastic(catalog: Catalog, source: str) -> bool:
    """Whether a source of the catalog is Elasticsearch."""
    return catalog.sources[source].url.startswith(ELASTIC)


class ElasticSource:
    """One cluster, open for reading."""

    def __init__(self, place: Place) -> None:
        """Raises BadInput when the address is not understood."""
        self.place, self.server = place, Elastic(place)
        self._columns: dict[str, dict[str, str]] = {}

    def schema(self, table: str, field: str) -> Any:
        return ibis.schema({path: _TYPES[kind] for path, kind in self.columns(table, field).items()})

    def columns(self, table: str, field: str) -> dict[str, str]:
        """Path → Elasticsearch type, of what a condition can ask."""
        if table not in self._columns:
            if not table or table.startswith(("_", "-")) or set(table) & set("*,/?# "):
                raise BadInput(
                    "is not the name of one index", where=self.place.where, field=field, value=table
                )
            try:
                found = self.server.ask("GET", f"/{quote(table, safe='')}/_mapping")
            except NotFound:
                name = f"index of source {self.place.name}"
                raise NotFound(name, table, self.tables(), where=self.place.where, field=field) from None
            paths: dict[str, str] = {}
            for index in found.values():  # an alias may stand for several
                paths |= dict(_paths(index["mappings"].get("properties", {}), ""))
            self._columns[table] = {path: kind for path, kind in paths.items() if kind in _TYPES}
        return self._columns[table]

    def tables(self) -> list[str]:
        """Indices that are not the system's own."""
        found = self.server.ask("GET", "/_mapping")
        return sorted(name for name in found if not name.startswith("."))

    def frame(self, expression: Any) -> pl.DataFrame:
        del expression
        raise BadInput(
            "is Elasticsearch, which answers conditions only",
            where=self.place.where,
            field=f"sources.{self.place.name}",
        )

    def batches(self, expression: Any) -> Iterator[pa.RecordBatch]:
        self.frame(expression)
        yield from ()

    def version(self, table: str, field: str) -> str:
        """Of each shard's last change, and of how often the index has shown its changes."""
        self.columns(table, field)
        found = self.server.ask("GET", f"/{quote(table, safe='')}/_stats/docs,refresh?level=shards")
        return fingerprint(
            [
                [name, index.get("uuid"), sorted(_shards(index["shards"])), index["total"].get("refresh")]
                for name, index in sorted(found["indices"].items())
            ]
        )

    def repeated_key(self, table: str, key: str, field: str) -> object:
        """A value of `key` that has several documents; None when each has one."""
        if key not in self.columns(table, field):
            raise NotFound("column", key, self.columns(table, field), where=self.place.where, field=field)
        script = {"source": "params.n > 1", "params": {}}
        many = {"many": {"bucket_selector": {"buckets_path": {"n": "_count"}, "script": script}}}
        found = self.server.buckets(table, exists(key), {"key": key}, many)
        return next((bucket["key"]["key"] for bucket in found), None)

    def close(self) -> None:
        self.server.close()


def _paths(properties: dict[str, Any], above: str) -> Iterator[tuple[str, str]]:
    for name, said in properties.items():
        path = f"{above}{name}"
        if "properties" in said:
            yield from _paths(said["properties"], f"{path}.")
            continue
        yield path, said.get("type", "object")
        yield from _paths(said.get("fields", {}), f"{path}.")


def _shards(shards: dict[str, list[dict[str, Any]]]) -> Iterator[list[Any]]:
    for number, copies in shards.items():
        for copy in copies:
            if copy.get("routing", {}).get("primary", True):
                yield [number, copy.get("seq_no", {}).get("max_seq_no"), copy.get("docs", {}).get("count")]
