"""A condition against the catalog: names in full, values of the declared type, nothing unknown."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from insight.catalog import Catalog
from insight.conditions import (
    AllOf,
    AnyOf,
    Condition,
    EventAge,
    EventTest,
    FieldTest,
    InGroup,
    InOrder,
    Leaf,
    Linked,
    LinkedFields,
    Not,
    NotFollowed,
    Step,
    Test,
    evaluate,
    parents_first,
)
from insight.mapping import far_end
from kernel.clock import parse_date, parse_instant
from kernel.errors import BadInput, NotFound

_NUMBERS = ("integer", "decimal")
_ORDERED = (*_NUMBERS, "date", "datetime")
_UTC = ZoneInfo("UTC")
#: no event is older, and no window may reach further back: 200 years
_LONGEST = timedelta(days=73_000)


def check_condition(condition: Condition, catalog: Catalog, where: str = "") -> None:
    """Raises BadInput for the first leaf that the catalog cannot answer. Groups are the caller's."""
    for node in parents_first(condition):
        if isinstance(node, Linked):
            check_linked(node, node.part, catalog, where)
        elif not isinstance(node, AllOf | AnyOf | Not | InGroup):
            check_leaf(node, catalog, where)


def check_linked(node: Linked, part: Condition, catalog: Catalog, where: str = "") -> Linked:
    """The node over a checked part, its count a whole number. Raises BadInput, NotFound."""
    far_end(catalog, node.via, where)
    return replace(node, part=part, test=_counted(node.test, where))


def _counted(test: Test | None, where: str) -> Test | None:
    return test and _typed(test, "integer", None, where, "count of those linked")


def _linked_fields(leaf: LinkedFields, catalog: Catalog, where: str) -> LinkedFields:
    entity = far_end(catalog, leaf.via, where)

    def of_entity(end: Leaf | InGroup) -> Condition:
        assert isinstance(end, FieldTest)  # noqa: S101  the parser lets nothing else in
        route = catalog.field(end.field, where)
        if not end.field.startswith(f"{entity}."):
            raise BadInput(f"is no field of {entity}, to which this `via` leads", where=where, field="field",
                           value=end.field)  # fmt: skip
        return replace(end, test=_typed(end.test, route.type, route.values, where, end.field))

    return replace(leaf, part=_rebuilt(leaf.part, of_entity), test=_counted(leaf.test, where))


def _rebuilt(condition: Condition, end: Callable[[Leaf | InGroup], Condition]) -> Condition:
    """The same tree over other ends."""
    return evaluate(
        condition,
        end=end,
        every=lambda parts: AllOf(parts=tuple(parts)),
        some=lambda parts: AnyOf(parts=tuple(parts)),
        opposite=lambda part: Not(part=part),
    )


def check_leaf(leaf: Leaf, catalog: Catalog, where: str = "") -> Leaf:
    """The leaf with short event field names and typed values. Raises BadInput, NotFound."""
    if isinstance(leaf, FieldTest):
        route = catalog.field(leaf.field, where)
        if not leaf.field.startswith("user."):
            problem = "is no field of user; reach it by `via`"
            raise BadInput(problem, where=where, field="field", value=leaf.field)
        return replace(leaf, test=_typed(leaf.test, route.type, route.values, where, leaf.field))
    if isinstance(leaf, InOrder):
        _short_enough(leaf.within, "within", where)
        return replace(leaf, steps=tuple(_step(step, catalog, where) for step in leaf.steps))
    if isinstance(leaf, NotFollowed):
        _short_enough(leaf.within, "within", where)
        _short_enough(leaf.during, "during", where)
        if leaf.during is not None and leaf.during <= leaf.within:
            raise BadInput(
                "must be longer than within, or nothing can match",
                where=where,
                field="during",
                value=str(leaf.during),
            )
        return replace(leaf, step=_step(leaf.step, catalog, where), by=_step(leaf.by, catalog, where))
    if isinstance(leaf, EventAge):
        _short_enough(leaf.older_than, "older_than", where)
        _short_enough(leaf.newer_than, "newer_than", where)
        return replace(leaf, step=_step(leaf.step, catalog, where))
    if isinstance(leaf, LinkedFields):
        return _linked_fields(leaf, catalog, where)
    return _event(leaf, catalog, where)


def _event(leaf: EventTest, catalog: Catalog, where: str) -> EventTest:
    _short_enough(leaf.within, "within", where)
    step = _step(leaf.step, catalog, where)
    if leaf.of is None:
        test = _typed(leaf.test, "integer", None, where, f"count of {step.event}")
        return replace(leaf, step=step, test=test)
    of = catalog.event_field(step.event, leaf.of, where, "of")
    kind: str = catalog.events[step.event].fields[of].type
    if leaf.agg == "distinct":
        kind = "integer"
    else:
        allowed = _NUMBERS if leaf.agg in ("sum", "avg") else _ORDERED
        if kind not in allowed:
            raise BadInput(
                f"is {kind}, of which there is no {leaf.agg}", where=where, field="of", value=leaf.of
            )
        kind = "decimal" if kind == "integer" else kind
    name = f"{leaf.agg} of {step.event}.{of}"
    return replace(leaf, step=step, of=of, test=_typed(leaf.test, kind, None, where, name))


def _step(step: Step, catalog: Catalog, where: str) -> Step:
    fields = catalog.event(step.event, where).fields
    if step.where is None:
        return step

    def line(end: Leaf | InGroup) -> Condition:
        assert isinstance(end, FieldTest)  # noqa: S101  the parser lets nothing else into a filter
        short = catalog.event_field(step.event, end.field, where)
        route = fields[short]
        test = _typed(end.test, route.type, route.values, where, f"{step.event}.{short}")
        return FieldTest(field=short, test=test)

    return replace(step, where=_rebuilt(step.where, line))


def _short_enough(window: timedelta | None, name: str, where: str) -> None:
    if window is not None and window > _LONGEST:
        raise BadInput("is longer than 200 years", where=where, field=name, value=f"{window.days}d")


def _typed(test: Test, kind: str, known: tuple[Any, ...] | None, where: str, name: str) -> Test:
    """The test with values of type `kind`; members of a list are sorted, each once."""
    if test.op == "contains" and kind != "string":
        raise BadInput(f"is for text, and {name} is {kind}", where=where, field="op", value="contains")
    if kind == "boolean" and test.op in ("lt", "le", "gt", "ge", "between"):
        raise BadInput(
            f"is for what has an order, and {name} is boolean", where=where, field="op", value=test.op
        )
    if test.value is None:
        return test
    if not isinstance(test.value, tuple):
        value = _value(test.value, kind, where, name)
        _among(value, known, test.op, where, name)
        return Test(op=test.op, value=value)
    values: list[Any] = [_value(each, kind, where, name) for each in test.value]
    for value in values:
        _among(value, known, test.op, where, name)
    if test.op == "between":
        if values[0] > values[1]:
            raise BadInput("has its low end above its high end", where=where, field=f"value for {name}",
                           value=f"{values[0]} … {values[1]}")  # fmt: skip
        return Test(op=test.op, value=tuple(values))
    return Test(op=test.op, value=tuple(sorted(set(values))))


def _among(value: object, known: tuple[Any, ...] | None, op: str, where: str, name: str) -> None:
    """A value that the field never has, in a test for equality, is a slip of the pen."""
    if known is not None and op in ("eq", "ne", "in", "not_in") and value not in known:
        raise NotFound(f"value of {name}", value, known, where=where, field="value")


def _value(value: object, kind: str, where: str, name: str) -> object:
    wrong = BadInput(
        f"is not {_ARTICLE[kind]}, as {name} is", where=where, field="value", value=_plain(value)
    )
    if kind == "string" and isinstance(value, str):
        return value
    if kind == "boolean" and isinstance(value, bool):
        return value
    if kind in _NUMBERS and isinstance(value, int | float) and not isinstance(value, bool):
        if kind == "integer":
            if isinstance(value, float) or not -(2**63) <= value < 2**63:
                raise wrong
            return value
        number = float(value) if abs(value) < 1e300 else math.inf
        if not math.isfinite(number):
            raise wrong
        return number
    if kind == "date" and isinstance(value, str | date) and not isinstance(value, datetime):
        return value if isinstance(value, date) else parse_date(value, field=f"value for {name}")
    if kind == "datetime" and isinstance(value, str | date):
        text = value if isinstance(value, str) else value.isoformat()
        return parse_instant(text, _UTC, field=f"value for {name}").astimezone(UTC)
    raise wrong


_ARTICLE = {
    "string": "text",
    "integer": "a whole number",
    "decimal": "a number",
    "boolean": "true or false",
    "date": "a date",
    "datetime": "a time",
}


def _plain(value: object) -> object:
    return value if isinstance(value, int | float | bool) else str(value)[:80]
