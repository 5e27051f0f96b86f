"""A JSON Schema (2020-12) of the conditions that a catalog can answer.

What it lets through, `parse_condition` and `check_condition` let through, but for what no schema can say:
ends of a range in order, windows that leave no time, nesting deeper than the limits, and a whole number
written with a decimal point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from insight.catalog import USER, Catalog, EventRoute, Labelled, Type
from insight.catalog_panel import aggregates_of, operators_of, result_type, tag_operators, tag_type
from insight.condition_parse import MOST_STEPS, MOST_VALUES
from insight.conditions import AGGREGATES, NUMBER_OPS
from insight.tags import Tag

#: 200 years at most, as `parse_window` and the catalog have it
WINDOW = (
    "^([1-9][0-9]{0,5}[smh]|([1-9][0-9]{0,3}|[1-6][0-9]{4}|7[0-2][0-9]{3}|73000)d"
    "|([1-9][0-9]{0,3}|10[0-3][0-9]{2}|104[01][0-9]|1042[0-8])w)$"
)
_DATE = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
_TIME = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_VALUE: dict[Type, dict[str, Any]] = {
    "string": {"type": "string", "pattern": "^[^\\u0000\\ud800-\\udfff]*$"},
    "integer": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "decimal": {"type": "number", "exclusiveMinimum": -1e300, "exclusiveMaximum": 1e300},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "pattern": f"^{_DATE}$"},
    "datetime": {"type": "string", "pattern": f"^{_DATE}(T{_TIME})?$"},
}
_SPAN = {"type": "string", "pattern": WINDOW}


def condition_schema(
    catalog: Catalog, groups: Iterable[str], tags: Mapping[str, Tag] | None = None
) -> dict[str, Any]:
    """The schema, with a definition for conditions, one for the filter of each event, and one for what can
    be asked of each entity by `via`."""
    names = sorted(groups)
    leaves = [
        each
        for name, route in catalog.fields.items()
        if name.startswith(f"{USER}.")
        for each in _tests({"field": {"const": name}}, operators_of(route.type), route.type, route.values)
    ]
    for name, event in catalog.events.items():
        leaves.extend(_event_leaves(name, event))
    for name, tag in (tags or {}).items():
        if tag.type == "yes_no":
            leaves.append(_object({"tag": {"const": name}}))
        labels = tuple(each.label for each in tag.labels) or None
        ops = tag_operators(catalog, tag)
        leaves.extend(_tests({"tag": {"const": name}}, ops, tag_type(catalog, tag), labels))
    leaves.extend(_linked(catalog))
    if names:
        leaves.append(_object({"group": {"enum": names}}))
    if catalog.events:
        steps = {
            "type": "array",
            "minItems": 1,
            "items": {"anyOf": [_step(*each) for each in catalog.events.items()]},
        }
        leaves.append(_object({"sequence": steps, "within": _SPAN}))
    definitions = {"condition": _tree("condition", leaves)}
    if catalog.events:
        names_too = [{"enum": list(catalog.events)}, *(_step(*each) for each in catalog.events.items())]
        definitions["follower"] = {"anyOf": names_too}
    for entity, asked in _entity_fields(catalog).items():
        definitions[f"about_{entity}"] = _tree(f"about_{entity}", asked)
    for name, event in catalog.events.items():
        if not event.fields:
            continue
        definitions[_filter(name)] = _tree(_filter(name), _line_tests(name, event.fields))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": "#/$defs/condition",
        "$defs": definitions,
    }


def _linked(catalog: Catalog) -> list[dict[str, Any]]:
    """Every chain of mappings that leads from the user somewhere, with what can be asked there."""
    found = []
    for via, entity in chains(catalog):
        asked = {"$ref": "#/$defs/condition"}
        told: dict[str, Any] = {"others": {"type": "boolean"}}
        for below, maybe in ((asked, told), ({"$ref": f"#/$defs/about_{entity}"}, {})):
            if below is not asked and entity not in _entity_fields(catalog):
                continue
            path = {"enum": [list(via), via[0]]} if len(via) == 1 else {"const": list(via)}
            found += [_object({"via": path, each: below}, maybe) for each in ("any", "all")]
            found += _tests({"via": path, "count": below}, NUMBER_OPS, "integer", None, maybe)
    return found


def chains(catalog: Catalog) -> list[tuple[tuple[str, ...], str]]:
    """Mappings one after the other, from the user to another entity, as far as `via` goes."""
    found: list[tuple[tuple[str, ...], str]] = []
    ends: list[tuple[tuple[str, ...], str]] = [((), USER)]
    for _ in range(MOST_STEPS):
        longer = []
        for via, entity in ends:
            for name, route in catalog.mappings.items():
                if entity in (route.from_, route.to):
                    longer.append(((*via, name), route.to if entity == route.from_ else route.from_))
        found += [each for each in longer if each[1] != USER]
        ends = longer
    return found


def _entity_fields(catalog: Catalog) -> dict[str, list[dict[str, Any]]]:
    """Entity other than the user → tests of its fields."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, route in catalog.fields.items():
        entity = name.partition(".")[0]
        if entity != USER:
            tests = _tests({"field": {"const": name}}, operators_of(route.type), route.type, route.values)
            found.setdefault(entity, []).extend(tests)
    return found


def _tree(name: str, leaves: list[dict[str, Any]]) -> dict[str, Any]:
    below = {"$ref": f"#/$defs/{name}"}
    several = {"type": "array", "minItems": 1, "items": below}
    forms = [_object({"all": several}), _object({"any": several}), _object({"not": below})]
    return {"anyOf": [*forms, *leaves]}


def _event_leaves(name: str, event: EventRoute) -> Iterable[dict[str, Any]]:
    base = {"event": {"const": name}}
    maybe = {"within": _SPAN, **_where(name, event)}
    for agg in AGGREGATES:
        known = {**base, "agg": {"const": agg}}
        if agg == "count":
            yield from _tests(known, NUMBER_OPS, "integer", None, maybe)
            continue
        kinds: dict[Type, list[str]] = {}
        for short, route in event.fields.items():
            if agg in aggregates_of(route.type):
                kinds.setdefault(result_type(agg, route.type), []).extend((short, f"{name}.{short}"))
        for kind, of in kinds.items():
            yield from _tests({**known, "of": {"enum": of}}, NUMBER_OPS, kind, None, maybe)
    for which in ("first", "last"):
        ages = {"older_than": _SPAN, "newer_than": _SPAN, **_where(name, event)}
        for age in ("older_than", "newer_than"):
            need = {**base, which: {"const": True}, age: _SPAN}
            yield _object(need, {key: each for key, each in ages.items() if key not in need})
    followed = {**base, "not_followed_by": {"$ref": "#/$defs/follower"}, "within": _SPAN}
    yield _object(followed, {"during": _SPAN, **_where(name, event)})


def _step(name: str, event: EventRoute) -> dict[str, Any]:
    return _object({"event": {"const": name}}, _where(name, event))


def _where(name: str, event: EventRoute) -> dict[str, Any]:
    return {"where": {"$ref": f"#/$defs/{_filter(name)}"}} if event.fields else {}


def _filter(event: str) -> str:
    return f"filter_{event}"


def _line_tests(name: str, fields: Mapping[str, Labelled]) -> list[dict[str, Any]]:
    return [
        each
        for short, route in fields.items()
        for each in _tests(
            {"field": {"enum": [short, f"{name}.{short}"]}},
            operators_of(route.type),
            route.type,
            route.values,
        )
    ]


def _tests(
    known: dict[str, Any],
    ops: Iterable[str],
    kind: Type,
    values: tuple[Any, ...] | None,
    maybe: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """One object for each arity that the operators have."""
    ops = tuple(ops)
    any_value = _VALUE[kind]
    same = any_value if values is None else {"enum": list(values)}
    forms: list[tuple[tuple[str, ...], dict[str, Any] | None]] = [
        (("eq", "ne"), same),
        (("lt", "le", "gt", "ge", "contains"), any_value),
        (("in", "not_in"), {"type": "array", "minItems": 1, "maxItems": MOST_VALUES, "items": same}),
        (("between",), {"type": "array", "minItems": 2, "maxItems": 2, "items": any_value}),
        (("is_null", "not_null"), None),
    ]
    found = []
    for named, value in forms:
        usable = [op for op in named if op in ops]
        if usable:
            shape = {**known, "op": {"enum": usable}}
            found.append(_object(shape if value is None else {**shape, "value": value}, maybe))
    return found


def _object(needed: dict[str, Any], maybe: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**needed, **(maybe or {})},
        "required": list(needed),
        "additionalProperties": False,
    }
