"""Cells of many users from purchases in Parquet: seconds by step, peak memory; the peer does all at once."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from benchmarks.case import Case, Line
from insight.cells import derive_cells
from insight.cells_at_scale import CHUNK
from kernel.people import CellRecipe

AS_OF = datetime(2024, 6, 1, tzinfo=UTC)
#: purchases of a user on average, kinds of shopper that are planted, categories
EACH, KINDS, CATEGORIES = 10, 60, 16
#: users up to which the peer, which holds everything in memory, runs too
MOST_AT_ONCE = 1_000_000
_PART = 250_000


def purchases(size: int, seed: int, folder: Path) -> Path:
    """Users 0 … size − 1 of so many kinds: what they buy, how often, how much; in order of user."""
    path = folder / "purchases.parquet"
    kinds = np.random.default_rng(seed)
    mix = kinds.dirichlet(np.full(CATEGORIES, 0.25), KINDS).cumsum(axis=1)
    gap, money = kinds.choice([4.0, 14.0, 40.0], KINDS), kinds.choice([5.0, 25.0, 90.0], KINDS)
    writer: pq.ParquetWriter | None = None
    for begin in range(0, size, _PART):
        rng = np.random.default_rng([seed, begin])
        people = min(_PART, size - begin)
        count = rng.geometric(1 / EACH, people)
        user = np.repeat(np.arange(people), count)
        kind = rng.integers(0, KINDS, people)[user]
        back = rng.gamma(4, gap[kind] / 4, len(user)).cumsum()
        back -= np.repeat(back[np.cumsum(count) - count], count)
        drawn = (rng.random(len(user))[:, None] > mix[kind]).sum(axis=1).clip(0, CATEGORIES - 1)
        frame = pl.DataFrame(
            {
                "user": begin + user,
                "at": (back * 86_400_000_000).astype(np.int64),
                "event_id": begin * 10_000 + np.arange(len(user)),
                "amount": np.round(rng.lognormal(0, 0.3, len(user)) * money[kind], 2),
                "category": drawn.astype(np.uint8),
            }
        ).with_columns(
            at=pl.lit(AS_OF - timedelta(hours=3)) - pl.duration(microseconds="at"),
            category=pl.format("C{}", "category"),
        )
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    return path


def laid_out(path: Path, size: int, seed: int, chunk: int | None) -> dict[str, Any]:
    """In a process of its own, so that its peak of memory is its own; `chunk` None: all at once."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        told: dict[str, Any] = pool.apply(_lay_out, (path, size, seed, chunk))
    return told


def _lay_out(path: Path, size: int, seed: int, chunk: int | None) -> dict[str, Any]:
    begun = time.perf_counter()
    users = pl.DataFrame({"user": pl.int_range(0, size, eager=True)})
    spend = users.with_columns(spend=(pl.col("user") * 7_368_787 % 1_000_003).cast(pl.Float64))
    lazy = pl.scan_parquet(path)
    found = derive_cells(
        users=users,
        purchases=lazy if chunk else lazy.collect(),
        fields=users,
        spend=spend,
        as_of=AS_OF,
        recipe=CellRecipe(name="cells", clusters=120 if size >= 10_000 else 2),
        seed=seed,
        at_scale=1 if chunk else size + 1,
        chunk=chunk or CHUNK,
    )
    return {
        "seconds": time.perf_counter() - begun,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "cells": found.profiles.height,
        "clusters": len(found.clusters.model.names),
        "users": found.cells.height,
    }


def run(size: int, seed: int, seconds: float) -> list[Line]:
    with tempfile.TemporaryDirectory(prefix="cells-") as folder:
        begun = time.perf_counter()
        path = purchases(size, seed, Path(folder))
        made = time.perf_counter() - begun
        ours = _told(path, size, seed, min(CHUNK, max(size // 4, 1)))
        lines = [_line("ours", size, ours, ours, {"s to make the data": round(made, 1)})]
        if size <= MOST_AT_ONCE:
            peer = _told(path, size, seed, None)
            assert peer["users"] == ours["users"] == size
            lines.append(_line("all at once", size, peer, ours, {}))
    return lines


def _told(path: Path, size: int, seed: int, chunk: int | None) -> dict[str, Any]:
    # a process of its own costs seconds to start, which a small run is not worth
    return laid_out(path, size, seed, chunk) if size >= 10_000 else _lay_out(path, size, seed, chunk)


def _line(who: str, size: int, told: dict[str, Any], ours: dict[str, Any], more: dict[str, object]) -> Line:
    rate = size / told["seconds"]
    return Line(
        size=size,
        who=who,
        ratio=rate / (size / ours["seconds"]),
        times=told["seconds"] / ours["seconds"],
        seconds=told["seconds"],
        notes={
            "users a second": round(rate),
            "peak GiB": round(told["peak"], 2),
            "cells": told["cells"],
            "clusters": told["clusters"],
            **more,
        },
    )


CASE = Case(
    about=f"Every user in a cell, from {EACH} purchases each in one Parquet file: 120 clusters fitted "
    "on a sample, everybody laid out in chunks. The peer is the same with all purchases in memory.",
    measure="users a second",
    sizes=(1_000_000, 10_000_000),
    smoke=100,
    run=run,
    packages=("polars", "scikit-learn"),
)
