"""All that a user interface needs to draw the condition panel, as plain JSON: no code per field.

Versioned by `SCHEMA`; whatever is added later, what stands here keeps its name and meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

from insight.catalog import Catalog, EventRoute, Labelled, Type
from insight.condition_parse import MOST_DEEP, MOST_DEEP_FILTER, MOST_NODES, MOST_VALUES
from insight.conditions import AGGREGATES, FIELD_OPS, NUMBER_OPS
from insight.evaluation import evaluation_mode
from insight.groups import Group
from insight.observed import Observed
from insight.tags import Tag

SCHEMA = "growth.catalog/1"
#: op → (as a person reads it, values that it takes: 0, 1, 2, or -1 for a list)
OPERATORS: dict[str, tuple[str, int]] = {
    "eq": ("is", 1),
    "ne": ("is not", 1),
    "in": ("is one of", -1),
    "not_in": ("is none of", -1),
    "lt": ("is less than", 1),
    "le": ("is at most", 1),
    "gt": ("is more than", 1),
    "ge": ("is at least", 1),
    "between": ("is between", 2),
    "contains": ("contains", 1),
    "is_null": ("is unknown", 0),
    "not_null": ("is known", 0),
}
_BY_TIME = {"lt": "is before", "le": "is on or before", "gt": "is after", "ge": "is on or after"}
_BY_TEXT = {"lt": "comes before", "le": "is or comes before", "gt": "comes after", "ge": "is or comes after"}
_ORDER = ("lt", "le", "gt", "ge", "between")
_INPUT = {
    "string": "text",
    "integer": "number",
    "decimal": "number",
    "boolean": "toggle",
    "date": "date",
    "datetime": "datetime",
}
_AGGREGATE = {
    "count": "number of times",
    "sum": "sum of",
    "avg": "average of",
    "min": "lowest of",
    "max": "highest of",
    "distinct": "number of different",
}
WINDOWS = (
    ("1h", "last hour"),
    ("24h", "last 24 hours"),
    ("7d", "last 7 days"),
    ("14d", "last 14 days"),
    ("30d", "last 30 days"),
    ("90d", "last 90 days"),
    ("180d", "last 180 days"),
    ("365d", "last 365 days"),
)


def operators_of(kind: Type) -> tuple[str, ...]:
    """The tests that a field of this type takes."""
    if kind == "boolean":
        return tuple(op for op in FIELD_OPS if op not in (*_ORDER, "contains"))
    return FIELD_OPS if kind == "string" else tuple(op for op in FIELD_OPS if op != "contains")


def aggregates_of(kind: Type) -> tuple[str, ...]:
    """The numbers that can be made of an event's field of this type."""
    if kind in ("integer", "decimal"):
        return tuple(each for each in AGGREGATES if each != "count")
    return ("min", "max", "distinct") if kind in ("date", "datetime") else ("distinct",)


def result_type(agg: str, kind: Type | None) -> Type:
    """The type of the number that an aggregate of a field of this type gives."""
    if agg in ("count", "distinct"):
        return "integer"
    return kind if kind in ("date", "datetime") else "decimal"


def condition_panel(
    catalog: Catalog, groups: Mapping[str, Group], tags: Mapping[str, Tag] | None = None
) -> dict[str, Any]:
    """`GET /v1/catalog`. `groups` with their tags written out."""
    seen = catalog.observed
    return {
        "schema": SCHEMA,
        "fingerprint": catalog.fingerprint,
        "profiled_at": seen.at.isoformat() if seen else None,
        "entity": {"name": "user", "key": catalog.entity.key},
        "fields": [
            {
                **_field(name, route, seen.fields.get(name) if seen else None),
                #: other entities' fields are asked by `via`
                "entity": name.partition(".")[0],
                "group": route.table,
                "source": catalog.field_place(name)[0],
                "freshness": route.freshness,
            }
            for name, route in catalog.fields.items()
        ],
        "events": [_event(catalog, name, event) for name, event in catalog.events.items()],
        "groups": [
            {
                "name": group.name,
                "label": group.title,
                "description": group.description,
                "mode": group.mode,
                "evaluation": evaluation_mode(group.condition, catalog, groups)
                if group.mode == "dynamic"
                else "batch",
            }
            for group in groups.values()
        ],
        "tags": [_tag(catalog, tag) for tag in (tags or {}).values()],
        "mappings": [
            {"name": name, "from": route.from_, "to": route.to} for name, route in catalog.mappings.items()
        ],
        "windows": {
            "presets": [{"value": value, "label": label} for value, label in WINDOWS],
            "pattern": "^[1-9][0-9]{0,5}[smhdw]$",
            "meaning": "(as_of − window, as_of], a day is 24 hours",
        },
        "limits": {
            "depth": MOST_DEEP,
            "event_filter_depth": MOST_DEEP_FILTER,
            "parts": MOST_NODES,
            "values": MOST_VALUES,
        },
    }


def _field(name: str, route: Labelled, seen: Observed | None) -> dict[str, Any]:
    values = route.values if route.values is not None else (seen.values if seen else ())
    span = route.range or (seen.range if seen else None)
    if route.type == "boolean":
        values = (True, False)
    return {
        "name": name,
        "label": route.label or name.rpartition(".")[2].replace("_", " ").capitalize(),
        "description": route.description,
        "type": route.type,
        "unit": route.unit,
        "input": _input("eq", route.type, bool(values)),
        "operators": _operators(operators_of(route.type), route.type, bool(values)),
        "values": [_plain(each) for each in values],
        #: whether anything but `values` is refused
        "closed": route.values is not None or route.type == "boolean",
        "values_from": _origin(route.values is not None, bool(values)),
        "range": [_plain(each) for each in span] if span else None,
        "range_from": _origin(route.range is not None, span is not None),
        "rows": seen.rows if seen else None,
        "nulls": seen.nulls if seen else None,
        "distinct": seen.distinct if seen else None,
    }


def _event(catalog: Catalog, name: str, event: EventRoute) -> dict[str, Any]:
    profile = catalog.observed
    seen = profile.events.get(name) if profile else None
    fields = [
        {
            **_field(f"{name}.{short}", route, profile.fields.get(f"{name}.{short}") if profile else None),
            "aggregations": list(aggregates_of(route.type)),
        }
        for short, route in event.fields.items()
    ]
    return {
        "name": name,
        "label": event.label or name.replace("_", " ").capitalize(),
        "description": event.description,
        "role": event.role,
        "group": event.table,
        "source": event.source,
        "freshness": event.freshness,
        "late": event.late,
        "rows": seen.rows if seen else None,
        "first": seen.first.isoformat() if seen and seen.first else None,
        "last": seen.last.isoformat() if seen and seen.last else None,
        "fields": fields,
        "aggregations": [_aggregation(agg, event) for agg in AGGREGATES if agg == "count" or _of(agg, event)],
        #: first and last take older_than, newer_than; not_followed_by takes within, during
        "forms": ["aggregate", "first", "last", "sequence", "not_followed_by"],
    }


def _aggregation(agg: str, event: EventRoute) -> dict[str, Any]:
    """One number that can be made of the event, and how it can be tested, by the type that it has then."""
    of = _of(agg, event)
    kinds = {result_type(agg, event.fields[short].type) for short in of} if of else {result_type(agg, None)}
    return {
        "agg": agg,
        "label": _AGGREGATE[agg],
        "of": of,
        "of_required": agg != "count",
        "tests": {kind: _operators(NUMBER_OPS, kind, False) for kind in sorted(kinds)},
    }


def _tag(catalog: Catalog, tag: Tag) -> dict[str, Any]:
    kind = tag_type(catalog, tag)
    labels = [each.label for each in tag.labels]
    return {
        "name": tag.name,
        "label": tag.title,
        "description": tag.description,
        "owner": tag.owner,
        "is": tag.type,
        "type": kind,
        "values": labels if labels else [True, False] if kind == "boolean" else [],
        "input": _input("eq", kind, bool(labels)),
        "operators": _operators(tag_operators(catalog, tag), kind, bool(labels)),
        "evaluation": tag.freshness,
    }


def tag_type(catalog: Catalog, tag: Tag) -> Type:
    """What a test of a tag compares with. Raises NotFound for a name that the catalog does not know."""
    if tag.type != "value" or tag.source is None:
        return "boolean" if tag.type == "yes_no" else "string"
    if "field" in tag.source:
        return catalog.field(tag.source["field"], f"tag {tag.name}").type
    event, of = tag.source["event"], tag.source.get("of")
    if of is None:
        return "integer"
    short = catalog.event_field(event, of, f"tag {tag.name}", "of")
    return result_type(tag.source["agg"], catalog.events[event].fields[short].type)


def tag_operators(catalog: Catalog, tag: Tag) -> tuple[str, ...]:
    """The tests that a tag takes; one that is true or false can also stand alone."""
    if tag.type == "yes_no":
        return ("eq", "ne", "is_null", "not_null")
    if tag.type == "label":
        return ("eq", "ne", "in", "not_in", "is_null", "not_null")
    if tag.source is not None and "field" in tag.source:
        return operators_of(tag_type(catalog, tag))
    return (*NUMBER_OPS, "is_null", "not_null")


def _of(agg: str, event: EventRoute) -> list[str]:
    return [short for short, route in event.fields.items() if agg in aggregates_of(route.type)]


def _operators(ops: Iterable[str], kind: Type, choice: bool) -> list[dict[str, Any]]:
    words = _BY_TEXT if kind == "string" else _BY_TIME if kind in ("date", "datetime") else {}
    return [
        {
            "op": op,
            "label": words.get(op, OPERATORS[op][0]),
            #: how many values: 0, 1, 2, or "many"
            "arity": "many" if OPERATORS[op][1] < 0 else OPERATORS[op][1],
            "input": _input(op, kind, choice),
        }
        for op in ops
    ]


def _input(op: str, kind: Type, choice: bool) -> str | None:
    """What draws the value: select, multiselect, number, date, datetime, text, toggle; None for no value."""
    if op in ("is_null", "not_null"):
        return None
    if op in ("in", "not_in"):
        return "multiselect"
    if op in ("eq", "ne") and choice and kind != "boolean":
        return "select"
    return _INPUT[kind]


def _origin(declared: bool, there: bool) -> str | None:
    return "catalog" if declared else "profile" if there else None


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | datetime) else value
