"""Windows made of slots: day after day, from what was kept, the same users as worked out anew."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from insight.api import Catalog, LeafCache, Population, UserDictionary, parse_catalog, parse_condition
from insight.slots import Slots

START = datetime(2024, 3, 1, 8, tzinfo=UTC)
DAY = timedelta(days=1)
KINDS = ["tea", "milk", None]


def condition(agg: str, days: int, op: str, value: Any, kind: str | None = None) -> Any:
    of = {} if agg == "count" else {"of": "amount"}
    where = {} if kind is None else {"where": {"field": "order.kind", "op": "ne", "value": kind}}
    return {"event": "order", "agg": agg, **of, "within": f"{days}d", "op": op, "value": value, **where}


ASKED = [
    condition("count", 30, "ge", 2),
    condition("count", 20, "le", 1),
    condition("count", 3, "eq", 0),
    condition("count", 30, "between", [1, 2], "tea"),
    condition("sum", 30, "ge", 0.3),
    condition("sum", 7, "le", 0.6, "tea"),
    condition("avg", 30, "gt", 0.15),
    condition("min", 30, "lt", 0.2),
    condition("max", 5, "ne", 0.3),
]


def catalog(folder: Path, late: str | None) -> Catalog:
    order = {
        "source": "shop", "table": "orders", "user": "who", "time": "t",
        "fields": {
            "amount": {"column": "amount", "type": "decimal"}, "kind": {"column": "kind", "type": "string"},
        },
    }  # fmt: skip
    raw = {
        "sources": {"shop": {"url": "parquet://."}},
        "entities": {"user": {"source": "shop", "table": "users", "key": "uid"}},
        "events": {"order": order if late is None else {**order, "late": late}},
    }
    return parse_catalog(raw, folder=folder)


def write(folder: Path, lines: list[tuple[Any, ...]], users: list[int]) -> None:
    schema = {"who": pl.Int64, "t": pl.Datetime("us", "UTC"), "amount": pl.Float64, "kind": pl.String}
    pl.DataFrame(lines, schema=schema, orient="row").write_parquet(folder / "orders.parquet")
    pl.DataFrame({"uid": users}).write_parquet(folder / "users.parquet")


@pytest.mark.parametrize("late", [None, "1s", "2d"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_next_day_is_what_it_would_be_anew(
    late: str | None, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines come up to two days late (where that may be), users appear in orders before they are users."""
    chance, data, kept = random.Random(seed), tmp_path / "data", tmp_path / "kept"  # noqa: S311  a test's
    data.mkdir()
    lines: list[tuple[Any, ...]] = []
    allowed = 48 if late != "1s" else 0

    def happen(begin: datetime, end: datetime, count: int) -> None:
        span = int((end - begin).total_seconds())
        for _ in range(count):
            at = begin + timedelta(seconds=chance.randint(1, span))
            amount = chance.choice([0.1, 0.2, 0.3, None, float("nan")])
            lines.append((chance.choice([1, 2, 3, 4, 7, 9, None]), at, amount, chance.choice(KINDS)))

    happen(START - 40 * DAY, START, 90)
    lines += [(1, START - edge * DAY, 0.1, "tea") for edge in (0, 3, 30)]  # on the edges of windows
    for day in range(6):
        at = START + day * DAY
        write(data, lines, [1, 2, 3, 4, *([7] if day > 2 else [])])
        # what is kept comes from the disk, as it does for a command
        cache, dictionary = LeafCache(kept / "leaves"), UserDictionary(kept / "dictionary")
        slowly = Population(catalog(data, late), at, cache=cache, dictionary=dictionary)
        with monkeypatch.context() as whole:
            whole.setattr("insight.leaf_sets.made_of_slots", lambda *_: False)
            anew = Population(catalog(data, late), at)
            expected = {str(each): sorted(_ids(anew, each)) for each in ASKED}
        assert {str(each): sorted(_ids(slowly, each)) for each in ASKED} == expected, day
        happen(at - timedelta(hours=allowed), at + DAY, 6)


def test_tomorrow_reads_what_may_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, kept, read = tmp_path / "data", tmp_path / "kept", list[set[Any]]()
    data.mkdir()
    lines = [(1 + i % 3, START - i * timedelta(hours=5), 0.1, "tea") for i in range(200)]
    slots = Slots._known

    def known(self: Slots, name: str, end: datetime) -> Any:
        found = slots(self, name, end)
        if found is None:
            read[-1].add(end)
        return found

    monkeypatch.setattr(Slots, "_known", known)
    for day in range(3):
        write(data, [*lines, *[(2, START + k * DAY, 0.1, "tea") for k in range(day + 1)]], [1, 2, 3])
        read.append(set())
        cache, dictionary = LeafCache(kept / "leaves"), UserDictionary(kept / "dictionary")
        people = Population(catalog(data, "1d"), START + day * DAY, cache=cache, dictionary=dictionary)
        people.members(parse_condition(condition("count", 30, "ge", 1)))
        people.members(parse_condition(condition("count", 30, "ge", 5)))
    assert [len(each) for each in read] == [30, 2, 2]
    assert read[2] == {START + DAY, START + 2 * DAY}


def _ids(people: Population, asked: Any) -> list[int]:
    return people.users(people.members(parse_condition(asked))).to_list()
