"""Conditions: each mistake is one sentence, hostile text is only text, depth and width cost nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from insight.api import Catalog, Population, check_condition, parse_catalog, parse_condition
from kernel.errors import BadInput

AT = datetime(2017, 10, 16, tzinfo=UTC)
HOSTILE = [
    "O'Hara",
    "'; DROP TABLE users; --",
    '"',
    "\\",
    "%",
    "$1",
    "{x}",
    "a\nb",
    "上海",
    "{{ x }}",
    "?",
    ":v",
]
COUNT = {"event": "order", "agg": "count", "op": "ge", "value": 1}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("world")
    users = pl.DataFrame({"uid": range(len(HOSTILE)), "city": HOSTILE, "vip": [True] * len(HOSTILE)})
    users.write_parquet(folder / "users.parquet")
    orders = pl.DataFrame(
        {"uid": [0, 0, 1], "t": [AT - timedelta(days=1)] * 3, "total": [0.1, 0.2, float("nan")]}
    )
    orders.with_columns(kind=pl.Series(["'; --", None, "tea"])).write_parquet(folder / "orders.parquet")
    raw: dict[str, Any] = {
        "sources": {"shop": {"url": "parquet://."}},
        "entities": {"user": {"source": "shop", "table": "users", "key": "uid"}},
        "fields": {
            "user.city": {"table": "users", "column": "city", "type": "string"},
            "user.vip": {"table": "users", "column": "vip", "type": "boolean"},
            "user.size": {"table": "users", "column": "uid", "type": "integer", "values": [0, 1, 2]},
        },
        "events": {
            "order": {
                "source": "shop",
                "table": "orders",
                "user": "uid",
                "time": "t",
                "fields": {
                    "amount": {"column": "total", "type": "decimal"},
                    "kind": {"column": "kind", "type": "string"},
                },
            }
        },
    }
    return parse_catalog(raw, folder=folder)


@pytest.fixture(scope="module")
def population(catalog: Catalog) -> Population:
    return Population(catalog, AT)


def members(population: Population, raw: Any) -> list[int]:
    return population.users(population.members(parse_condition(raw))).to_list()


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ("everyone", "where = 'everyone': is not a condition"),
        ({}, "has none of via, all, any, not, field, sequence, group, event"),
        ({"all": []}, "where.all = '[]': is not a list of conditions"),
        ({"any": {"field": "user.city"}}, "where.any"),
        ({"all": [COUNT], "any": [COUNT]}, "where.any"),
        ({"not": [COUNT]}, "where.not.0"),
        (
            {"all": [COUNT, {"not": {"field": "user.city", "op": "eq"}}]},
            "where.all.1.not.0.value: is required",
        ),
        ({"field": "user.city", "op": "equals", "value": "x"}, "where.op = 'equals': unknown op"),
        (
            {"field": "user.city", "op": "eq", "value": "x", "within": "7d"},
            "where.within = '7d': is not a known",
        ),
        ({"field": "user.city", "op": "eq", "value": ["x"]}, "where.value = '[x]': is not one value"),
        ({"field": "user.city", "op": "in", "value": "x"}, "where.value = 'x': is not a list of values"),
        ({"field": "user.city", "op": "in", "value": []}, "is not a list of values"),
        ({"field": "user.city", "op": "is_null", "value": 1}, "where.value = 1: is not for is_null"),
        ({"field": "user.city", "op": "eq", "value": "a\0b"}, "holds characters that text cannot"),
        ({"field": "user.city", "op": "eq", "value": "\ud800"}, "holds characters that text cannot"),
        ({"field": "user.size", "op": "eq", "value": float("nan")}, "is not a finite number"),
        ({"field": "user.size", "op": "between", "value": [1]}, "is not [low, high]"),
        ({"group": 7}, "where.group = 7: is not text"),
        ({**COUNT, "agg": "median"}, "where.agg = 'median': unknown agg"),
        ({**COUNT, "of": "amount"}, "where.of = 'amount': is not for count"),
        ({**COUNT, "op": "contains"}, "where.op = 'contains': unknown op"),
        ({**COUNT, "agg": "sum"}, "where.of: is required and missing"),
        ({**COUNT, "within": "-7d"}, "where.within = '-7d': is not a window"),
        ({**COUNT, "within": "0d"}, "where.within = '0d': is not a window"),
        ({**COUNT, "within": 7}, "where.within = 7: is not a window"),
        ({**COUNT, "where": {"group": "x"}}, "where.where = '{group}': has none of all, any, not, field"),
        ({"event": "order", "last": True}, "needs older_than or newer_than"),
        ({"event": "order", "last": False, "older_than": "7d"}, "where.last = False: can only be true"),
        ({"event": "order", "last": True, "older_than": "7d", "newer_than": "1d"}, "leaves no time"),
        ({"sequence": [], "within": "7d"}, "where.sequence = '[]': is not a list of events"),
        ({"sequence": ["order"], "within": "7d"}, "where.sequence.0 = 'order': is not an event such as"),
        ({"sequence": [{"event": "order"}]}, "where.within: is required and missing"),
        ({"event": "order", "not_followed_by": "order"}, "where.within: is required and missing"),
    ],
)
def test_a_wrong_shape_is_one_sentence(raw: Any, sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_condition(raw, "group g")
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("group g: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ({"field": "user.town", "op": "eq", "value": "x"}, "field = 'user.town': unknown field"),
        ({"field": "user.city", "op": "eq", "value": 7}, "value = 7: is not text, as user.city is"),
        ({"field": "user.city", "op": "contains", "value": False}, "value = False: is not text"),
        ({"field": "user.vip", "op": "eq", "value": 1}, "value = 1: is not true or false"),
        ({"field": "user.vip", "op": "lt", "value": True}, "is for what has an order"),
        ({"field": "user.size", "op": "eq", "value": True}, "is not a whole number"),
        ({"field": "user.size", "op": "eq", "value": 2.5}, "value = 2.5: is not a whole number"),
        ({"field": "user.size", "op": "lt", "value": 2**63}, "is not a whole number"),
        ({"field": "user.size", "op": "eq", "value": 3}, "value = '3': unknown value of user.size"),
        ({"field": "user.size", "op": "contains", "value": 1}, "is for text"),
        ({"field": "user.size", "op": "between", "value": [2, 1]}, "has its low end above its high end"),
        ({**COUNT, "event": "ordr"}, "event = 'ordr': unknown event; did you mean 'order'"),
        ({**COUNT, "value": "three"}, "value = 'three': is not a whole number, as count of order is"),
        ({**COUNT, "agg": "sum", "of": "price"}, "of = 'price': unknown field of event order"),
        ({**COUNT, "agg": "sum", "of": "kind"}, "of = 'kind': is string, of which there is no sum"),
        ({**COUNT, "agg": "min", "of": "kind"}, "of = 'kind': is string, of which there is no min"),
        (
            {**COUNT, "where": {"field": "user.city", "op": "eq", "value": "x"}},
            "unknown field of event order",
        ),
        (
            {**COUNT, "where": {"field": "amount", "op": "eq", "value": "x"}},
            "is not a number, as order.amount is",
        ),
        ({**COUNT, "within": "999999w"}, "is longer than 200 years"),
        ({"sequence": [{"event": "view"}], "within": "7d"}, "event = 'view': unknown event"),
        ({"event": "order", "not_followed_by": "view", "within": "7d"}, "event = 'view': unknown event"),
        (
            {"event": "order", "not_followed_by": "order", "within": "7d", "during": "7d"},
            "must be longer than",
        ),
    ],
)
def test_what_the_catalog_does_not_know_is_one_sentence(raw: Any, sentence: str, catalog: Catalog) -> None:
    with pytest.raises(BadInput) as caught:
        check_condition(parse_condition(raw), catalog, "group g")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("op", ["eq", "in", "contains"])
def test_hostile_text_is_only_text(text: str, op: str, population: Population) -> None:
    value = [text] if op == "in" else text
    expected = [i for i, city in enumerate(HOSTILE) if (text in city if op == "contains" else text == city)]
    assert members(population, {"field": "user.city", "op": op, "value": value}) == expected


def test_hostile_text_in_an_event_filter_is_only_text(population: Population) -> None:
    assert members(population, {**COUNT, "where": {"field": "kind", "op": "eq", "value": "'; --"}}) == [0]
    assert members(population, {**COUNT, "where": {"field": "kind", "op": "ne", "value": "' OR '1'='1"}}) == [
        0,
        1,
    ]


def test_sums_are_compared_to_a_millionth_and_nan_is_no_number(population: Population) -> None:
    total = {"event": "order", "agg": "sum", "of": "amount"}
    assert members(population, {**total, "op": "eq", "value": 0.3}) == [0]
    assert members(population, {**total, "op": "gt", "value": 0.3}) == []
    assert 1 in members(population, {**total, "op": "eq", "value": 0})


def test_five_hundred_levels_are_no_trouble(population: Population) -> None:
    raw: Any = COUNT
    for level in range(499):
        raw = {"not": raw} if level % 2 else {"all": [raw]}
    assert members(population, raw) == list(range(2, len(HOSTILE)))
    for _ in range(5):
        raw = {"not": raw}
    with pytest.raises(BadInput, match="nests deeper than 500") as caught:
        parse_condition(raw, "group g")
    assert len(str(caught.value)) < 200


def test_a_condition_that_contains_itself_is_refused() -> None:
    raw: dict[str, Any] = {"all": [COUNT]}
    raw["all"].append(raw)
    with pytest.raises(BadInput, match="nests deeper than 500"):
        parse_condition(raw)
    raw["all"].append(raw)
    with pytest.raises(BadInput, match="more than 20000 parts"):
        parse_condition(raw)


def test_wide_filters_and_long_lists_are_no_trouble(population: Population) -> None:
    wide = [{"field": "kind", "op": "eq", "value": f"kind {i}"} for i in range(300)]
    assert members(
        population, {**COUNT, "where": {"any": [*wide, {"field": "kind", "op": "eq", "value": "tea"}]}}
    ) == [1]
    many = [f"city {i}" for i in range(9_999)]
    assert members(population, {"field": "user.city", "op": "in", "value": [*many, "%"]}) == [
        HOSTILE.index("%")
    ]
    with pytest.raises(BadInput, match="more than 10000 values"):
        parse_condition({"field": "user.city", "op": "in", "value": [*many, "a", "b"]})


def test_a_deep_event_filter_runs_or_is_refused(population: Population) -> None:
    raw: Any = {"field": "kind", "op": "eq", "value": "tea"}
    for _ in range(15):
        raw = {"not": {"any": [raw]}}
    assert members(population, {**COUNT, "where": raw}) == [0]
    with pytest.raises(BadInput, match="nests deeper than 30"):
        parse_condition({**COUNT, "where": {"not": raw}})


def test_the_edges_of_not_followed(catalog: Catalog, tmp_path: Path) -> None:
    week, tiny, begun = timedelta(days=7), timedelta(microseconds=1), AT - timedelta(days=20)
    follows = {0: begun + week, 1: begun + week + tiny, 2: begun, 3: begun + tiny}
    rows = [(user, begun, "a") for user in follows] + [(user, at, "b") for user, at in follows.items()]
    rows += [(4, AT - week, "a"), (5, AT - week + tiny, "a"), (6, AT - week, "a"), (6, AT + tiny, "b")]
    schema = {"uid": pl.Int64, "t": pl.Datetime("us", "UTC"), "kind": pl.String}
    orders = pl.DataFrame(rows, schema=schema, orient="row").with_columns(total=pl.lit(1.0))
    orders.write_parquet(tmp_path / "orders.parquet")
    pl.read_parquet(catalog.folder / "users.parquet").write_parquet(tmp_path / "users.parquet")
    population = Population(catalog.model_copy(update={"folder": tmp_path}), AT)
    a, b = ({"event": "order", "where": {"field": "kind", "op": "eq", "value": kind}} for kind in "ab")
    raw = {**a, "not_followed_by": b, "within": "7d"}
    assert members(population, raw) == [1, 2, 4, 6], "0 and 3 followed in time; 5 still has time"
    assert members(population, {**raw, "during": "20d"}) == [4, 6], "twenty days ago is outside (T − 20 d, T]"
