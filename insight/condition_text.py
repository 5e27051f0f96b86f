"""A leaf as a person reads it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from insight.conditions import (
    AllOf,
    AnyOf,
    Condition,
    EventAge,
    EventTest,
    FieldTest,
    InGroup,
    InOrder,
    Linked,
    LinkedFields,
    Not,
    Step,
    Test,
    evaluate,
)

_SIGNS = {"eq": "=", "ne": "≠", "lt": "<", "le": "≤", "gt": ">", "ge": "≥"}
_WORDS = {"is_null": "is unknown", "not_null": "is known", "not_in": "not in"}


def phrase(node: Condition) -> str:
    """One line for a node, without what is below it."""
    if isinstance(node, AllOf):
        return "all of"
    if isinstance(node, AnyOf):
        return "any of"
    if isinstance(node, Not):
        return "not"
    if isinstance(node, InGroup):
        return f"in group {node.group}"
    if isinstance(node, FieldTest):
        return f"{node.field} {_test(node.test)}"
    if isinstance(node, EventTest):
        what = (
            f"number of {_step(node.step)}"
            if node.of is None
            else f"{node.agg} of {node.of} of {_step(node.step)}"
        )
        return f"{what}{_within(node.within)} {_test(node.test)}"
    if isinstance(node, EventAge):
        parts = []
        if node.older_than is not None:
            parts.append(f"at least {_span(node.older_than)} ago")
        if node.newer_than is not None:
            parts.append(f"less than {_span(node.newer_than)} ago")
        return f"{node.which} {_step(node.step)} {' and '.join(parts)}"
    if isinstance(node, InOrder):
        return f"{', then '.join(_step(step) for step in node.steps)}{_within(node.within)}"
    if isinstance(node, Linked | LinkedFields):
        return _linked(node)
    followed = f"not followed by {_step(node.by)} within {_span(node.within)}"
    return f"{_step(node.step)}{_within(node.during)} {followed}"


def _linked(node: Linked | LinkedFields) -> str:
    who = f"{'others' if isinstance(node, Linked) and node.others else 'those'} via {' and '.join(node.via)}"
    asked = _whole(node.part)
    if node.test is not None:
        return f"number of {who} where {asked} {_test(node.test)}"
    return f"{node.quantifier} of {who}: {asked}"


def _whole(condition: Condition) -> str:
    """The whole of a condition in one line."""
    told: str = evaluate(
        condition,
        end=phrase,
        every=lambda parts: _joined(parts, "and"),
        some=lambda parts: _joined(parts, "or"),
        opposite=lambda part: f"not {part}",
        through=lambda linked, _: _linked(linked),
    )
    return told


def _step(step: Step) -> str:
    if step.where is None:
        return step.event
    return f"{step.event} where {_whole(step.where)}"


def _joined(parts: Sequence[str], word: str) -> str:
    return parts[0] if len(parts) == 1 else f"({f' {word} '.join(parts)})"


def _test(test: Test) -> str:
    if isinstance(test.value, tuple):
        shown = ", ".join(str(each) for each in test.value[:5]) + (", …" if len(test.value) > 5 else "")
        return f"{_WORDS.get(test.op, test.op)} [{shown}]"
    if test.value is None:
        return _WORDS[test.op]
    return f"{_SIGNS.get(test.op, test.op)} {test.value}"


def _within(window: timedelta | None) -> str:
    return "" if window is None else f" within {_span(window)}"


def _span(window: timedelta) -> str:
    seconds = int(window.total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
