"""What is asked of Elasticsearch, word by word; hostile text stays text; nobody is half answered."""

from __future__ import annotations

import http.server
import importlib.util
import json
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from insight import conditions, elastic_query
from insight.api import Population, check_catalog, parse_catalog, parse_condition, profile_catalog
from kernel.errors import BadInput, NotFound, Unavailable

AT = datetime(2017, 10, 16, 8, 30, tzinfo=UTC)
TOWN = elastic_query.Column(path="town", declared="string", stored="keyword")
AGE = elastic_query.Column(path="age", declared="integer", stored="short")
SCORE = elastic_query.Column(path="score", declared="decimal", stored="double")
BORN = elastic_query.Column(path="born", declared="date", stored="date")
MILLIS = elastic_query.Column(path="t", declared="datetime", stored="date")
NANOS = elastic_query.Column(path="t", declared="datetime", stored="date_nanos")
FORMAT = {"format": "strict_date_optional_time_nanos"}
NOTHING: dict[str, Any] = {"match_none": {}}


@pytest.mark.parametrize(
    ("column", "op", "value", "query"),
    [
        (TOWN, "eq", "Kiel", {"term": {"town": {"value": "Kiel"}}}),
        (TOWN, "ne", "Kiel", {"bool": {"must_not": [{"term": {"town": {"value": "Kiel"}}}]}}),
        (TOWN, "in", ("Hof", "Ulm"), {"terms": {"town": ["Hof", "Ulm"]}}),
        (TOWN, "not_in", ("Hof",), {"bool": {"must_not": [{"terms": {"town": ["Hof"]}}]}}),
        (TOWN, "not_null", None, {"exists": {"field": "town"}}),
        (TOWN, "is_null", None, {"bool": {"must_not": [{"exists": {"field": "town"}}]}}),
        (TOWN, "contains", "a*b?\\", {"wildcard": {"town": {"value": "*a\\*b\\?\\\\*"}}}),
        (TOWN, "contains", "", {"exists": {"field": "town"}}),
        (TOWN, "between", ("A", "B"), {"range": {"town": {"gte": "A", "lte": "B"}}}),
        (SCORE, "gt", 1.5, {"range": {"score": {"gt": 1.5}}}),
        (SCORE, "eq", 0.1, {"term": {"score": {"value": 0.1}}}),
        (AGE, "eq", 18, {"range": {"age": {"gte": 18, "lte": 18}}}),
        (AGE, "lt", 18, {"range": {"age": {"lte": 17}}}),
        (AGE, "lt", 40_000, {"exists": {"field": "age"}}),  # a short holds no more than 32,767
        (AGE, "gt", 40_000, NOTHING),
        (AGE, "in", (1, 40_000), {"terms": {"age": [1]}}),
        (AGE, "in", (40_000,), NOTHING),
        (
            BORN,
            "eq",
            date(2001, 2, 3),
            {"range": {"born": {"gte": "2001-02-03T00:00:00.000000000Z",
                                "lt": "2001-02-04T00:00:00.000000000Z", **FORMAT}}},
        ),
        (BORN, "le", date.max, {"exists": {"field": "born"}}),
        (BORN, "gt", date.max, NOTHING),
        (
            MILLIS,  # what is finer than a millisecond cannot be met
            "ge",
            AT + timedelta(microseconds=1),
            {"range": {"t": {"gte": "2017-10-16T08:30:00.001000000Z", **FORMAT}}},
        ),
        (MILLIS, "eq", AT + timedelta(microseconds=1), NOTHING),
        (NANOS, "gt", AT, {"range": {"t": {"gte": "2017-10-16T08:30:00.000001000Z", **FORMAT}}}),
    ],
)  # fmt: skip
def test_a_test_as_a_query(column: elastic_query.Column, op: str, value: Any, query: Any) -> None:
    assert elastic_query.test_query(column, conditions.Test(op=op, value=value)) == query


def test_a_window_is_open_at_its_old_end() -> None:
    found = elastic_query.window_query(NANOS, AT, timedelta(days=7))
    edges = [each["range"]["t"] for each in found["bool"]["filter"]]
    assert edges == [
        {"gte": "2017-10-09T08:30:00.000001000Z", **FORMAT},
        {"lte": "2017-10-16T08:30:00.000000000Z", **FORMAT},
    ]


def test_what_says_the_same_nests_less() -> None:
    raw: Any = {"field": "town", "op": "eq", "value": "Kiel"}
    for _ in range(10):
        raw = {"not": {"all": [{"any": [raw]}]}}
    step = parse_condition({"event": "e", "agg": "count", "op": "ge", "value": 1, "where": raw})
    where = step.step.where  # type: ignore[union-attr]  # it is an event's test
    assert elastic_query.filter_query(where, lambda _: TOWN) == {"term": {"town": {"value": "Kiel"}}}
    assert elastic_query.negated(elastic_query.negated(NOTHING)) == NOTHING


def test_scripts_never_hold_a_value() -> None:
    tests = [conditions.Test(op="eq", value=value) for value in (1.0, -7.5, 3)]
    scripts = [elastic_query.number_script(t, read="rounded", some=True, opposite=True) for t in tests]
    seen = {script["source"] for script in scripts}
    assert len(seen) == 1, "one script for all values: the server compiles it once"
    script = elastic_query.number_script(conditions.Test(op="in", value=(1, -0.0)))
    assert json.dumps(script["params"]) == '{"among": [1.0, 0.0]}'


@pytest.mark.parametrize("text", ["*", "?", "\\", "a\\*", "'; DROP", '{"match_all":{}}', "\n", "上海"])
def test_escaped_text_means_itself(text: str) -> None:
    found, chars = "", iter(elastic_query.escaped(text))
    for each in chars:
        assert each not in "*?"
        found += next(chars) if each == "\\" else each
    assert found == text


def _stand_in() -> Any:
    name = "elastic_stand_in"
    if name not in sys.modules:
        path = Path(__file__).parents[2] / "property" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def routed(address: str, **changes: Any) -> Any:
    raw: dict[str, Any] = {
        "sources": {"es": {"url": f"elasticsearch://{address}"}},
        "entities": {"user": {"source": "es", "table": "people", "key": "uid"}},
        "fields": {
            "user.town": {"table": "people", "column": "town", "type": "string"},
            "user.born": {"table": "people", "column": "born", "type": "date"},
        },
        "events": {
            "order": {
                "source": "es", "table": "people", "user": "uid", "time": "orders.t", "nested": "orders",
                "fields": {"amount": {"column": "orders.total", "type": "decimal"}},
            }
        },
    }  # fmt: skip
    return parse_catalog({**raw, **changes}, folder=Path())


@pytest.fixture
def people() -> Iterator[tuple[str, Any]]:
    state = _stand_in().StandIn()
    below = {"t": {"type": "date"}, "total": {"type": "double"}}
    state.put(
        "people",
        {"uid": {"type": "long"}, "town": {"type": "keyword"}, "born": {"type": "date"},
         "note": {"type": "text"}, "orders": {"type": "nested", "properties": below}},
        [
            {"uid": uid, "town": ["*", "Kiel", None][uid % 3], "born": f"200{uid}-01-01T00:00:00.000000000Z",
             "orders": [{"t": f"2017-10-1{day}T00:00:00.000000000Z", "total": 1.5} for day in range(uid)]}
            for uid in range(4)
        ],
    )  # fmt: skip
    with _stand_in().served(state) as address:
        yield address, state


def test_hostile_text_is_only_text(people: Any) -> None:
    population = Population(routed(people[0]), AT)
    for op, value, expected in (("contains", "*", [0, 3]), ("contains", "ie", [1]), ("eq", '"}}', [])):
        members = population.members(parse_condition({"field": "user.town", "op": op, "value": value}))
        assert sorted(population.users(members)) == expected


def test_a_profile_of_an_index(people: Any) -> None:
    found = profile_catalog(routed(people[0]), AT)
    town, born = found.fields["user.town"], found.fields["user.born"]
    assert (town.rows, town.nulls, town.distinct, set(town.values)) == (4, 1, 2, {"*", "Kiel"})
    assert (born.range, born.values) == ((date(2000, 1, 1), date(2003, 1, 1)), ())
    order = found.events["order"]
    assert (order.rows, order.first, order.last) == (
        6, datetime(2017, 10, 10, tzinfo=UTC), datetime(2017, 10, 12, tzinfo=UTC),
    )  # fmt: skip
    assert found.fields["order.amount"].range == (1.5, 1.5)
    assert not people[1].views


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("town", "note", "unknown column"),  # text is no keyword
        ("people", "nobody", "unknown index of source es"),
        ("people", "peo*", "is not the name of one index"),
        ("people", "_all", "is not the name of one index"),
        ("orders.t", "orders.at", "unknown column"),
    ],
)
def test_what_an_index_does_not_have(people: Any, old: str, new: str, sentence: str) -> None:
    raw = json.loads(json.dumps(routed(people[0]).model_dump(mode="json", exclude_defaults=True)))
    told = json.loads(json.dumps(raw).replace(f'"{old}"', f'"{new}"'))
    problems = check_catalog(parse_catalog(told, folder=Path()))
    assert problems
    assert sentence in str(problems[0])


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("elasticsearch://", "is not one of"),
        ("elasticsearch://host:0x1", "is not elasticsearch://"),
        ("elasticsearch://host/index", "is not elasticsearch://"),
        ("elasticsearch://me:secret@host?ssl=true", "is not elasticsearch://"),
        ("elasticsearch://host?api_key=${GROWTH_NO_SUCH_KEY}", "GROWTH_NO_SUCH_KEY, which is not set"),
    ],
)
def test_an_address_that_is_not_understood_shows_no_secret(url: str, sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        Population(routed("host", sources={"es": {"url": url}}), AT)
    assert sentence in str(caught.value)
    assert "secret" not in str(caught.value)


def test_naive_times_are_not_for_elasticsearch() -> None:
    with pytest.raises(BadInput, match="keeps instants"):
        Population(routed("", sources={"es": {"url": "elasticsearch://host", "timezone": "Asia/Tokyo"}}), AT)


def test_joins_are_refused() -> None:
    event = {"source": "es", "table": "o", "user": "u", "time": "t", "join": {"goods": {"key": "ean"}}}
    with pytest.raises(BadInput, match="Elasticsearch joins nothing"):
        routed("host", events={"order": event})


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"timed_out": True, "_shards": {"failed": 0}}),
        (200, {"timed_out": False, "_shards": {"failed": 1}}),
        (503, {"error": {"root_cause": [{"reason": "no\nmaster"}]}}),
        (200, None),
    ],
)
def test_no_answer_and_half_an_answer_are_unavailable(answer: Any, people: Any) -> None:
    """Nothing else is asked after it, and the view is given back all the same."""
    state = people[1]
    catalog = routed(people[0])
    assert check_catalog(catalog) == []

    def spoilt(_: Any) -> Any:
        status, body = answer
        if status != 200:
            raise _stand_in().Refused(status, body["error"]["root_cause"][0]["reason"])
        return body if body is not None else http.server  # no JSON: the server's thread gives up

    state._search = spoilt
    threading.excepthook, before = lambda _: None, threading.excepthook
    try:
        with pytest.raises((Unavailable, NotFound)) as caught:
            Population(catalog, AT)
    finally:
        threading.excepthook = before
    assert "\n" not in str(caught.value)


def test_more_than_can_be_counted_exactly_is_refused(people: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insight.elastic_leaves.MOST_NESTED", 1)
    monkeypatch.setattr("insight.elastic_leaves.MOST_INNER", 2)
    state = people[1]
    for doc in state.indices["people"]["docs"]:
        for i, line in enumerate(doc["orders"]):
            line["total"] = float(i)
    population = Population(routed(people[0]), AT)
    different = {"event": "order", "agg": "distinct", "of": "amount", "op": "ge", "value": 1}
    ordered = {"sequence": [{"event": "order"}, {"event": "order"}], "within": "30d"}
    for raw in (different, ordered):
        with pytest.raises(BadInput, match="nested ones; keep them in an index of their own"):
            population.members(parse_condition(raw))


def test_edges_that_are_easily_lost(people: Any) -> None:
    """0.1 + 0.2 is 0.3; an average of nothing fails every test; a line without an id is no event."""
    address, state = people
    at = "2017-10-10T00:00:00.000000000Z"
    kinds = {"who": {"type": "long"}, "t": {"type": "date"}, "id": {"type": "long"}, "x": {"type": "double"}}
    lines = [(0, 1, 0.1), (0, 1, 0.2), (1, 2, None), (2, None, 9.0)]
    state.put("lines", kinds, [{"who": who, "t": at, "id": own, "x": x} for who, own, x in lines])
    place = {"source": "es", "table": "lines", "user": "who", "time": "t"}
    event = {**place, "id": "id", "fields": {"x": {"column": "x", "type": "decimal"}}}
    population = Population(routed(address, events={"line": event}), AT)

    def members(**test: Any) -> list[int]:
        found = population.members(parse_condition({"event": "line", **test}))
        return sorted(population.users(found))

    assert members(agg="sum", of="x", op="eq", value=0.3) == [0]
    assert members(agg="sum", of="x", op="lt", value=0.3) == [1, 2, 3]
    assert members(agg="avg", of="x", op="ne", value=7) == [0]
    assert members(agg="max", of="x", op="not_in", value=[7]) == [0]
    assert members(agg="max", of="x", op="ge", value=0) == [0]
    assert members(agg="count", op="eq", value=1) == [0, 1]
    assert members(last=True, older_than="1d") == [0, 1]
