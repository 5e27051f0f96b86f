"""One group, the same YAML, on a Spark cluster of two workers and on DuckDB: the same set of users."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.audience_data import AT, users
from benchmarks.case import Case, Line
from insight.api import Group, Population, parse_catalog
from insight.sources.opening import open_source
from insight.sources.spark_session import close_session

_MASTER = "spark-local-cluster[2,1,1024]"
_GROUP = """
kind: group
name: worth_a_call
where:
  all:
    - any:
        - {field: user.city, op: in, value: [city_0, city_7, city_21]}
        - {field: user.vip, op: eq, value: true}
    - {field: user.spend, op: ge, value: 60}
    - {field: user.last_seen, op: lt, value: 2025-05-01}
    - not: {field: user.sms_ok, op: eq, value: false}
"""
_TYPES = {"city": "string", "vip": "boolean", "spend": "decimal", "last_seen": "date", "sms_ok": "boolean"}


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """Ours is the cluster; times are of one population and one group, cold, Spark itself being up."""
    folder = users(size, seed)
    group = Group.model_validate(yaml.safe_load(_GROUP))
    begun = time.perf_counter()
    there = _catalog(folder, f"{_MASTER}://{folder}")
    try:
        with open_source(there, "shop") as source:
            source.tables()
        started = time.perf_counter() - begun
        spark, seconds_there, read = _members(there, group)
    finally:
        close_session()
    duckdb, seconds_here, read_here = _members(_catalog(folder, f"parquet://{folder}"), group)
    assert spark == duckdb
    return [
        Line(
            size=size,
            who=who,
            ratio=len(found) / len(spark),
            times=took / seconds_there,
            seconds=took,
            notes={"members": f"{len(found):,}", "of it, who exists": f"{reading:.1f}", "start": up},
        )
        for who, found, took, reading, up in (
            ("ours", spark, seconds_there, read, f"{started:.1f}"),
            ("DuckDB", duckdb, seconds_here, read_here, "–"),
        )
    ]


def _members(catalog: Any, group: Group) -> tuple[set[int], float, float]:
    """Ids of the members, seconds of it all, and of finding out who exists."""
    begun = time.perf_counter()
    population = Population(catalog, AT)
    read = time.perf_counter() - begun
    members = population.members(group)
    took = time.perf_counter() - begun
    return set(population.users(members).to_list()), took, read


def _catalog(folder: Path, url: str) -> Any:
    return parse_catalog(
        {
            "sources": {"shop": {"url": url}},
            "entities": {"user": {"source": "shop", "table": "users", "key": "user_id"}},
            "fields": {
                f"user.{name}": {"table": "users", "column": name, "type": kind}
                for name, kind in _TYPES.items()
            },
        },
        folder=folder,
    )


CASE = Case(
    about=(
        "A group of five statements over users with 20 attributes in one Parquet file, asked with the same "
        f"catalog of a Spark cluster of two workers with one core each (`{_MASTER}`) and of DuckDB in this "
        "process; both give the same set. Cold: nothing is known of the users, no leaf is cached. The start "
        "of Spark stands in a column of its own."
    ),
    measure="members",
    sizes=(20_000_000,),
    smoke=20_000,
    run=run,
    packages=("pyspark", "duckdb", "ibis-framework"),
)
