"""Leaves about events, answered for one user from that user's own lines: the speed layer's evaluator.

It means what `insight.conditions` says, at any instant, without a query.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from insight.conditions import (
    AllOf,
    AnyOf,
    Condition,
    EventAge,
    EventTest,
    FieldTest,
    InOrder,
    Not,
    NotFollowed,
    Step,
    Test,
    branches,
)

EventLeaf = EventTest | EventAge | InOrder | NotFollowed
#: digits to which sums and averages are compared
_DIGITS = 6
_NOW = timedelta(0)


class Line(NamedTuple):
    """One line of an event."""

    at: datetime
    #: lines of one event share it
    event_id: object
    #: field of the event → value; absent is NULL
    values: Mapping[str, Any]


#: event → a user's lines, in any order
Lines = Mapping[str, Sequence[Line]]


def holds(leaf: EventLeaf, lines: Lines, at: datetime) -> bool:
    """Whether a checked leaf (typed values, short field names) holds as of `at`."""
    if isinstance(leaf, EventTest):
        return _number(leaf, _kept(leaf.step, lines, at, leaf.within))
    if isinstance(leaf, EventAge):
        times = [line.at for line in _kept(leaf.step, lines, at, None)]
        if not times:
            return False
        edge = max(times) if leaf.which == "last" else min(times)
        older = leaf.older_than is None or edge <= at - leaf.older_than
        return older and (leaf.newer_than is None or edge > at - leaf.newer_than)
    if isinstance(leaf, InOrder):
        reached: datetime | None = None
        for step in leaf.steps:
            times = [line.at for line in _kept(step, lines, at, leaf.within)]
            reached = min((time for time in times if reached is None or time > reached), default=None)
            if reached is None:
                return False
        return True
    after = sorted(line.at for line in _kept(leaf.by, lines, at, None))
    begun = [line.at for line in _kept(leaf.step, lines, at, leaf.during) if line.at <= at - leaf.within]
    return any(not any(time < by <= time + leaf.within for by in after) for time in begun)


def edges(leaf: EventLeaf) -> Iterator[tuple[str, timedelta]]:
    """(event, how long after such an event the leaf's answer may change by itself)."""
    if isinstance(leaf, InOrder):
        for step in leaf.steps:
            yield step.event, _NOW
            yield step.event, leaf.within
        return
    yield leaf.step.event, _NOW
    if isinstance(leaf, EventTest):
        spans: tuple[timedelta | None, ...] = (leaf.within,)
    elif isinstance(leaf, EventAge):
        spans = (leaf.older_than, leaf.newer_than)
    else:
        spans = (leaf.within, leaf.during)
        yield leaf.by.event, _NOW
    for span in spans:
        if span is not None:
            yield leaf.step.event, span


def depths(leaf: EventLeaf) -> Iterator[tuple[str, timedelta | None]]:
    """(event, how far back from now a line of it can matter; None: for ever)."""
    if isinstance(leaf, InOrder):
        for step in leaf.steps:
            yield step.event, leaf.within
    elif isinstance(leaf, EventTest):
        yield leaf.step.event, leaf.within
    elif isinstance(leaf, EventAge):
        yield leaf.step.event, None
    else:
        yield leaf.step.event, leaf.during
        yield leaf.by.event, leaf.during


def events_of(leaf: EventLeaf) -> set[str]:
    return {event for event, _ in depths(leaf)}


def _kept(step: Step, lines: Lines, at: datetime, within: timedelta | None) -> list[Line]:
    since = None if within is None else at - within
    return [
        line
        for line in lines.get(step.event, ())
        if line.at <= at and (since is None or line.at > since) and _passes(step.where, line.values)
    ]


def _passes(where: Condition | None, values: Mapping[str, Any]) -> bool:
    return where is None or decide(where, lambda end: _of_line(end, values))


def decide(condition: Condition, end: Callable[[Condition], bool]) -> bool:
    """The tree's truth from that of its ends: everything that is not all, any or not. Flat, however deep."""
    truths: dict[int, bool] = {}
    for node in reversed(opened(condition)):
        if isinstance(node, AllOf):
            truths[id(node)] = all(truths[id(part)] for part in node.parts)
        elif isinstance(node, AnyOf):
            truths[id(node)] = any(truths[id(part)] for part in node.parts)
        elif isinstance(node, Not):
            truths[id(node)] = not truths[id(node.part)]
        else:
            truths[id(node)] = end(node)
    return truths[id(condition)]


def opened(condition: Condition) -> list[Condition]:
    """Nodes of the tree, each before those below it, down to what is not all, any or not."""
    nodes: list[Condition] = [condition]
    for node in nodes:
        if isinstance(node, AllOf | AnyOf | Not):
            nodes.extend(branches(node))
    return nodes


def _of_line(end: Condition, values: Mapping[str, Any]) -> bool:
    assert isinstance(end, FieldTest)  # noqa: S101  the parser lets nothing else into a filter
    return _compare(end.test, values.get(end.field))


def _compare(test: Test, found: Any) -> bool:
    op, value = test.op, test.value
    if found is None:
        return op in ("ne", "not_in", "is_null")
    if op == "eq":
        return bool(found == value)
    if op == "ne":
        return bool(found != value)
    if op in ("is_null", "not_null"):
        return op == "not_null"
    if op == "contains":
        return str(value) in found
    return _ordered(op, found, value)


def _ordered(op: str, found: Any, value: Any) -> bool:
    if op == "in":
        return found in value
    if op == "not_in":
        return found not in value
    if op == "between":
        return bool(value[0] <= found <= value[1])
    if op in ("lt", "le"):
        return bool(found < value if op == "lt" else found <= value)
    return bool(found > value if op == "gt" else found >= value)


def _number(leaf: EventTest, kept: Sequence[Line]) -> bool:
    if leaf.of is None:
        return _compare(leaf.test, len({line.event_id for line in kept}))
    values = [value for line in kept if (value := line.values.get(leaf.of)) is not None]
    if leaf.agg == "distinct":
        return _compare(leaf.test, len(set(values)))
    if leaf.agg == "sum":
        return _compare(_rounded(leaf.test), round(math.fsum(values), _DIGITS))
    if not values:
        return False
    if leaf.agg == "avg":
        return _compare(_rounded(leaf.test), round(math.fsum(values) / len(values), _DIGITS))
    return _compare(leaf.test, min(values) if leaf.agg == "min" else max(values))


def _rounded(test: Test) -> Test:
    value: Any = test.value
    rounded = tuple(round(each, _DIGITS) for each in value) if isinstance(value, tuple) else round(value, 6)
    return Test(op=test.op, value=rounded)


def leaves_in(condition: Condition) -> list[Condition]:
    """Everything in the tree that is not all, any or not."""
    return [node for node in opened(condition) if not isinstance(node, AllOf | AnyOf | Not)]
