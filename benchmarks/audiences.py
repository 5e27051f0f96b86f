"""Counting a group of five leaves over users' attributes: cold from Parquet, and with its leaves known."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chdb
import duckdb
import polars as pl

from benchmarks.audience_data import AT, users
from benchmarks.case import Case, Line
from insight.api import Catalog, LeafCache, Population, UserDictionary, parse_catalog, parse_condition

CITIES = ("city_1", "city_5", "city_17")
WHERE: dict[str, Any] = {
    "all": [
        {"field": "user.city", "op": "in", "value": list(CITIES)},
        {"field": "user.age", "op": "between", "value": [25, 44]},
        {
            "any": [
                {"field": "user.spend", "op": "gt", "value": 100},
                {"field": "user.vip", "op": "eq", "value": True},
            ]
        },
        {"not": {"field": "user.push_ok", "op": "eq", "value": True}},
    ]
}
#: the same for those who speak SQL
SQL = f"city IN {CITIES} AND age BETWEEN 25 AND 44 AND (spend > 100 OR vip) AND NOT push_ok"
TYPES = {
    "city": "string",
    "tier": "string",
    "device": "string",
    "age": "integer",
    "orders": "integer",
    "points": "integer",
    "spend": "decimal",
    "basket": "decimal",
    "vip": "boolean",
    "push_ok": "boolean",
}


def catalog_of(folder: Path, **more: Any) -> Catalog:
    """Users' attributes as `users` makes them."""
    fields = {
        f"user.{name}": {"table": "users", "column": name, "type": kind} for name, kind in TYPES.items()
    }
    raw = {
        "sources": {"people": {"url": f"parquet://{folder}"}, **more.get("sources", {})},
        "entities": {"user": {"source": "people", "table": "users", "key": "user_id"}},
        "fields": fields if more.get("fields", True) else {},
        "events": more.get("events", {}),
    }
    return parse_catalog(raw, folder=folder)


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """Ours cold, ours with known leaves, then the peers on the same file, best of two."""
    folder = users(size, seed)
    kept = Path(tempfile.mkdtemp(prefix="growth-leaves-"))
    try:
        condition = parse_condition(WHERE)
        begun = time.perf_counter()
        population = _population(folder, kept)
        first = time.perf_counter() - begun
        count, cold = _timed(lambda: len(population.members(condition)))
        shutil.rmtree(kept / "leaves")  # once more, as the peers
        population = _population(folder, kept)
        cold = min(cold, _timed(lambda: population.members(condition))[1])
        _, first_known = _timed(lambda: population.estimate(condition))
        time.sleep(min(size / 1e7, 1.0))  # behind the first count leaves are laid out for the next
        known = statistics.median(_timed(lambda: population.estimate(condition))[1] for _ in range(15))
        again, opened = _timed(lambda: _population(folder, kept))
        assert again.estimate(condition).count == count
        leaves = sorted(path.stat().st_size for path in (kept / "leaves").iterdir())
        lookups = population.dictionary.users(population.universe[:: max(size // 1_000_000, 1)])
        members = population.members(condition)
        _, asked = _timed(lambda: population.dictionary.numbers(lookups))
        _, one_by_one = _timed(lambda: sum(number in members for number in range(min(size, 1_000_000))))
        notes: dict[str, object] = {
            "count": count,
            "first, with its dictionary s": f"{first:.1f}",
            "opened again ms": f"{1000 * opened:.0f}",
            "largest leaf MB": f"{leaves[-1] / 1e6:.2f}",
            "ids looked up M/s": f"{len(lookups) / asked / 1e6:.0f}",
            "number in set M/s": f"{min(size, 1_000_000) / one_by_one / 1e6:.1f}",
        }
    finally:
        shutil.rmtree(kept)
    lines = [Line(size=size, who="ours", ratio=1.0, times=1.0, seconds=cold, notes=notes)]
    lines.append(
        Line(
            size=size,
            who="ours, leaves known",
            ratio=1.0,
            times=known / cold,
            seconds=known,
            notes={"ms": f"{1000 * known:.2f}", "first time ms": f"{1000 * first_known:.1f}"},
        )
    )
    for who, ask in _peers(folder / "users.parquet").items():
        found, took = min((_timed(ask) for _ in range(2)), key=lambda each: each[1])
        told = {"count": found, "times ours with leaves known": f"{took / known:.0f}"}
        lines.append(
            Line(size=size, who=who, ratio=found / max(count, 1), times=took / cold, seconds=took, notes=told)
        )
    return lines


def _population(folder: Path, kept: Path) -> Population:
    cache, dictionary = LeafCache(kept / "leaves"), UserDictionary(kept / "dictionary")
    return Population(catalog_of(folder), AT, cache=cache, dictionary=dictionary)


def _peers(path: Path) -> dict[str, Callable[[], int]]:
    column = pl.col
    test = (
        column("city").is_in(CITIES)
        & column("age").is_between(25, 44)
        & ((column("spend") > 100) | column("vip"))
        & ~column("push_ok")
    )
    engine = duckdb.connect()
    ask: Any = chdb.query

    def in_duckdb() -> int:
        return int(engine.execute(f"SELECT count(*) FROM '{path}' WHERE {SQL}").fetchall()[0][0])  # noqa: S608  our own path

    def in_polars() -> int:
        return int(pl.scan_parquet(path).filter(test).select(pl.len()).collect(engine="streaming").item())

    def in_chdb() -> int:
        return int(str(ask(f"SELECT count() FROM file('{path}') WHERE {SQL}", "CSV")))  # noqa: S608  our own path

    return {"DuckDB": in_duckdb, "Polars": in_polars, "chdb": in_chdb}


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    found = work()
    return found, time.perf_counter() - begun


CASE = Case(
    about=(
        "How many users fulfil five tests joined by and, or, not: 20 columns of Parquet, which the system "
        "caches for everyone. `ours` reads the file, with the dictionary of users known and no leaf."
    ),
    measure="count",
    sizes=(10_000_000, 100_000_000),
    smoke=20_000,
    run=run,
    packages=("duckdb", "polars", "chdb", "pyroaring", "numba"),
)
