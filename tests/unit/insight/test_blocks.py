"""Counting by blocks gives what Roaring's own algebra gives, whatever the blocks look like."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from pyroaring import BitMap

import insight.population
from insight.algebra import members_of
from insight.api import Population, parse_catalog, parse_condition
from insight.blocks import Laid, blocks_of
from insight.conditions import AllOf, AnyOf, Condition, FieldTest, Not, leaf_id
from insight.conditions import Linked as Circle
from insight.conditions import Test as Asked

SPAN = 65_536
LEAVES = [FieldTest(field=f"user.f{i}", test=Asked(op="eq", value=i)) for i in range(6)]


def some_set(chance: random.Random) -> BitMap:
    """Of five blocks: none of it, all, a few, many, or ranges in each."""
    found = BitMap()
    for begin in range(0, 5 * SPAN, SPAN):
        kind = chance.randrange(7)
        size = {1: SPAN, 2: 3, 3: 512, 4: 513, 5: 30_000}.get(kind, 0)
        found |= BitMap(begin + low for low in chance.sample(range(SPAN), size))
        if kind == 6:
            found.add_range(begin + chance.randrange(9), begin + chance.choice([100, 600, 65_000]))
    found.run_optimize()
    return found


def some_condition(chance: random.Random, depth: int) -> Condition:
    kind = chance.randrange(6) if depth else 0
    if kind < 2:
        return chance.choice(LEAVES)
    if kind == 5:
        return Not(part=some_condition(chance, depth - 1))
    parts = tuple(some_condition(chance, depth - 1) for _ in range(chance.randint(1, 4)))
    return AllOf(parts=parts) if kind < 4 else AnyOf(parts=parts)


def none(_: Circle, part: BitMap) -> BitMap:
    return part


@pytest.mark.parametrize("seed", range(6))
def test_a_count_by_blocks_is_that_of_roaring(seed: int) -> None:
    chance, laid = random.Random(seed), Laid()  # noqa: S311  sets, not secrets
    universe = BitMap(range(chance.choice([5 * SPAN, 4 * SPAN + 777]))) - BitMap([7, SPAN])
    sets = {leaf_id(leaf): some_set(chance) & universe for leaf in LEAVES}
    everything = AllOf(parts=tuple(LEAVES))
    for condition in (
        AnyOf(parts=(everything, Not(part=everything))),
        *(some_condition(chance, 4) for _ in range(40)),
    ):
        laid.lay(condition, sets, universe)
        laid.wait()
        found = laid.count(condition, sets, universe)
        assert found == len(members_of(condition, sets, universe, none)), condition


def test_a_set_that_changed_is_laid_out_again_and_what_is_too_large_is_not() -> None:
    leaf, laid = LEAVES[0], Laid()
    universe, name = BitMap(range(SPAN)), leaf_id(LEAVES[0])
    for size in (100, 60_000):
        sets = {name: BitMap(range(size))}
        assert laid.count(leaf, sets, universe) is None
        laid.lay(leaf, sets, universe)
        laid.wait()
        assert laid.count(leaf, sets, universe) == size
    small = Laid(most_bytes=100)
    small.lay(leaf, sets, universe)
    small.wait()
    assert small.count(leaf, sets, universe) is None
    assert blocks_of(sets[name]).nbytes < 9_000


def test_an_estimate_of_a_large_population_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(insight.population, "LARGE", 0)
    pl.DataFrame({"id": range(1000), "age": [i % 50 for i in range(1000)]}).write_parquet(
        tmp_path / "users.parquet"
    )
    catalog = parse_catalog(
        {
            "sources": {"shop": {"url": "parquet://."}},
            "entities": {"user": {"source": "shop", "table": "users", "key": "id"}},
            "fields": {"user.age": {"table": "users", "column": "age", "type": "integer"}},
        },
        folder=tmp_path,
    )
    population = Population(catalog, datetime(2025, 1, 1, tzinfo=UTC))
    condition = parse_condition(
        {
            "all": [
                {"field": "user.age", "op": "ge", "value": 10},
                {"not": {"field": "user.age", "op": "between", "value": [20, 24]}},
            ]
        }
    )
    counts = set()
    for _ in range(3):
        counts.add(population.estimate(condition).count)
        population._laid.wait()
    assert counts == {700}
