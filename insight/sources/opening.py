"""From a catalog's names to open sources: their tables as expressions, their keys and their versions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import ibis

from insight.catalog import Catalog
from insight.elastic import ElasticSource
from insight.sources.clickhouse import ClickHouseSource
from insight.sources.copied import PREFIX, CopiedSource
from insight.sources.duck import DuckSource
from insight.sources.postgres import PostgresSource
from insight.sources.source import Place, Source
from insight.sources.spark import SparkSource
from kernel.errors import NotFound
from kernel.ids import fingerprint

#: what stands before `://` → what opens it
KINDS: dict[str, Callable[[Place], Source]] = {
    "duckdb": DuckSource,
    "parquet": DuckSource,
    "csv": DuckSource,
    "postgres": PostgresSource,
    "postgresql": PostgresSource,
    "clickhouse": ClickHouseSource,
    "clickhouses": ClickHouseSource,
    "chdb": ClickHouseSource,
    "spark": SparkSource,
    "elasticsearch": ElasticSource,
}
_FORMS = (
    "duckdb://FILE, parquet://FOLDER, csv://FOLDER, postgres://…, clickhouse://…, chdb://FOLDER, "
    "spark://HOST:PORT/FOLDER, spark-local[CORES]://FOLDER, "
    "spark-local-cluster[WORKERS,CORES,MEGABYTES]://FOLDER, elasticsearch://HOST:PORT, ibis+BACKEND://…"
)
_LOCAL_SPARK = re.compile(r"spark-local(-cluster)?\[[^\]/]*\]")


def place_of(catalog: Catalog, name: str) -> Place:
    """Raises BadInput when its address is not understood."""
    route = catalog.sources[name]
    kind, _, rest = route.url.partition("://")
    place = Place(
        name=name,
        kind=kind,
        rest=rest,
        folder=catalog.folder,
        timezone=route.timezone,
        refresh=route.refresh,
        where=catalog.file,
    )
    if _opener(kind) is None or not (rest or _LOCAL_SPARK.fullmatch(kind)):
        raise place.wrong(f"is not one of {_FORMS}")
    return place


def _opener(kind: str) -> Callable[[Place], Source] | None:
    if kind.startswith(PREFIX):
        return CopiedSource
    return SparkSource if _LOCAL_SPARK.fullmatch(kind) else KINDS.get(kind)


@contextmanager
def open_source(catalog: Catalog, name: str) -> Iterator[Source]:
    """A source of the catalog. Closed afterwards, so that writers may write."""
    with _opened(place_of(catalog, name)) as source:
        yield source


def check_source(catalog: Catalog, name: str) -> None:
    """Raises BadInput when its address is not understood or leads nowhere, Unavailable when it is silent."""
    with open_source(catalog, name) as source:
        source.tables()


def unbound_table(catalog: Catalog, name: str, table: str, field: str) -> Any:
    """The table as an unbound Ibis expression. Raises NotFound when the source has none such."""
    with open_source(catalog, name) as source:
        return ibis.table(source.schema(table, field), name=table)


def repeated_key(catalog: Catalog, name: str, table: str, key: str, field: str) -> object:
    """A value of `key` that has several rows in the table; None when each has one."""
    place = place_of(catalog, name)
    with _opened(place) as source:
        return _repeated_key(place, table, key, source.version(table, field), field)


def table_version(catalog: Catalog, name: str, table: str) -> str:
    """Of one table of a source; changes whenever its contents may have changed."""
    with open_source(catalog, name) as source:
        return source.version(table, f"sources.{name}")


def table_versions(catalog: Catalog) -> dict[str, str]:
    """`source.table` → version, of every table that the catalog names."""
    found = {}
    for name in sorted(catalog.sources):
        with open_source(catalog, name) as source:
            for table in catalog.tables(name):
                found[f"{name}.{table}"] = source.version(table, f"sources.{name}")
    return found


def source_fingerprint(catalog: Catalog) -> str:
    """Of the versions of all tables that the catalog names: 16 digits."""
    return fingerprint(sorted(table_versions(catalog).items()))


@contextmanager
def _opened(place: Place) -> Iterator[Source]:
    opener = _opener(place.kind)
    assert opener is not None  # noqa: S101  `place_of` looked
    source = opener(place)
    try:
        yield source
    finally:
        source.close()


@lru_cache(maxsize=4096)
def _repeated_key(place: Place, table: str, key: str, version: str, field: str) -> object:
    with _opened(place) as source:
        if isinstance(source, ElasticSource):
            return source.repeated_key(table, key, field)
        rows = ibis.table(source.schema(table, field), name=table)
        if key not in rows.columns:
            raise NotFound("column", key, rows.columns, where=place.where, field=field)
        rows = rows.select(key=rows[key])
        counted = rows.filter(rows.key.notnull()).group_by("key").agg(n=ibis._.count())
        found = source.frame(counted.filter(counted.n > 1).select("key").order_by("key").limit(1))
    return found["key"][0] if found.height else None
