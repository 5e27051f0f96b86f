"""`via` and merged users: the population and a tiny oracle in plain Python agree on the set of members."""

from __future__ import annotations

import importlib.util
import random
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from insight.api import Group, LeafCache, Merges, Population, parse_catalog, parse_condition

_SPEC = importlib.util.spec_from_file_location(
    "condition_oracle", Path(__file__).with_name("condition_oracle.py")
)
assert _SPEC is not None
assert _SPEC.loader is not None
oracle = importlib.util.module_from_spec(_SPEC)
sys.modules["condition_oracle"] = oracle
_SPEC.loader.exec_module(oracle)

AT = datetime(2017, 10, 16, 8, 30, tzinfo=UTC)
EARLY = AT - timedelta(days=60)
TIMES = [EARLY, AT - timedelta(days=7), AT - timedelta(microseconds=1), AT, AT + timedelta(days=1)]
INSTANT = pl.Datetime("us", "UTC")
#: name → (from, to, most, most_to); one is written from the other end
MAPPINGS = {
    "household": ("user", "household", 3, 2),
    "device": ("device", "user", 2, 2),
    "place": ("device", "place", 2, 1),
}
KINDS = {"household": pl.String, "device": pl.Int64, "place": pl.String}


def catalog(folder: Path) -> Any:
    def mapping(name: str) -> dict[str, Any]:
        near, far, most, most_to = MAPPINGS[name]
        columns = {"from": near, "from_column": "a", "to": far, "to_column": "b", "since": "s", "until": "u"}
        return {"source": "shop", "table": name, **columns, "most": most, "most_to": most_to}

    raw = {
        "sources": {"shop": {"url": "parquet://shop"}},
        "entities": {
            "user": {"source": "shop", "table": "users", "key": "uid", "since": "joined"},
            "device": {"source": "shop", "table": "devices", "key": "did"},
        },
        "fields": {
            "user.city": {"table": "traits", "column": "city", "key": "who", "type": "string"},
            "device.os": {"table": "devices", "column": "os", "type": "string"},
            "device.age": {"table": "devices", "column": "age", "type": "integer"},
        },
        "events": {
            "order": {
                "source": "shop", "table": "orders", "user": "who", "time": "t",
                "fields": {"amount": {"column": "total", "type": "decimal"}},
            },
        },
        "mappings": {name: mapping(name) for name in MAPPINGS},
    }  # fmt: skip
    return parse_catalog(raw, folder=folder)


def make_world(seed: int, merging: bool) -> dict[str, Any]:
    """A crowded little world, so that shared devices, ended links and merged households meet."""
    chance = random.Random(seed)  # noqa: S311  a world, not a secret
    users: list[Any] = chance.choice([[1, 2, 5, -3, 9, 2**40], ["a", "b", "O'x", "ü", "", "e"]])
    ids = {"user": users, "household": ["h1", "h2", "h3"], "device": [10, 20, 30], "place": ["p", "q"]}

    def some(values: list[Any], unknown: float = 0.1) -> Any:
        return None if chance.random() < unknown else chance.choice(values)

    def links(near: str, far: str) -> list[dict[str, Any]]:
        return [
            {
                "from": some(ids[near], 0.05),
                "to": some(ids[far], 0.05),
                "since": some([EARLY, EARLY, EARLY, *TIMES]),
                "until": some(TIMES, 0.7),
            }
            for _ in range(chance.randint(0, 14))
        ]

    merged: dict[Any, Any] = {}
    if merging:
        survivor, *others = chance.sample(users, 4)
        merged = dict.fromkeys(others[: chance.randint(1, 2)], survivor)
        if chance.random() < 0.5:
            merged[others[2]] = next(user for user in users if user not in merged and user != others[2])
    return {
        "ids": pl.Int64 if isinstance(users[0], int) else pl.String,
        "users": [
            {"id": user, "since": EARLY} for user in users[: len(users) - chance.randint(0, not merging)]
        ]
        + [{"id": None, "since": EARLY}],
        "fields": {user: {"user.city": some(["x", "y"])} for user in users if chance.random() < 0.8},
        "events": {
            "order": [
                {"user": some(users, 0.05), "at": some(TIMES), "amount": some([0.1, 0.2, 1.5])}
                for _ in range(chance.randint(0, 14))
            ]
        },
        "mappings": {
            name: {"from": near, "to": far, "most": most, "most_to": most_to, "links": links(near, far)}
            for name, (near, far, most, most_to) in MAPPINGS.items()
        },
        "others": {
            "device": {
                device: {"device.os": some(["ios", "android"], 0.2), "device.age": some([0, 3], 0.2)}
                for device in ids["device"]
                if chance.random() < 0.8
            }
        },
        "merged": merged,
    }


def write(world: dict[str, Any], folder: Path) -> None:
    uid = world["ids"]
    (folder / "shop").mkdir()

    def table(name: str, schema: dict[str, Any], rows: list[tuple[Any, ...]]) -> None:
        pl.DataFrame(rows, schema=schema, orient="row").write_parquet(folder / "shop" / f"{name}.parquet")

    table("users", {"uid": uid, "joined": INSTANT}, [(row["id"], row["since"]) for row in world["users"]])
    traits = [(user, row["user.city"]) for user, row in world["fields"].items()]
    table("traits", {"who": uid, "city": pl.String}, traits)
    devices = [(one, row["device.os"], row["device.age"]) for one, row in world["others"]["device"].items()]
    table("devices", {"did": pl.Int32, "os": pl.String, "age": pl.Int16}, devices)
    orders = [(row["user"], row["at"], row["amount"]) for row in world["events"]["order"]]
    table("orders", {"who": uid, "t": INSTANT, "total": pl.Float64}, orders)
    for name, mapping in world["mappings"].items():
        kinds = {side: KINDS.get(mapping[side], uid) for side in ("from", "to")}
        rows = [(row["from"], row["to"], row["since"], row["until"]) for row in mapping["links"]]
        table(name, {"a": kinds["from"], "b": kinds["to"], "s": INSTANT, "u": INSTANT}, rows)


LEAVES = st.sampled_from(
    [
        {"field": "user.city", "op": "eq", "value": "x"},
        {"field": "user.city", "op": "ne", "value": "x"},
        {"field": "user.city", "op": "is_null"},
        {"event": "order", "agg": "count", "within": "7d", "op": "ge", "value": 2},
        {"event": "order", "agg": "count", "op": "le", "value": 1},
        {"event": "order", "agg": "sum", "of": "amount", "op": "gt", "value": 0.3},
        {"event": "order", "agg": "avg", "of": "amount", "op": "lt", "value": 0.3},
        {"event": "order", "last": True, "older_than": "1d"},
        {"sequence": [{"event": "order"}, {"event": "order"}], "within": "30d"},
        {"event": "order", "not_followed_by": "order", "within": "1d"},
        {"group": "one"},
    ]
)
NOT_THREE = {"field": "device.age", "op": "not_in", "value": [3]}
OF_DEVICES = st.sampled_from(
    [
        {"field": "device.os", "op": "eq", "value": "ios"},
        {"field": "device.os", "op": "ne", "value": "ios"},
        {"field": "device.age", "op": "ge", "value": 3},
        {"all": [NOT_THREE, {"field": "device.os", "op": "not_null"}]},
        {"not": {"any": [{"field": "device.os", "op": "contains", "value": "o"}]}},
    ]
)  # fmt: skip
COUNTS = st.fixed_dictionaries(
    {"op": st.sampled_from(["eq", "ne", "le", "ge", "lt", "gt"]), "value": st.sampled_from([0, 1, 2, 3])}
)


@st.composite
def asked(draw: st.DrawFn, via: st.SearchStrategy[Any], part: st.SearchStrategy[Any]) -> dict[str, Any]:
    quantifier = draw(st.sampled_from(["any", "all", "count"]))
    test = draw(COUNTS) if quantifier == "count" else {}
    return {"via": draw(via), quantifier: draw(part), **test}


@st.composite
def of_users(draw: st.DrawFn, part: st.SearchStrategy[Any]) -> dict[str, Any]:
    found = draw(asked(st.sampled_from(["household", "device", ["device"], ["device", "place"]]), part))
    return {**found, **draw(st.sampled_from([{}, {"others": True}, {"others": False}]))}


def nested(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def wrap(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        parts = st.lists(inner, min_size=1, max_size=2)
        return st.one_of(
            parts.map(lambda each: {"all": each}),
            parts.map(lambda each: {"any": each}),
            inner.map(lambda each: {"not": each}),
            of_users(inner),
        )

    return st.recursive(leaf, wrap, max_leaves=4)


TREES = st.one_of(
    of_users(LEAVES), of_users(nested(LEAVES)), asked(st.just("device"), OF_DEVICES), nested(LEAVES)
)


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(
    seed=st.integers(0, 2**32),
    merging=st.booleans(),
    one=st.one_of(LEAVES.filter(lambda leaf: "group" not in leaf), asked(st.just("device"), OF_DEVICES)),
    trees=st.lists(TREES, min_size=5, max_size=5),
)
def test_the_population_and_the_oracle_agree(seed: int, merging: bool, one: Any, trees: list[Any]) -> None:
    world = make_world(seed, merging)
    groups = {"one": Group(name="one", where=one)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(world, folder)
        routing, cache = catalog(folder), LeafCache()
        before = Population(routing, AT, groups, cache=cache)  # fills the cache as if nobody were merged
        apart = {**world, "merged": {}}
        merges = Merges(survivors=world["merged"])
        population = Population(routing, AT, groups, cache=cache, merges=merges)
        for tree in (*trees, {"group": "one"}):
            parsed = parse_condition(tree)
            for people, truth in ((before, apart), (population, world)):
                found = people.users(people.members(parsed)).to_list()
                assert set(found) == oracle.members(truth, {"one": one}, AT, tree), (tree, world["merged"])
        restored = Population(routing, AT, groups, cache=cache)
        assert restored.members(parsed) == before.members(parsed)
