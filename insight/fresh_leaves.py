"""Leaves about events: what they look at, and when time alone can change their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from insight.conditions import (
    AllOf,
    AnyOf,
    Condition,
    EventAge,
    EventTest,
    InOrder,
    Not,
    NotFollowed,
    branches,
)

EventLeaf = EventTest | EventAge | InOrder | NotFollowed
_NOW = timedelta(0)


class Line(NamedTuple):
    """One line of an event."""

    at: datetime
    #: lines of one event share it
    event_id: object
    #: field of the event → value; absent is NULL
    values: Mapping[str, Any]


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


def leaves_in(condition: Condition) -> list[Condition]:
    """Everything in the tree that is not all, any or not."""
    return [node for node in opened(condition) if not isinstance(node, AllOf | AnyOf | Not)]
