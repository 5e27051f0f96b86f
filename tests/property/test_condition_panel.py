"""Whatever the condition panel offers, `parse_condition` and `check_condition` and the schema accept.

And the other way: what the schema lets through they accept, what they refuse it refuses too.
"""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from insight.api import (
    Catalog,
    Group,
    Tag,
    check_condition,
    condition_panel,
    condition_schema,
    in_order,
    parse_catalog,
    resolve,
)
from kernel.definitions import parse
from kernel.errors import BadInput

RAW: dict[str, Any] = {
    "sources": {"shop": {"url": "parquet://shop"}},
    "entities": {
        "user": {"source": "shop", "table": "users", "key": "uid"},
        "device": {"source": "shop", "table": "devices", "key": "did"},
    },
    "fields": {
        "user.city": {"table": "users", "column": "city", "type": "string", "values": ["Kiel", "O'Hara"]},
        "user.note": {"table": "users", "column": "note", "type": "string", "freshness": "real_time"},
        "user.age": {
            "table": "users", "column": "age", "type": "integer", "range": [0, 120], "unit": "years",
        },
        "user.score": {"table": "users", "column": "score", "type": "decimal"},
        "user.vip": {"table": "users", "column": "vip", "type": "boolean"},
        "user.born": {"table": "users", "column": "born", "type": "date"},
        "user.seen": {"table": "users", "column": "seen", "type": "datetime"},
        "device.os": {"table": "devices", "column": "os", "type": "string"},
    },
    "events": {
        "order": {
            "source": "shop", "table": "orders", "user": "uid", "time": "t", "freshness": "real_time",
            "fields": {
                "amount": {"column": "amount", "type": "decimal", "unit": "EUR"},
                "kind": {"column": "kind", "type": "string"},
                "due": {"column": "due", "type": "date"},
                "gift": {"column": "gift", "type": "boolean"},
            },
        },
        "visit": {"source": "shop", "table": "visits", "user": "uid", "time": "t"},
    },
    "mappings": {
        "owns": {"source": "shop", "table": "owned", "from": "user", "from_column": "u", "to": "device",
                 "to_column": "d"},
    },
}  # fmt: skip
CATALOG: Catalog = parse_catalog(RAW, folder=Path())
TAGS = {
    each["name"]: parse(Tag, {"kind": "tag", **each}, "tag")
    for each in (
        {"name": "regular", "where": {"event": "order", "agg": "count", "op": "ge", "value": 3}},
        {"name": "spend", "from": {"event": "order", "agg": "sum", "of": "amount"}},
        {"name": "band", "from": {"field": "user.age"}, "labels": [
            {"label": "young", "op": "lt", "value": 30}, {"label": "rest"}]},
    )
}  # fmt: skip
GROUPS = {
    "staff": Group(name="staff", where={"field": "user.city", "op": "eq", "value": "Kiel"}),
    "fresh": Group(name="fresh", where={"event": "order", "last": True, "newer_than": "1h"}),
    "both": Group(name="both", where={"all": [{"group": "fresh"}, {"group": "staff"}]}),
    "pinned": Group(name="pinned", where={"group": "fresh"}, mode="static"),
}
PANEL = json.loads(json.dumps(condition_panel(CATALOG, GROUPS, TAGS)))
SCHEMA = json.loads(json.dumps(condition_schema(CATALOG, GROUPS, TAGS)))
TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=6)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": TEXT,
    "integer": st.integers(-(2**63), 2**63 - 1),
    "decimal": st.floats(-1e6, 1e6),
    "boolean": st.booleans(),
    "date": st.dates(date(1900, 1, 1)).filter(lambda day: day.day < 29).map(str),
    "datetime": st.sampled_from(["2001-02-03", "2001-02-03T04:05:06Z", "2001-02-03T04:05:06.7+08:00"]),
}


def choices(operators: list[Any], kind: str, values: list[Any], closed: bool) -> st.SearchStrategy[Any]:
    """What a person can make of one field of the panel."""

    @st.composite
    def draw(pick: st.DrawFn) -> dict[str, Any]:
        each = pick(st.sampled_from(operators))
        listed = st.sampled_from(values) if values else VALUES[kind]
        drawn = listed if closed and each["op"] in ("eq", "ne", "in", "not_in") else VALUES[kind]
        if each["arity"] == 0:
            return {"op": each["op"]}
        if each["arity"] == "many":
            return {"op": each["op"], "value": pick(st.lists(drawn, min_size=1, max_size=3))}
        if each["arity"] == 2:
            return {"op": each["op"], "value": sorted([pick(drawn), pick(drawn)])}
        return {"op": each["op"], "value": pick(drawn)}

    return draw()


def field_tests(fields: list[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from(fields).flatmap(
        lambda each: choices(each["operators"], each["type"], each["values"], each["closed"]).map(
            lambda test: {"field": each["name"], **test}
        )
    )


WINDOWS = st.sampled_from([each["value"] for each in PANEL["windows"]["presets"]])


@st.composite
def steps(draw: st.DrawFn) -> dict[str, Any]:
    event = draw(st.sampled_from(PANEL["events"]))
    where = draw(field_tests(event["fields"])) if event["fields"] and draw(st.booleans()) else None
    return {"event": event["name"], **({"where": {"not": {"any": [where]}}} if where else {})}


@st.composite
def event_tests(draw: st.DrawFn) -> dict[str, Any]:
    step = draw(steps())
    event = next(each for each in PANEL["events"] if each["name"] == step["event"])
    form = draw(st.sampled_from(event["forms"]))
    if form in ("first", "last"):
        return {**step, form: True, draw(st.sampled_from(["older_than", "newer_than"])): draw(WINDOWS)}
    if form == "sequence":
        return {"sequence": draw(st.lists(steps(), min_size=1, max_size=3)), "within": draw(WINDOWS)}
    if form == "not_followed_by":
        by = draw(st.one_of(steps(), st.sampled_from([each["name"] for each in PANEL["events"]])))
        return {
            **step,
            "not_followed_by": by,
            "within": "7d",
            **draw(st.sampled_from([{}, {"during": "30d"}])),
        }
    agg = draw(st.sampled_from(event["aggregations"]))
    of: dict[str, Any] = {}
    if agg["of_required"]:
        of = {"of": draw(st.sampled_from(agg["of"]))}
    route = CATALOG.events[step["event"]].fields.get(of.get("of", ""))
    dated = route is not None and agg["agg"] in ("min", "max") and route.type == "date"
    kind = "date" if dated else next(each for each in agg["tests"] if each != "date")
    test = draw(choices(agg["tests"][kind], kind, [], False))
    within = draw(st.one_of(st.just({}), WINDOWS.map(lambda window: {"within": window})))
    return {**step, "agg": agg["agg"], **of, **within, **test}


def tag_tests() -> st.SearchStrategy[Any]:
    return st.sampled_from(PANEL["tags"]).flatmap(
        lambda each: choices(each["operators"], each["type"], each["values"], True).map(
            lambda test: {"tag": each["name"], **test}
        )
    )


OWN = [each for each in PANEL["fields"] if each["entity"] == "user"]
DEVICE = [each for each in PANEL["fields"] if each["entity"] == "device"]
LEAVES = st.one_of(
    field_tests(OWN),
    event_tests(),
    tag_tests(),
    st.sampled_from(PANEL["groups"]).map(lambda each: {"group": each["name"]}),
    field_tests(DEVICE).map(lambda each: {"via": "owns", "any": each}),
    field_tests(OWN).map(
        lambda each: {"via": ["owns"], "count": each, "op": "ge", "value": 2, "others": True}
    ),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"all": parts}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"any": parts}),
        inner.map(lambda part: {"not": part}),
    ),
    max_leaves=6,
)


def accepted(raw: Any) -> bool:
    """Whether it can be asked."""
    try:
        group = resolve(parse(Group, {"name": "g", "where": raw}, "g"), TAGS)
        check_condition(group.condition, CATALOG)
        in_order(group.condition, GROUPS)
    except BadInput:
        return False
    return True


def fits(value: Any, schema: Any) -> bool:
    """So much of JSON Schema as ours uses; a whole number written with a point is no integer here."""
    if "$ref" in schema:
        return fits(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")])
    if "anyOf" in schema:
        return any(fits(value, each) for each in schema["anyOf"])
    if "const" in schema:
        return type(value) is type(schema["const"]) and bool(value == schema["const"])
    if "enum" in schema:
        return any(type(value) is type(each) and value == each for each in schema["enum"])
    kinds: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
                             "number": (int, float)}  # fmt: skip
    kind = schema["type"]
    if not isinstance(value, kinds[kind]) or (kind in ("integer", "number") and isinstance(value, bool)):
        return False
    if kind == "object":
        known = schema["properties"]
        whole = set(schema["required"]) <= set(value) <= set(known)
        return whole and all(fits(each, known[name]) for name, each in value.items())
    if kind == "array":
        inside = schema["minItems"] <= len(value) <= schema.get("maxItems", len(value))
        return inside and all(fits(each, schema["items"]) for each in value)
    if kind == "string":
        return re.search(schema["pattern"], value) is not None
    least, most = schema.get("minimum", -1e300), schema.get("maximum", 1e300)
    return kind == "boolean" or bool(least <= value <= most)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(TREES)
def test_what_the_panel_offers_is_accepted(raw: Any) -> None:
    assert accepted(raw), raw
    assert fits(raw, SCHEMA), raw


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_what_is_spoilt_is_refused_by_both_or_by_none(data: st.DataObject) -> None:
    raw = data.draw(LEAVES)
    names = sorted(raw)
    name = data.draw(st.sampled_from(names))
    values = ["", "x", 7, 2.5, True, None, [], ["x"], [1, 2], {}, "7d", "eq", "in", "user.age", "order"]
    change = data.draw(st.sampled_from([*values, "DROP", "ADD"]))
    spoilt = dict(raw)
    if change == "DROP":
        del spoilt[name]
    elif change == "ADD":
        spoilt["surprise"] = 1
    else:
        spoilt[name] = change
    late = {"during"} & set(spoilt) or spoilt.get("op") == "between"  # order of two ends: no schema says that
    if not late:
        assert fits(spoilt, SCHEMA) == accepted(spoilt), spoilt


def test_what_a_panel_needs_stands_in_it() -> None:
    assert PANEL["schema"] == "growth.catalog/1"
    by_name = {each["name"]: each for each in PANEL["fields"]}
    city, age = by_name["user.city"], by_name["user.age"]
    assert (city["input"], city["closed"], city["values"]) == ("select", True, ["Kiel", "O'Hara"])
    assert (age["input"], age["range"], age["unit"], age["label"]) == ("number", [0, 120], "years", "Age")
    inputs = {each["op"]: each["input"] for each in city["operators"]}
    assert (inputs["eq"], inputs["in"], inputs["contains"], inputs["is_null"]) == (
        "select", "multiselect", "text", None,
    )  # fmt: skip
    assert [by_name[f"user.{name}"]["input"] for name in ("vip", "born", "seen", "note")] == [
        "toggle", "date", "datetime", "text",
    ]  # fmt: skip
    ops = {name: {each["op"] for each in by_name[f"user.{name}"]["operators"]} for name in ("vip", "age")}
    assert "lt" not in ops["vip"]
    assert "contains" not in ops["age"]
    order = PANEL["events"][0]
    assert {each["agg"]: each["of"] for each in order["aggregations"]} == {
        "count": [], "sum": ["amount"], "avg": ["amount"], "min": ["amount", "due"], "max": ["amount", "due"],
        "distinct": ["amount", "kind", "due", "gift"],
    }  # fmt: skip
    assert {each["name"]: each["evaluation"] for each in PANEL["groups"]} == {
        "staff": "batch", "fresh": "real_time", "both": "batch", "pinned": "batch",
    }  # fmt: skip
