"""Worlds and conditions for the oracle: crowded little worlds, written where a catalog finds them."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import strategies as st

from insight.api import parse_catalog

AT = datetime(2017, 10, 16, 8, 30, tzinfo=UTC)
EDGES = [
    timedelta(0),
    timedelta(hours=1),
    timedelta(days=1),
    timedelta(days=2),
    timedelta(days=7),
    timedelta(days=30),
]
TINY = timedelta(microseconds=1)
TIMES = [AT - edge + shift for edge in EDGES for shift in (-TINY, timedelta(0), TINY)]
WINDOWS = ["1h", "1d", "2d", "7d", "30d"]
CITIES = ["Shanghai", "O'Hara; DROP TABLE users --", "上海", ""]
AMOUNTS = [0.1, 0.2, 0.3, 0.0, 1.5, -2.0, 10.0]
SCORES = [0.5, -1.0, 0.1]
DAYS = [date(1990, 1, 1), date(2001, 2, 3)]
NEW_YORK = ZoneInfo("America/New_York")


def catalog(folder: Path) -> Any:
    profile = {"source": "web", "table": "profile", "key": "who"}
    raw = {
        "sources": {
            "shop": {"url": "parquet://shop"},
            "web": {"url": "parquet://web", "timezone": "America/New_York"},
        },
        "entities": {"user": {"source": "shop", "table": "users", "key": "uid", "since": "joined"}},
        "fields": {
            "user.city": {"table": "traits", "column": "town", "key": "who", "type": "string"},
            "user.vip": {"table": "traits", "column": "vip", "key": "who", "type": "boolean"},
            "user.age": {**profile, "column": "age", "type": "integer"},
            "user.score": {**profile, "column": "score", "type": "decimal"},
            "user.born": {**profile, "column": "born", "type": "date"},
        },
        "events": {
            "order": {
                "source": "shop", "table": "lines", "user": "who", "time": "t", "id": "basket",
                "join": {"products": {"key": "sku"}},
                "fields": {
                    "amount": {"column": "total", "type": "decimal"},
                    "sku": {"column": "sku", "type": "integer"},
                    "kind": {"column": "kind", "type": "string"},
                },
            },
            "view": {
                "source": "web", "table": "views", "user": "who", "time": "t",
                "fields": {
                    "page": {"column": "page", "type": "string"},
                    "n": {"column": "n", "type": "integer"},
                },
            },
        },
    }  # fmt: skip
    return parse_catalog(raw, folder=folder)


def make_world(seed: int) -> dict[str, Any]:
    """A crowded little world, so that edges, ties and NULLs meet; drawn piece by piece it stays empty."""
    chance = random.Random(seed)  # noqa: S311  a world, not a secret
    ids: list[Any] = chance.choice([[1, 2, 5, -3, 2**40], ["a", "b", "O'x", "ü", ""]])
    early = AT - timedelta(days=60)

    def some(values: list[Any], unknown: float = 0.15) -> Any:
        return None if chance.random() < unknown else chance.choice(values)

    def field() -> dict[str, Any]:
        return {
            "user.city": some(CITIES),
            "user.vip": some([True, False]),
            "user.age": some([0, 18, -1]),
            "user.score": some([*SCORES, float("nan")]),
            "user.born": some(DAYS),
        }

    kinds = {1: "tea", 2: None}
    orders: list[dict[str, Any]] = [
        {
            "user": some(ids, 0.05),
            "at": some(TIMES, 0.05),
            "id": some([1, 2, 3, 4, 5], 0.05),
            "amount": some([*AMOUNTS, float("nan")]),
            "sku": some([1, 2, 9]),
        }
        for _ in range(chance.randint(0, 16))
    ]
    views = [
        {
            "user": some(ids, 0.05),
            "at": some(TIMES, 0.05),
            "page": some(["home", "O'x"]),
            "n": some([0, 1, 2]),
        }
        for _ in range(chance.randint(0, 12))
    ]
    users = [{"id": user, "since": some([early, early, early, *TIMES])} for user in ids]
    return {
        "ids": pl.Int64 if isinstance(ids[0], int) else pl.String,
        "users": [*users, {"id": None, "since": early}, {"id": ids[0], "since": AT}],
        "fields": {user: field() for user in ids if chance.random() < 0.8},
        "events": {"order": [{**line, "kind": kinds.get(line["sku"])} for line in orders], "view": views},
        "kinds": kinds,
    }


def write(world: dict[str, Any], folder: Path) -> None:
    """The world as the catalog routes it: two folders, one of them with naive New York times."""
    uid, instant, wall = world["ids"], pl.Datetime("us", "UTC"), pl.Datetime("ns")
    for name in ("shop", "web"):
        (folder / name).mkdir()

    def table(place: str, schema: dict[str, Any], rows: list[tuple[Any, ...]]) -> None:
        pl.DataFrame(rows, schema=schema, orient="row").write_parquet(folder / f"{place}.parquet")

    table(
        "shop/users", {"uid": uid, "joined": instant}, [(row["id"], row["since"]) for row in world["users"]]
    )
    table("shop/products", {"sku": pl.Int64, "kind": pl.String}, list(world["kinds"].items()))
    traits = [(user, row["user.city"], row["user.vip"]) for user, row in world["fields"].items()]
    table("shop/traits", {"who": uid, "town": pl.String, "vip": pl.Boolean}, traits)
    profile = [
        (user, row["user.age"], row["user.score"], row["user.born"]) for user, row in world["fields"].items()
    ]
    table("web/profile", {"who": uid, "age": pl.Int32, "score": pl.Float64, "born": pl.Date}, profile)
    lines = [
        (row["user"], row["at"], row["id"], row["amount"], row["sku"]) for row in world["events"]["order"]
    ]
    schema = {"who": uid, "t": instant, "basket": pl.Int64, "total": pl.Float64, "sku": pl.Int64}
    table("shop/lines", schema, lines)
    views = [
        (
            row["user"],
            row["at"] and row["at"].astimezone(NEW_YORK).replace(tzinfo=None),
            row["page"],
            row["n"],
        )
        for row in world["events"]["view"]
    ]
    table("web/views", {"who": uid, "t": wall, "page": pl.String, "n": pl.Int16}, views)


def comparisons(values: list[Any], ops: str) -> st.SearchStrategy[dict[str, Any]]:
    """Comparisons with one value, with several, and with none."""
    names = ops.split()
    one = st.sampled_from(
        [op for op in names if op not in ("in", "not_in", "between", "is_null", "not_null")]
    )
    found = [st.fixed_dictionaries({"op": one, "value": st.sampled_from(values)})]
    if "in" in names:
        many = st.lists(st.sampled_from(values), min_size=1, max_size=3)
        found.append(st.fixed_dictionaries({"op": st.sampled_from(["in", "not_in"]), "value": many}))
    if "between" in names:
        pair = st.tuples(st.sampled_from(values), st.sampled_from(values)).map(sorted)
        found.append(st.fixed_dictionaries({"op": st.just("between"), "value": pair}))
    if "is_null" in names:
        found.append(st.fixed_dictionaries({"op": st.sampled_from(["is_null", "not_null"])}))
    return st.one_of(found)


ORDERED = "eq ne lt le gt ge in between is_null"
NUMBERS = "eq ne lt le gt ge in between"


def on_field(name: str, values: list[Any], ops: str) -> st.SearchStrategy[dict[str, Any]]:
    return comparisons(values, ops).map(lambda test: {"field": name, **test})


def nested(leaf: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[Any]:
    def wrap(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        parts = st.lists(inner, min_size=1, max_size=3)
        return st.one_of(
            parts.map(lambda each: {"all": each}),
            parts.map(lambda each: {"any": each}),
            inner.map(lambda each: {"not": each}),
        )

    return st.recursive(leaf, wrap, max_leaves=most)


LINE_FILTERS = {
    "order": st.one_of(
        on_field("order.kind", ["tea", "milk"], "eq ne in contains is_null"),
        on_field("amount", AMOUNTS, ORDERED),
        on_field("order.sku", [1, 2, 9], ORDERED),
    ),
    "view": st.one_of(
        on_field("view.page", ["home", "O'x"], "eq ne in contains is_null"), on_field("n", [0, 1, 2], ORDERED)
    ),
}


@st.composite
def steps(draw: st.DrawFn) -> dict[str, Any]:
    event = draw(st.sampled_from(["order", "view"]))
    step: dict[str, Any] = {"event": event}
    if draw(st.booleans()):
        step["where"] = draw(nested(LINE_FILTERS[event], 4))
    return step


@st.composite
def event_leaves(draw: st.DrawFn) -> dict[str, Any]:
    form = draw(st.sampled_from(["number", "number", "age", "sequence", "not_followed"]))
    if form == "sequence":
        return {
            "sequence": draw(st.lists(steps(), min_size=1, max_size=3)),
            "within": draw(st.sampled_from(WINDOWS)),
        }
    step = draw(steps())
    if form == "not_followed":
        by = draw(st.one_of(steps(), st.sampled_from(["order", "view"])))
        during = draw(st.sampled_from([{}, {"during": "30d"}]))
        return {**step, "not_followed_by": by, "within": draw(st.sampled_from(WINDOWS[:4])), **during}
    if form == "age":
        younger, older = draw(st.sampled_from([("1h", "7d"), ("1d", "2d"), ("7d", "30d")]))
        ages = draw(st.sampled_from([
            {"older_than": younger}, {"newer_than": older}, {"older_than": younger, "newer_than": older},
        ]))  # fmt: skip
        return {**step, draw(st.sampled_from(["first", "last"])): True, **ages}
    within = draw(st.sampled_from([{}, *({"within": window} for window in WINDOWS)]))
    agg = draw(st.sampled_from(["count", "sum", "avg", "min", "max", "distinct"]))
    order = step["event"] == "order"
    if agg in ("count", "distinct"):
        of = (
            {}
            if agg == "count"
            else {"of": draw(st.sampled_from(["kind", "order.sku"] if order else ["page"]))}
        )
        return {**step, "agg": agg, **of, **within, **draw(comparisons([0, 1, 2], NUMBERS))}
    values = [*AMOUNTS, 0.4, 0.6, 0.15] if order else [0, 1, 1.5, 2, 3]
    of = {"of": draw(st.sampled_from(["amount", "order.amount"])) if order else "view.n"}
    return {**step, "agg": agg, **of, **within, **draw(comparisons(values, NUMBERS))}


LEAVES = st.one_of(
    on_field("user.city", CITIES, ORDERED + " contains"),
    on_field("user.vip", [True, False], "eq ne in is_null"),
    on_field("user.age", [0, 18, -1], ORDERED),
    on_field("user.score", SCORES, ORDERED),
    on_field("user.born", DAYS, ORDERED),
    event_leaves(),
)
WITH_GROUPS = st.one_of(LEAVES, st.sampled_from([{"group": "one"}, {"group": "two"}]))
TREES = nested(WITH_GROUPS, 5)
