"""At least 3 orders in 90 days and none in 7: cold, and the next day when only its lines are new."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import chdb
import duckdb
import polars as pl

from benchmarks.audience_data import AT, orders
from benchmarks.audiences import catalog_of
from benchmarks.case import Case, Line
from insight.api import LeafCache, Population, UserDictionary, parse_condition

DAY = timedelta(days=1)
WHERE: dict[str, Any] = {
    "all": [
        {"event": "order", "agg": "count", "within": "90d", "op": "ge", "value": 3},
        {"not": {"event": "order", "agg": "count", "within": "7d", "op": "ge", "value": 1}},
    ]
}
ORDER = {"table": "orders", "user": "user_id", "time": "ordered_at", "late": "1d"}
#: orders a user
EACH = 10


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size` orders by a tenth as many users; every answer knows only what lies on disk."""
    folder = orders(size // EACH, size, seed)
    kept = Path(tempfile.mkdtemp(prefix="growth-slots-"))
    try:
        _population(folder, kept, AT - DAY)
        count, cold = _timed(lambda: _ask(folder, kept, AT - DAY))
        path = folder / "orders.parquet"
        os.utime(path, ns=(time.time_ns(), time.time_ns()))  # as a file that was written anew is
        after, next_day = _timed(lambda: _ask(folder, kept, AT))
        held = sum(each.stat().st_size for each in (kept / "leaves").iterdir())
        fresh = Path(tempfile.mkdtemp(prefix="growth-slots-"))
        assert _ask(folder, fresh, AT) == after, "from slots and anew are the same"
        shutil.rmtree(fresh)
    finally:
        shutil.rmtree(kept)
    lines = [
        Line(
            size=size,
            who="ours",
            ratio=1.0,
            times=1.0,
            seconds=cold,
            notes={"count": count, "kept MB": f"{held / 1e6:.0f}"},
        ),
        Line(
            size=size,
            who="ours, the next day",
            ratio=1.0,
            times=next_day / cold,
            seconds=next_day,
            notes={"count": after, "faster than cold": f"{cold / next_day:.1f}"},
        ),
    ]
    for who, ask in _peers(path, AT - DAY).items():
        found, took = min((_timed(ask) for _ in range(2)), key=lambda each: each[1])
        lines.append(
            Line(
                size=size,
                who=who,
                ratio=found / max(count, 1),
                times=took / cold,
                seconds=took,
                notes={"count": found},
            )
        )
    return lines


def _population(folder: Path, kept: Path, at: datetime) -> Population:
    cache, dictionary = LeafCache(kept / "leaves"), UserDictionary(kept / "dictionary")
    known = catalog_of(folder, fields=False, events={"order": {"source": "people", **ORDER}})
    return Population(known, at, cache=cache, dictionary=dictionary)


def _ask(folder: Path, kept: Path, at: datetime) -> int:
    return len(_population(folder, kept, at).members(parse_condition(WHERE)))


def _peers(path: Path, at: datetime) -> dict[str, Callable[[], int]]:
    old, recent = at - 90 * DAY, at - 7 * DAY
    engine = duckdb.connect()
    ask: Any = chdb.query
    engine.execute("SET TimeZone = 'UTC'")

    def in_duckdb() -> int:
        sql = (
            "SELECT count(*) FROM (SELECT user_id, count(*) n, count(*) FILTER (ordered_at > $recent) r "  # noqa: S608  our own path
            f"FROM '{path}' WHERE ordered_at > $old AND ordered_at <= $at GROUP BY user_id) "
            "WHERE n >= 3 AND r = 0"
        )
        return int(engine.execute(sql, {"recent": recent, "old": old, "at": at}).fetchall()[0][0])

    def in_polars() -> int:
        when = pl.col("ordered_at")
        counted = (
            pl.scan_parquet(path)
            .filter((when > old) & (when <= at))
            .group_by("user_id")
            .agg(n=pl.len(), r=(when > recent).sum())
        )
        met = counted.filter((pl.col("n") >= 3) & (pl.col("r") == 0))
        return int(met.select(pl.len()).collect(engine="streaming").item())

    def in_chdb() -> int:
        def instant(time: datetime) -> str:
            return f"parseDateTime64BestEffort('{time.isoformat()}', 6)"

        sql = (
            f"SELECT count() FROM (SELECT user_id, count() n, countIf(ordered_at > {instant(recent)}) r "  # noqa: S608
            f"FROM file('{path}') WHERE ordered_at > {instant(old)} AND ordered_at <= {instant(at)} "
            "GROUP BY user_id) WHERE n >= 3 AND r = 0"
        )
        return int(str(ask(sql, "CSV")))

    return {"DuckDB": in_duckdb, "Polars": in_polars, "chdb": in_chdb}


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    found = work()
    return found, time.perf_counter() - begun


CASE = Case(
    about=(
        "At least 3 orders in 90 days and none in 7. The next day the file is another one, lines may come "
        "a day late, so that the last two days are read again with the new one; every answer is a new "
        "population that knows only what lies on disk. Orders lie in the order of their time, as appended."
    ),
    measure="count",
    sizes=(10_000_000, 100_000_000),
    smoke=50_000,
    run=run,
    packages=("duckdb", "polars", "chdb", "pyroaring", "numba"),
)
