"""Orders with an id: at least 3 different ones in 90 days and none in 7: cold, and the next day."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from benchmarks.audience_data import AT, orders
from benchmarks.audiences import catalog_of
from benchmarks.case import Case, Line
from benchmarks.windows import EACH, ORDER, WHERE
from insight.api import LeafCache, Population, UserDictionary, parse_condition

DAY = timedelta(days=1)


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size` orders by a tenth as many users, with ids that rise with time, and with ids in no order."""
    folder = orders(size // EACH, size, seed)
    lines: list[Line] = []
    for what, column in (("", "order_id"), (", ids in no order", "mixed_id")):
        mixed = _mixed(folder)
        kept = Path(tempfile.mkdtemp(prefix="growth-slots-"))
        try:
            _population(mixed, column, kept, AT - DAY)
            count, cold = _timed(lambda: _ask(mixed, column, kept, AT - DAY))  # noqa: B023  asked at once
            path = mixed / "orders.parquet"
            os.utime(path, ns=(time.time_ns(), time.time_ns()))  # as a file that was written anew is
            after, next_day = _timed(lambda: _ask(mixed, column, kept, AT))  # noqa: B023
            held = sum(each.stat().st_size for each in (kept / "leaves").iterdir())
        finally:
            shutil.rmtree(kept)
        peers = _peers(path, column)
        lines += [
            Line(size=size, who=f"ours{what}", ratio=1.0, times=1.0, seconds=cold,
                 notes={"count": count, "kept MB": f"{held / 1e6:.0f}"}),
            Line(size=size, who=f"ours{what}, the next day", ratio=1.0, times=next_day / cold,
                 seconds=next_day, notes={"count": after, "faster than cold": f"{cold / next_day:.1f}"}),
        ]  # fmt: skip
        for who, ask in peers.items():
            found, took = min((_timed(lambda: ask(AT - DAY)) for _ in range(2)), key=lambda each: each[1])  # noqa: B023
            later = ask(AT)
            assert later == after, f"{who} counts {later}, ours {after}"
            lines.append(
                Line(size=size, who=f"{who}{what}", ratio=found / max(count, 1), times=took / cold,
                     seconds=took, notes={"count": found})
            )  # fmt: skip
    return lines


def _mixed(folder: Path) -> Path:
    """The same orders, with a second id that has nothing to do with time."""
    other = folder.with_name(f"{folder.name}-mixed")
    if not (other / "orders.parquet").exists():
        other.mkdir(exist_ok=True)
        shutil.copy(folder / "users.parquet", other / "users.parquet")
        lines = pl.scan_parquet(folder / "orders.parquet").select("order_id", "user_id", "ordered_at")
        # an odd number times the id, modulo 2^63: each id once, all over the range
        mixed = (pl.col("order_id").cast(pl.UInt64) * 0x5851F42D4C957F2D % 2**63).cast(pl.Int64)
        part = other / "orders.part"
        lines.with_columns(mixed_id=mixed).sink_parquet(part, row_group_size=500_000)
        part.rename(other / "orders.parquet")
    return other


def _population(folder: Path, column: str, kept: Path, at: datetime) -> Population:
    cache, dictionary = LeafCache(kept / "leaves"), UserDictionary(kept / "dictionary")
    order = {"source": "people", **ORDER, "id": column}
    known = catalog_of(folder, fields=False, events={"order": order})
    return Population(known, at, cache=cache, dictionary=dictionary)


def _ask(folder: Path, column: str, kept: Path, at: datetime) -> int:
    return len(_population(folder, column, kept, at).members(parse_condition(WHERE)))


def _peers(path: Path, column: str) -> dict[str, Callable[[datetime], int]]:
    engine = duckdb.connect()
    engine.execute("SET TimeZone = 'UTC'")

    def in_duckdb(at: datetime) -> int:
        sql = (
            f"SELECT count(*) FROM (SELECT user_id, count(DISTINCT {column}) n, "  # noqa: S608  our own path
            f"count(*) FILTER (ordered_at > $recent) r FROM '{path}' "
            "WHERE ordered_at > $old AND ordered_at <= $at GROUP BY user_id) WHERE n >= 3 AND r = 0"
        )
        bound = {"recent": at - 7 * DAY, "old": at - 90 * DAY, "at": at}
        return int(engine.execute(sql, bound).fetchall()[0][0])

    def in_polars(at: datetime) -> int:
        when = pl.col("ordered_at")
        counted = (
            pl.scan_parquet(path)
            .filter((when > at - 90 * DAY) & (when <= at))
            .group_by("user_id")
            .agg(n=pl.col(column).n_unique(), r=(when > at - 7 * DAY).sum())
        )
        met = counted.filter((pl.col("n") >= 3) & (pl.col("r") == 0))
        return int(met.select(pl.len()).collect(engine="streaming").item())

    return {"DuckDB": in_duckdb, "Polars": in_polars}


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    found = work()
    return found, time.perf_counter() - begun


CASE = Case(
    about=(
        "At least 3 different orders in 90 days and none in 7, where orders have an id, so that different "
        "ids are counted. That no id lies in two days is looked up: rising ids by their ranges, "
        "those in no order by the hashes of 90 days. The next day is as in windows."
    ),
    measure="count",
    sizes=(10_000_000, 100_000_000),
    smoke=50_000,
    run=run,
    packages=("duckdb", "polars", "pyroaring", "numba"),
)
