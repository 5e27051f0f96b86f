"""Features of everybody from events in Parquet, beside DuckDB's SQL for the same features."""

from __future__ import annotations

import multiprocessing
import resource
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq

from benchmarks.case import Case, Line
from kernel.definitions import parse
from models.feature_definitions import FeatureSet
from models.feature_facts import Facts
from models.feature_scale import SHARE, sink_features

AS_OF = datetime(2024, 6, 1, tzinfo=UTC)
#: events of a user on average, categories, users of one file
EACH, CATEGORIES, PART = 20, 12, 500_000
_DAYS = 400
WINDOWS = ("7d", "28d", "84d", "364d")
_ORDER: dict[str, Any] = {"event": "order"}
SET = parse(
    FeatureSet,
    {
        "name": "benchmark",
        "among": "order",
        "features": [
            {**_ORDER, "since": "last", "name": "recency_days"},
            {**_ORDER, "since": "first", "name": "tenure_days"},
            {**_ORDER, "agg": "count", "within": WINDOWS, "name": "orders"},
            {**_ORDER, "agg": "sum", "of": "amount", "within": WINDOWS, "name": "amount"},
            {**_ORDER, "agg": "mean", "of": "amount", "within": WINDOWS, "name": "mean"},
            {**_ORDER, "agg": "min", "of": "amount", "within": "364d", "name": "least"},
            {**_ORDER, "agg": "max", "of": "amount", "within": "364d", "name": "most"},
            {**_ORDER, "agg": "distinct", "of": "category", "within": ["84d", "364d"], "name": "kinds"},
            {
                **_ORDER, "agg": "sum", "of": "amount", "within": "364d", "by": "category",
                "labels": [0, 1, 2, 3], "name": "mix",
            },
            {**_ORDER, "rhythm": True, "bare": True},
            {"ratio": "amount_28d", "over": "amount_364d", "plus": [0.1, 0.1], "name": "trend"},
        ],
    },
    "features benchmark",
)  # fmt: skip


def events(users: int, seed: int, folder: Path) -> Path:
    """So many users in files of `PART`, each with `EACH` events on average, in order of time."""
    target = folder / "events"
    target.mkdir()
    for number, begin in enumerate(range(0, users, PART)):
        rng = np.random.default_rng([seed, begin])
        some = min(PART, users - begin)
        rows = some * EACH
        # frequent users and rare ones; one in a hundred has none at all
        user = (rng.random(rows, np.float32) ** 2 * some).astype(np.int32)
        # in order of time, the last of them after the instant
        back = np.linspace(_DAYS * 86_400, -2 * 86_400, rows).astype(np.int64)
        at = int(AS_OF.timestamp()) - back
        frame = pl.DataFrame(
            {
                "user": begin + user,
                "at": at * 1_000_000,
                "amount": np.round(np.exp(3 + rng.standard_normal(rows, np.float32)).astype(np.float64), 2),
                "category": rng.integers(0, CATEGORIES, rows).astype(np.int8),
            }
        ).with_columns(pl.from_epoch("at", "us").dt.replace_time_zone("UTC"))
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        pq.write_table(table, target / f"{number:04d}.parquet", compression="zstd")
    return target


def ours(source: Path, out: Path, shares: int | None) -> int:
    """Rows written to `out`."""
    lines = pl.scan_parquet(source / "*.parquet").with_columns(event_id=pl.lit(0, pl.Int64))
    facts = Facts(events={"order": lines}, whole=frozenset({"order"}))
    return sink_features(SET, facts, [AS_OF], out, shares=shares)


def theirs(source: Path, out: Path, memory: str) -> int:
    """The same by one query; what does not fit in memory goes to disk."""
    out.mkdir()
    with duckdb.connect(config={"memory_limit": memory, "temp_directory": str(out / "spill")}) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.sql(_sql(source)).write_parquet(str(out / "all.parquet"))
    return int(pl.scan_parquet(out / "all.parquet").select(pl.len()).collect().item())


def _sql(source: Path) -> str:
    as_of = f"TIMESTAMPTZ '{AS_OF.isoformat()}'"
    sums: list[str] = []
    for window in WINDOWS:
        mask = f"FILTER (WHERE age < {int(window[:-1]) * 86_400_000_000})"
        sums.append(f"(count(*) {mask})::DOUBLE AS orders_{window}")
        sums.append(
            f"coalesce(sum(amount) {mask}, 0) AS amount_{window}, avg(amount) {mask} AS mean_{window}"
        )
    year = f"age < {364 * 86_400_000_000}"
    sums += [
        f"min(amount) FILTER (WHERE {year}) AS least_364d, max(amount) FILTER (WHERE {year}) AS most_364d"
    ]
    for window in ("84d", "364d"):
        mask = f"FILTER (WHERE age < {int(window[:-1]) * 86_400_000_000})"
        sums.append(f"(count(DISTINCT category) {mask})::DOUBLE AS kinds_{window}")
    sums += [
        f"coalesce(sum(amount) FILTER (WHERE {year} AND category = {label}), 0)"
        f' AS "mix_category.{label}_364d"'
        for label in range(4)
    ]
    day = 86_400_000_000
    return f"""
        WITH lines AS (SELECT "user", amount, category, epoch_us({as_of}) - epoch_us("at") AS age
                       FROM '{source}/*.parquet' WHERE "at" <= {as_of}),
        sums AS (SELECT "user", min(age) / {day} AS recency_days, max(age) / {day} AS tenure_days,
                        {", ".join(sums)} FROM lines GROUP BY "user"),
        days AS (SELECT DISTINCT "user", age // {day} AS d FROM lines),
        gaps AS (SELECT "user", d, d - lag(d) OVER (PARTITION BY "user" ORDER BY d) AS gap FROM days),
        rhythm AS (SELECT "user", avg(gap) AS gap_mean_days, stddev_samp(gap) AS gap_spread_days,
                          min(d) AS late FROM gaps GROUP BY "user")
        SELECT sums.*, gap_mean_days, gap_spread_days, gap_spread_days / gap_mean_days AS gap_cv,
               CASE WHEN gap_mean_days IS NOT NULL THEN late / greatest(gap_mean_days, 1) END AS lateness,
               (amount_28d + 0.1) / (amount_364d + 0.1) AS trend
        FROM sums JOIN rhythm USING ("user")"""  # noqa: S608  our own words only


def _measured(who: str, source: Path, out: Path, more: Any) -> dict[str, float]:
    begun = time.perf_counter()
    rows = (ours if who == "ours" else theirs)(source, out, more)
    seconds = time.perf_counter() - begun
    return {
        "rows": rows,
        "seconds": seconds,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def _apart(size: int, *given: Any) -> dict[str, float]:
    """In a process of its own, so that its peak of memory is its own; a small run is not worth one."""
    if size < 10_000:
        return _measured(*given)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        told: dict[str, float] = pool.apply(_measured, given)
    return told


def differing(one: Path, other: Path, users: int) -> int:
    """Values that differ by more than a part in 1e9, among one user in some hundred thousand."""
    every = max(users // 200_000, 1)
    mine = pl.col("user") % every == 0
    a = pl.scan_parquet(one / "*.parquet").filter(mine).collect().sort("user")
    b = pl.scan_parquet(other / "*.parquet").filter(mine).select(a.columns[1:]).collect().sort("user")
    assert a["user"].equals(b["user"].cast(a["user"].dtype))
    wrong = 0
    for name in SET.columns:
        x, y = a[name], b[name].cast(pl.Float64)
        far = (x - y).abs() > 1e-9 * (1 + x.abs())
        wrong += int(((x.is_null() != y.is_null()) | far.fill_null(False)).sum())
    return wrong


def run(size: int, seed: int, seconds: float) -> list[Line]:
    folder = Path(tempfile.mkdtemp(prefix="features-"))
    try:
        begun = time.perf_counter()
        source = events(size, seed, folder)
        made = time.perf_counter() - begun
        bytes_ = sum(path.stat().st_size for path in source.iterdir())
        us = _apart(size, "ours", source, folder / "ours", None if size > SHARE else 2)
        them = _apart(size, "duckdb", source, folder / "theirs", "6GB")
        assert us["rows"] == them["rows"]
        wrong = differing(folder / "ours", folder / "theirs", size)
        notes = {"events": size * EACH, "Parquet GiB": round(bytes_ / 2**30, 2), "s to make": round(made)}
        return [
            _line("ours", size, us, us, {**notes, "values that differ": wrong}),
            _line("DuckDB", size, them, us, notes),
        ]
    finally:
        shutil.rmtree(folder)


def _line(
    who: str, size: int, told: dict[str, float], us: dict[str, float], notes: dict[str, object]
) -> Line:
    return Line(
        size=size,
        who=who,
        ratio=us["seconds"] / told["seconds"],
        times=told["seconds"] / us["seconds"],
        seconds=told["seconds"],
        notes={
            "minutes": round(told["seconds"] / 60, 2),
            "peak GiB": round(told["peak"], 2),
            "events a second": round(size * EACH / told["seconds"]),
            **notes,
        },
    )


CASE = Case(
    about=f"{len(SET.columns)} features of every user (windows, distinct kinds, mix, rhythm, trend) from "
    f"{EACH} events each in Parquet files, written as Parquet. The peer is one DuckDB query with a memory "
    "limit of 6 GB, which may spill to disk. Values are compared for some hundred thousand users.",
    measure="events a second",
    sizes=(1_000_000, 10_000_000),
    smoke=200,
    run=run,
    packages=("polars", "duckdb"),
)
