"""One nightly run: thousands of dynamic groups of mixed shape, from nothing known to all members."""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.audience_data import AT, orders, users
from benchmarks.audiences import catalog_of
from benchmarks.case import Case, Line
from insight.api import Group, LeafCache, Population, UserDictionary

#: orders a user
EACH = 10
DAY = timedelta(days=1)


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """2,000 groups, and a quarter of them, over `size` users with ten orders each."""
    people, bought = users(size, seed), orders(size, EACH * size, seed)
    most = 2_000 if size >= 1_000_000 else 60
    lines: list[Line] = []
    for count in (most, most // 4):
        kept = Path(tempfile.mkdtemp(prefix="growth-nightly-"))
        try:
            begun = time.perf_counter()
            members = _night(people, bought, kept, _groups(count, seed))
            took = time.perf_counter() - begun
        finally:
            shutil.rmtree(kept)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        first = lines[0].seconds if lines else took
        lines.append(
            Line(
                size=size,
                who="ours" if not lines else f"ours, {count} groups",
                ratio=1.0,
                times=took / first,
                seconds=took,
                notes={
                    "groups": count,
                    "ms a group": f"{1000 * took / count:.1f}",
                    "members": members,
                    "peak GiB": f"{peak:.1f}",
                },
            )
        )
    sample, took = 8, 0.0
    asked = [group for group in _groups(most, seed).values() if "group" not in str(group.where)]
    for group in asked[:sample]:
        begun = time.perf_counter()
        _by_polars(people, bought, group.where)
        took += time.perf_counter() - begun
    each = took / sample
    told = {
        "groups": most,
        "ms a group": f"{1000 * each:.1f}",
        "members": f"of {sample} groups, times {most}",
    }
    lines.append(
        Line(
            size=size,
            who="Polars, one by one",
            ratio=None,
            times=each * most / lines[0].seconds,
            seconds=each * most,
            notes=told,
        )
    )
    return lines


def _night(people: Path, bought: Path, kept: Path, groups: dict[str, Group]) -> int:
    known = catalog_of(
        people,
        sources={"shop": {"url": f"parquet://{bought}"}},
        events={
            "order": {
                "source": "shop",
                "table": "orders",
                "user": "user_id",
                "time": "ordered_at",
                "late": "1d",
                "fields": {
                    "amount": {"column": "amount", "type": "decimal"},
                    "category": {"column": "category", "type": "integer"},
                },
            }
        },
    )
    cache, dictionary = LeafCache(kept / "leaves"), UserDictionary(kept / "dictionary")
    population = Population(known, AT, groups, cache=cache, dictionary=dictionary)
    population.prepare(groups)
    return sum(len(population.members(name)) for name in groups)


def _groups(count: int, seed: int) -> dict[str, Group]:
    """Two to five statements each: attributes, orders in windows, some of a category, some other groups."""
    rng = np.random.default_rng(seed)

    def one(name: int) -> dict[str, Any]:
        kind = int(rng.integers(0, 10))
        if kind < 6:
            return _attribute(rng)
        if kind < 9 or name < 20:
            days, most = int(rng.choice([7, 14, 30, 60, 90])), int(rng.integers(1, 6))
            leaf = {"event": "order", "agg": "count", "within": f"{days}d", "op": "ge", "value": most}
            if kind == 7:
                leaf["where"] = {"field": "order.category", "op": "eq", "value": int(rng.integers(0, 4))}
            if kind == 8:
                leaf |= {
                    "agg": "sum",
                    "of": "amount",
                    "within": "30d",
                    "value": float(rng.integers(1, 20) * 10),
                }
            return leaf
        return {"group": f"g{int(rng.integers(0, name // 2))}"}

    found = {}
    for name in range(count):
        parts = [one(name) for _ in range(int(rng.integers(2, 6)))]
        if len(parts) > 3:
            parts = [{"any": parts[:2]}, {"not": parts[2]}, *parts[3:]]
        found[f"g{name}"] = Group(name=f"g{name}", where={"all": parts})
    return found


def _attribute(rng: np.random.Generator) -> dict[str, Any]:
    kind = int(rng.integers(0, 5))
    if kind == 0:
        cities = [f"city_{i}" for i in rng.integers(0, 300, int(rng.integers(1, 6)))]
        return {"field": "user.city", "op": "in", "value": cities}
    if kind == 1:
        low = int(rng.integers(15, 60))
        return {"field": "user.age", "op": "between", "value": [low, low + int(rng.integers(3, 20))]}
    if kind == 2:
        return {"field": "user.spend", "op": "gt", "value": float(rng.integers(1, 60) * 10)}
    if kind == 3:
        return {"field": "user.points", "op": "lt", "value": int(rng.integers(1, 200) * 100)}
    return {"field": "user.tier", "op": "eq", "value": f"tier_{int(rng.integers(0, 5))}"}


def _by_polars(people: Path, bought: Path, where: dict[str, Any]) -> int:
    """One group as a Polars user would ask for it: a filter of attributes, joined with grouped orders."""
    frame, i = pl.scan_parquet(people / "users.parquet"), 0
    lines = pl.scan_parquet(bought / "orders.parquet")

    def test(node: dict[str, Any]) -> pl.Expr:
        nonlocal frame, i
        if "all" in node or "any" in node:
            parts = [test(part) for part in node.get("all", node.get("any", []))]
            return pl.all_horizontal(parts) if "all" in node else pl.any_horizontal(parts)
        if "not" in node:
            return ~test(node["not"])
        value = node["value"]
        if "field" in node:
            column = pl.col(node["field"].removeprefix("user."))
            tests = {
                "in": lambda: column.is_in(value),
                "between": lambda: column.is_between(*value),
                "gt": lambda: column > value,
                "lt": lambda: column < value,
                "eq": lambda: column == value,
            }
            return tests[node["op"]]().fill_null(False)
        i += 1
        since = AT - int(node["within"][:-1]) * DAY
        kept = lines.filter((pl.col("ordered_at") > since) & (pl.col("ordered_at") <= AT))
        if "where" in node:
            kept = kept.filter(pl.col("category") == node["where"]["value"])
        number = pl.len() if node["agg"] == "count" else pl.col("amount").sum()
        frame = frame.join(kept.group_by("user_id").agg(number.alias(f"n{i}")), on="user_id", how="left")
        return (pl.col(f"n{i}") >= value).fill_null(False)

    met = test(where)
    return int(frame.filter(met).select(pl.len()).collect(engine="streaming").item())


CASE = Case(
    about=(
        "2,000 dynamic groups of two to five statements (attributes, orders in windows, other groups) in one "
        "run from an empty cache, and how it grows. Polars answers eight of them one by one."
    ),
    measure="sets",
    sizes=(1_000_000, 10_000_000),
    smoke=3_000,
    run=run,
    packages=("polars", "pyroaring", "numba"),
)
