"""The oracle's worlds on real engines: loaded as the catalog finds them there, each table natively typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import polars as pl

NEW_YORK = "America/New_York"
#: source → its tables
TABLES = {"shop": ("users", "products", "traits", "lines"), "web": ("profile", "views")}


def frames(folder: Path) -> dict[tuple[str, str], pl.DataFrame]:
    """(source, table) → what `condition_worlds.write` wrote."""
    return {
        (source, table): pl.read_parquet(folder / source / f"{table}.parquet")
        for source, tables in TABLES.items()
        for table in tables
    }


class DuckDB:
    """Two database files."""

    def load(self, folder: Path) -> dict[str, str]:
        for source in TABLES:
            with duckdb.connect(str(folder / f"{source}.duckdb")) as connection:
                for (place, table), frame in frames(folder).items():
                    if place == source:
                        connection.register("loaded", frame.to_arrow())
                        connection.table("loaded").create(table)
                        connection.unregister("loaded")
        return {source: f"duckdb://{source}.duckdb" for source in TABLES}


class Postgres:
    """Two schemas of one database."""

    def __init__(self, uri: str) -> None:
        from adbc_driver_postgresql import dbapi

        self.uri = uri
        self.connection = dbapi.connect(uri, autocommit=True)
        with self.connection.cursor() as cursor:
            for source in TABLES:
                cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {source}")

    def load(self, folder: Path) -> dict[str, str]:
        with self.connection.cursor() as cursor:
            for (source, table), frame in frames(folder).items():
                cursor.execute(f"DROP TABLE IF EXISTS {source}.{table}")
                narrow = frame.with_columns(pl.col(pl.Datetime("ns")).dt.cast_time_unit("us"))
                cursor.adbc_ingest(table, narrow.to_arrow(), mode="create", db_schema_name=source)
        joined = "&" if "?" in self.uri else "?"
        return {source: f"{self.uri}{joined}options=-csearch_path%3D{source}" for source in TABLES}

    def close(self) -> None:
        self.connection.close()


_CLICKHOUSE = {
    pl.Int64: "Nullable(Int64)",
    pl.Int32: "Nullable(Int32)",
    pl.Int16: "Nullable(Int16)",
    pl.String: "LowCardinality(Nullable(String))",
    pl.Float64: "Nullable(Float64)",
    pl.Boolean: "Nullable(Bool)",
    pl.Date: "Nullable(Date32)",
    pl.Datetime: "Nullable(DateTime64(6, 'Asia/Kathmandu'))",
}


class ClickHouse:
    """Two databases of the embedded engine's data directory. It has instants only, no naive times."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with self._client() as client:
            for source in TABLES:
                client.command(f"CREATE DATABASE IF NOT EXISTS {source}")

    def load(self, folder: Path) -> dict[str, str]:
        with self._client() as client:
            for (source, table), frame in frames(folder).items():
                columns = ", ".join(
                    f"{name} {_CLICKHOUSE[type(kind)]}" for name, kind in frame.schema.items()
                )
                client.command(f"DROP TABLE IF EXISTS {source}.{table} SYNC")
                client.command(f"CREATE TABLE {source}.{table} ({columns}) ENGINE MergeTree ORDER BY tuple()")
                whole = frame.with_columns(
                    pl.col(pl.Datetime("ns")).dt.cast_time_unit("us").dt.replace_time_zone(NEW_YORK)
                ).with_columns(pl.col(pl.Datetime("us", "*")).dt.convert_time_zone("UTC"))
                if whole.height:
                    client.insert_arrow(table, whole.to_arrow(), database=source)
        return {source: f"chdb://{self.folder}?database={source}" for source in TABLES}

    def _client(self) -> Any:
        import clickhouse_connect

        from insight.sources.clickhouse import _IDLE

        _IDLE.clear()  # an unused connection holds the engine to another directory, or to none
        return clickhouse_connect.get_client(interface="chdb", path=str(self.folder))


class Spark:
    """Folders of Parquet, read by a session in this process."""

    def load(self, folder: Path) -> dict[str, str]:
        for (source, table), frame in frames(folder).items():
            narrow = frame.with_columns(pl.col(pl.Datetime("ns")).dt.cast_time_unit("us"))
            narrow.write_parquet(folder / source / f"{table}.parquet")
        return {source: f"spark-local[2]://{source}" for source in TABLES}
