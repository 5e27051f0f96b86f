"""Groups: references, static ones, estimates, explanations, and what a population promises."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from insight.api import Catalog, Group, LeafCache, Population, parse_catalog, parse_condition
from insight.population import wilson
from kernel.definitions import parse
from kernel.errors import BadInput, NotFound, Stale

AT = datetime(2017, 10, 16, tzinfo=UTC)
SIZE = 2000
OLD = {"field": "user.age", "op": "ge", "value": 50}
BOUGHT = {"event": "order", "agg": "count", "within": "7d", "op": "ge", "value": 1}


def make(folder: Path) -> Catalog:
    users = pl.DataFrame({"uid": range(SIZE), "age": [i % 100 for i in range(SIZE)]})
    users.write_parquet(folder / "users.parquet")
    orders = pl.DataFrame({"uid": range(0, SIZE, 4), "t": [AT - timedelta(days=1)] * (SIZE // 4)})
    orders.write_parquet(folder / "orders.parquet")
    raw: dict[str, Any] = {
        "sources": {"shop": {"url": "parquet://."}},
        "entities": {"user": {"source": "shop", "table": "users", "key": "uid"}},
        "fields": {"user.age": {"table": "users", "column": "age", "type": "integer"}},
        "events": {"order": {"source": "shop", "table": "orders", "user": "uid", "time": "t"}},
    }
    return parse_catalog(raw, folder=folder)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make(tmp_path_factory.mktemp("world"))


def groups(**wheres: Any) -> dict[str, Group]:
    return {name: Group(name=name, where=where) for name, where in wheres.items()}


def test_a_group_definition_is_checked_at_birth() -> None:
    raw = {"kind": "group", "name": "g", "entity": "user", "where": OLD, "mode": "dynamic", "label": "G"}
    assert parse(Group, raw, "g.yaml").condition == parse_condition(OLD)
    for change, sentence in [
        ({"where": {"all": []}}, r"^g\.yaml: where.*where\.all"),
        ({"where": None}, r"^g\.yaml: where"),
        ({"entity": "customer"}, r"^g\.yaml: entity = 'customer'"),
        ({"mode": "frozen"}, r"^g\.yaml: mode = 'frozen'"),
        ({"colour": 1}, r"^g\.yaml: colour = 1: is not a known field here"),
    ]:
        with pytest.raises(BadInput, match=sentence):
            parse(Group, {**raw, **change}, "g.yaml")


def test_a_deep_group_survives_being_written_down_or_is_refused() -> None:
    raw: Any = {"field": "user.born", "op": "ge", "value": date(2001, 2, 3)}
    for level in range(100):
        raw = {"not": raw} if level % 2 else {"all": [raw]}
    group = Group(name="deep", where=raw)
    assert Group.model_validate_json(group.model_dump_json()).fingerprint == group.fingerprint
    assert Group.model_validate(yaml.safe_load(yaml.safe_dump(group.model_dump(mode="json")))) is not None
    with pytest.raises(BadInput, match="where: nests deeper than 100"):
        parse(Group, {"name": "deep", "where": {"not": raw}}, "g.yaml")


def test_groups_refer_to_groups(catalog: Catalog) -> None:
    known = groups(old=OLD, buyers=BOUGHT, both={"all": [{"group": "old"}, {"not": {"group": "buyers"}}]})
    population = Population(catalog, AT, known)
    expected = [i for i in range(SIZE) if i % 100 >= 50 and i % 4]
    assert population.users(population.members("both")).to_list() == expected
    outside = Group(name="outside", where={"not": {"group": "both"}})
    assert len(population.members(outside)) == SIZE - len(expected)


def test_a_long_chain_of_groups_is_no_trouble(catalog: Catalog) -> None:
    chain = groups(g0=OLD, **{f"g{i}": {"not": {"group": f"g{i - 1}"}} for i in range(1, 400)})
    assert len(Population(catalog, AT, chain).members("g399")) == SIZE // 2


def test_circles_and_strangers_are_named(catalog: Catalog) -> None:
    population = Population(
        catalog, AT, groups(a={"group": "b"}, b={"not": {"group": "c"}}, c={"group": "b"}, d={"group": "old"})
    )
    with pytest.raises(BadInput, match="group b: group = 'b': refers to itself: b → c → b"):
        population.members("a")
    with pytest.raises(BadInput, match="refers to itself"):
        population.members(Group(name="c", where={"group": "b"}))
    with pytest.raises(BadInput, match=r"group me: .*refers to itself"):
        population.members(Group(name="me", where={"group": "me"}))
    with pytest.raises(NotFound, match="group d: group = 'old': unknown group"):
        population.members("d")
    with pytest.raises(NotFound, match="unknown group"):
        population.members("nobody")
    with pytest.raises(NotFound, match=r"group x: field = 'user\.height': unknown field"):
        population.members(Group(name="x", where={"field": "user.height", "op": "not_null"}))


def test_a_static_group_keeps_its_pinned_members(catalog: Catalog) -> None:
    known = groups(old=OLD, rest={"not": {"group": "staff"}})
    known["staff"] = Group(name="staff", where=OLD, mode="static")
    pinned = {"staff": pl.Series([1, 2, 999_999]), "old": pl.Series([3])}
    population = Population(catalog, AT, known, pinned=pinned)
    assert population.users(population.members("staff")).to_list() == [1, 2]
    assert len(population.members("rest")) == SIZE - 2
    assert len(population.members("old")) == SIZE // 2, "a dynamic group is never pinned"
    assert len(Population(catalog, AT, known).members("staff")) == SIZE // 2


def test_an_estimate_says_how_it_was_made(catalog: Catalog) -> None:
    cache = LeafCache()
    population = Population(catalog, AT, groups(old=OLD), cache=cache)
    first = population.estimate("old")
    assert (first.count, first.low, first.high, first.method) == (1000, 1000, 1000, "exact")
    assert population.estimate("old").method == "cached"
    assert Population(catalog, AT, groups(old=OLD), cache=cache).estimate("old").method == "cached"
    later = Population(catalog, AT + timedelta(days=1), groups(old=OLD, buyers=BOUGHT), cache=cache)
    assert later.estimate("old").method == "cached", "a field says the same at every instant"
    Population(catalog, AT, groups(buyers=BOUGHT), cache=cache).estimate("buyers")
    assert later.estimate("buyers").method == "exact", "events in a window do not"


def test_a_sample_holds_the_truth_in_its_interval(catalog: Catalog) -> None:
    recent = {"event": "order", "last": True, "newer_than": "7d"}
    wanted = {"rare": {"all": [OLD, recent]}, "common": {"not": {"all": [OLD, recent]}}}
    for name, where in wanted.items():
        found = Population(catalog, AT, groups(**{name: where})).estimate(
            name, sample_above=100, sample_size=500
        )
        truth = len(Population(catalog, AT, groups(**{name: where})).members(name))
        assert found.method == "sampled"
        assert found.low <= truth <= found.high
        assert 0 < found.high - found.low < SIZE / 3


def test_wilsons_interval() -> None:
    assert wilson(0, 100, 1000) == (0, 0, 37)  # 3.7 %: z² / (n + z²)
    assert wilson(50, 100, 1000) == (500, 403, 597)  # Wilson's 0.4038 … 0.5962
    assert wilson(100, 100, 1000)[2] == 1000


def test_why_a_user_belongs_or_not(catalog: Catalog) -> None:
    known = groups(old=OLD, g={"all": [{"group": "old"}, {"not": BOUGHT}]})
    lines = [(line.depth, line.text, line.holds) for line in Population(catalog, AT, known).explain("g", 52)]
    assert lines == [
        (0, "in group g", False),
        (1, "all of", False),
        (2, "in group old", True),
        (3, "user.age ≥ 50", True),
        (2, "not", False),
        (3, "number of order within 7 d ≥ 1", True),
    ]
    for stranger in (SIZE, -1, "52", True, 2**70, None):
        with pytest.raises(NotFound, match="unknown user"):
            Population(catalog, AT, known).explain("g", stranger)


def test_a_cached_set_cannot_be_changed_by_its_reader(catalog: Catalog) -> None:
    population = Population(catalog, AT, groups(old=OLD))
    population.members("old").clear()
    population.members(parse_condition(OLD)).clear()
    assert len(population.members("old")) == SIZE // 2


def test_a_population_never_mixes_two_versions(tmp_path: Path) -> None:
    known, cache = make(tmp_path), LeafCache()
    population = Population(known, AT, groups(old=OLD, buyers=BOUGHT), cache=cache)
    assert len(population.members("old")) == SIZE // 2
    pl.DataFrame({"uid": [1, 2], "age": [60, 20]}).write_parquet(tmp_path / "users.parquet")
    with pytest.raises(Stale, match="have changed"):
        population.members("buyers")
    again = Population(known, AT, groups(old=OLD, buyers=BOUGHT), cache=cache)
    assert again.users(again.members("old")).to_list() == [1]


def test_many_threads_ask_one_population(catalog: Catalog) -> None:
    asked = {f"g{i}": {"field": "user.age", "op": "lt", "value": i} for i in range(24)}
    population, found, failed = Population(catalog, AT, groups(**asked)), {}, []

    def ask(names: list[str]) -> None:
        try:
            for name in names:
                found[name] = len(population.members(name))
        except Exception as error:  # noqa: BLE001  a thread's failure must reach the test
            failed.append(error)

    threads = [threading.Thread(target=ask, args=([f"g{i}" for i in range(k, 24, 6)],)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert found == {f"g{i}": i * SIZE // 100 for i in range(24)}
