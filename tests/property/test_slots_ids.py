"""Counts of events with an id from slots: day after day the same users as counted by the source."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from insight.api import Catalog, LeafCache, Population, UserDictionary, parse_catalog, parse_condition
from insight.compile import LeafCompiler

START = datetime(2024, 3, 1, 8, tzinfo=UTC)
DAY = timedelta(days=1)
#: user, time, id, amount, kind
Row = tuple[int | None, datetime, Any, float | None, str | None]


def asked(agg: str, days: int, op: str, value: Any, kind: str | None = None) -> Any:
    where = {} if kind is None else {"where": {"field": "order.kind", "op": "ne", "value": kind}}
    of = {} if agg == "count" else {"of": "amount"}
    return {"event": "order", "agg": agg, **of, "within": f"{days}d", "op": op, "value": value, **where}


ASKED = [
    asked("count", 30, "ge", 2),
    asked("count", 20, "le", 1),
    asked("count", 3, "eq", 0),
    asked("count", 30, "between", [1, 2], "tea"),
    asked("sum", 30, "ge", 0.3),
]


def catalog(folder: Path, kind: str, late: str | None) -> Catalog:
    order = {
        "source": "shop", "table": "orders", "user": "who", "time": "t", "id": "id",
        "fields": {
            "amount": {"column": "amount", "type": "decimal"}, "kind": {"column": "kind", "type": "string"},
        },
    }  # fmt: skip
    url = "parquet://." if kind == "parquet" else f"duckdb://{folder}/shop.duckdb"
    raw = {
        "sources": {"shop": {"url": url}},
        "entities": {"user": {"source": "shop", "table": "users", "key": "uid"}},
        "events": {"order": order if late is None else {**order, "late": late}},
    }
    return parse_catalog(raw, folder=folder)


def write(folder: Path, kind: str, lines: list[Row], ids: type) -> None:
    schema = {
        "who": pl.Int64, "t": pl.Datetime("us", "UTC"), "id": pl.String if ids is str else pl.Int32,
        "amount": pl.Float64, "kind": pl.String,
    }  # fmt: skip
    orders = pl.DataFrame(lines, schema=schema, orient="row")
    users = pl.DataFrame({"uid": [1, 2, 3, 4]})
    if kind == "parquet":
        orders.write_parquet(folder / "orders.parquet")
        users.write_parquet(folder / "users.parquet")
        return
    with duckdb.connect(str(folder / "shop.duckdb")) as database:
        database.register("new_orders", orders.to_arrow())
        database.register("new_users", users.to_arrow())
        database.execute("CREATE OR REPLACE TABLE orders AS FROM new_orders")
        database.execute("CREATE OR REPLACE TABLE users AS FROM new_users")


def numbered(chance: random.Random, ids: str) -> Iterator[Any]:
    """Ids that rise with time, that do not, or text."""
    for n in range(10_000):
        mixed = n * 7_919 % 10_007
        yield {"rising": n, "mixed": mixed - 5_000, "text": f"ö-{mixed}", "null": n if n % 4 else None}[ids]


def people(data: Path, kept: Path | None, kind: str, late: str | None, at: datetime) -> Population:
    # what is kept comes from the disk, as it does for a command
    cache = LeafCache(kept / "leaves") if kept else LeafCache()
    dictionary = UserDictionary(kept / "dictionary") if kept else UserDictionary()
    return Population(catalog(data, kind, late), at, cache=cache, dictionary=dictionary)


def ids_of(population: Population, condition: Any) -> list[int]:
    return population.users(population.members(parse_condition(condition))).to_list()


class Counted:
    """How many leaves the source counted itself."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.leaves = 0
        before = LeafCompiler.members

        def members(compiler: LeafCompiler, *told: Any) -> Any:
            self.leaves += 1
            return before(compiler, *told)

        patch.setattr(LeafCompiler, "members", members)


@pytest.mark.parametrize("twice", ["never", "at once", "same slot", "days apart"])
@pytest.mark.parametrize("ids", ["rising", "mixed", "text", "null"])
def test_the_next_day_is_what_the_source_counts(
    ids: str, twice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines up to a day late; an order has one line, two at once, two in one slot, or two days apart."""
    chance, data, kept = random.Random(f"{ids} {twice}"), tmp_path / "data", tmp_path / "kept"  # noqa: S311  a test's
    data.mkdir()
    kind = chance.choice(["parquet", "duckdb"]) if ids in ("text", "mixed") else "parquet"
    late = None if ids == "null" else "1d"
    lines: list[Row] = []
    own = numbered(chance, ids)

    def happen(begin: datetime, end: datetime, count: int) -> None:
        span = int((end - begin).total_seconds())
        for _ in range(count):
            at = begin + timedelta(seconds=chance.randint(1, span))
            who, name = chance.choice([1, 2, 3, 4, 9, None]), next(own)
            row = (who, at, name, chance.choice([0.1, 0.2, None]), chance.choice(["tea", "milk", None]))
            lines.append(row)
            again = {"at once": at, "same slot": at - timedelta(seconds=1), "days apart": at - 3 * DAY}
            if twice in again and chance.random() < 0.3:
                lines.append((who, again[twice], name, 0.1, chance.choice(["tea", "milk", None])))

    happen(START - 40 * DAY, START, 90)
    counted = Counted(monkeypatch)
    for day in range(4):
        at = START + day * DAY
        write(data, kind, lines, str if ids == "text" else int)
        with monkeypatch.context() as whole:
            whole.setattr("insight.leaf_sets.made_of_slots", lambda *_: False)
            anew = people(data, None, kind, late, at)
            expected = {str(each): ids_of(anew, each) for each in ASKED}
        counted.leaves = 0
        slowly = people(data, kept, kind, late, at)
        slowly.prepare([parse_condition(each) for each in ASKED])
        assert {str(each): ids_of(slowly, each) for each in ASKED} == expected, day
        if twice in ("never", "at once"):
            assert counted.leaves == 0
        elif twice == "days apart":
            assert counted.leaves == sum(each["agg"] == "count" for each in ASKED)
        happen(at - DAY if late else at, at + DAY, 6)


def test_one_id_of_two_users_is_two_and_slots_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Order numbers that begin anew for every user."""
    lines: list[Row] = [(n % 4 + 1, START - (n % 9) * DAY, n // 4, 1.0, "tea") for n in range(36)]
    write(tmp_path, "parquet", lines, int)
    counted = Counted(monkeypatch)
    found = ids_of(people(tmp_path, None, "parquet", None, START), asked("count", 30, "eq", 9))
    assert (found, counted.leaves) == ([1, 2, 3, 4], 0)


@pytest.mark.parametrize("ids", ["rising", "mixed"])
def test_tomorrow_compares_new_slots_only(ids: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rising ids by their ranges alone, others by the hashes of all slots."""
    data, kept, read = tmp_path / "data", tmp_path / "kept", list[list[Any]]()
    data.mkdir()
    own = numbered(random.Random(1), ids)  # noqa: S311  a test's
    lines: list[Row] = [
        (1 + n % 3, START + (n - 200) * timedelta(hours=5), next(own), 0.1, "tea") for n in range(240)
    ]
    arrays = LeafCache.arrays

    def counting(cache: LeafCache, key: Any) -> Any:
        found = arrays(cache, key)
        if found is not None and "hashes" in found:
            read[-1].append(key)
        return found

    monkeypatch.setattr(LeafCache, "arrays", counting)
    for day in range(3):
        at = START + day * DAY
        read.append([])
        write(data, "parquet", [line for line in lines if line[1] <= at], int)
        ids_of(people(data, kept, "parquet", "1d", at), asked("count", 30, "ge", 1))
    assert [len(each) for each in read] == ([0, 0, 0] if ids == "rising" else [30, 30, 30])


def test_what_is_no_longer_kept_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, kept = tmp_path / "data", tmp_path / "kept"
    data.mkdir()
    own = numbered(random.Random(1), "mixed")  # noqa: S311  a test's
    lines: list[Row] = [
        (1 + n % 3, START + (n - 200) * timedelta(hours=5), next(own), 0.1, "tea") for n in range(240)
    ]
    counted = Counted(monkeypatch)
    for day, gone in enumerate([False, True, False, False]):
        at = START + day * DAY
        write(data, "parquet", [line for line in lines if line[1] <= at], int)
        if gone:
            for path in (kept / "leaves").iterdir():
                if b'"hashes"' in path.read_bytes()[:200]:
                    path.unlink()
        counted.leaves = 0
        found = ids_of(people(data, kept, "parquet", "1d", at), asked("count", 30, "ge", 40))
        expected = ids_of(people(data, None, "parquet", "1d", at), asked("count", 30, "ge", 40))
        assert found == expected != []
        assert (counted.leaves > 0) == gone, day


@pytest.mark.parametrize("ids", ["rising", "mixed"])
def test_an_id_that_comes_again_is_noticed_and_forgotten_with_its_slot(
    ids: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the second day an order of eight days before has one more line: until it leaves the window."""
    data, kept, own = tmp_path / "data", tmp_path / "kept", numbered(random.Random(1), ids)  # noqa: S311  a test's
    data.mkdir()
    lines: list[Row] = [
        (1 + n % 3, START + (n - 200) * timedelta(hours=5), next(own), 0.1, "tea") for n in range(240)
    ]
    user, _, name, *_ = next(line for line in lines if line[1] > START - 7 * DAY)
    lines.append((user, START + timedelta(hours=20), name, 0.1, "tea"))
    counted, by_source = Counted(monkeypatch), []
    asked_for = asked("count", 10, "ge", 16)
    for day in range(5):
        at = START + day * DAY
        write(data, "parquet", [line for line in lines if line[1] <= at], int)
        counted.leaves = 0
        found = ids_of(people(data, kept, "parquet", "1d", at), asked_for)
        by_source.append(counted.leaves)
        with monkeypatch.context() as whole:
            whole.setattr("insight.leaf_sets.made_of_slots", lambda *_: False)
            assert found == ids_of(people(data, None, "parquet", "1d", at), asked_for) != []
    assert by_source == [0, 1, 1, 1, 0]
