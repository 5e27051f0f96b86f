"""Conditions from parsed YAML: the shape is checked here, names and types in `condition_check`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from insight.conditions import (
    AGGREGATES,
    FIELD_OPS,
    NUMBER_OPS,
    QUANTIFIERS,
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
    NotFollowed,
    Step,
    Test,
    ends,
)
from kernel.clock import parse_window
from kernel.errors import BadInput, NotFound

#: deepest nesting of all, any and not; and of those inside an event's `where`
MOST_DEEP, MOST_DEEP_FILTER = 500, 30
#: most statements in one condition
MOST_NODES = 20_000
#: most values in one `in`
MOST_VALUES = 10_000
#: most mappings in one `via`
MOST_STEPS = 4
_FORMS = ("via", "all", "any", "not", "field", "sequence", "group", "event")


def parse_condition(raw: object, where: str = "", at: str = "where", deepest: int = MOST_DEEP) -> Condition:
    """The condition that `raw` spells. Raises BadInput naming `where`, the path in it and the value."""
    return _parse(raw, where, at, deepest=deepest, filtering=False)


def _parse(raw: object, where: str, at: str, *, deepest: int, filtering: bool) -> Condition:
    # Breadth first into a list, then built from its end: however deep, the stack stays flat.
    found: list[tuple[str, object, str, int]] = []
    waiting: list[tuple[object, str, int]] = [(raw, at, 0)]
    below: list[list[int]] = []
    for node, path, depth in waiting:
        if depth > deepest or len(waiting) > MOST_NODES:
            most = f"nests deeper than {deepest}" if depth > deepest else f"has more than {MOST_NODES} parts"
            raise BadInput(most, where=where, field=at)
        form, parts = _open(node, where, path, filtering)
        below.append(list(range(len(waiting), len(waiting) + len(parts))))
        waiting.extend((part, f"{_tail(path)}.{form}.{i}", depth + 1) for i, part in enumerate(parts))
        found.append((form, node, path, depth))
    built: list[Condition | None] = [None] * len(found)
    for i in reversed(range(len(found))):
        form, node, path, _ = found[i]
        parts_built = tuple(part for j in below[i] if (part := built[j]) is not None)
        if form == "all":
            built[i] = AllOf(parts=parts_built)
        elif form == "any":
            built[i] = AnyOf(parts=parts_built)
        elif form == "not":
            built[i] = Not(part=parts_built[0])
        elif form == "via":
            built[i] = _via(node, parts_built[0], where, path)
        else:
            built[i] = _leaf(form, node, where, path)
    root = built[0]
    assert root is not None  # noqa: S101  every node above was built
    return root


def _open(node: object, where: str, path: str, filtering: bool) -> tuple[str, list[object]]:
    """Which form a node has, and the nodes directly below it."""
    if not isinstance(node, Mapping):
        raise BadInput("is not a condition", where=where, field=path, value=_short(node))
    forms = ("all", "any", "not", "field") if filtering else _FORMS
    form = next((name for name in forms if name in node), None)
    if form is None and "tag" in node:
        problem = "names a tag, which can stand where a user's condition stands, of applied groups and tags"
        raise BadInput(problem, where=where, field=path, value=_short(node["tag"]))
    if form is None:
        allowed = ", ".join(forms)
        raise BadInput(f"has none of {allowed}", where=where, field=path, value=_short(dict(node)))
    if form == "via":
        return form, [_quantified(node, where, path)[1]]
    if form not in ("all", "any", "not"):
        return form, []
    _only(node, (form,), where, path)
    if form == "not":
        return form, [node["not"]]
    parts = node[form]
    if not isinstance(parts, list | tuple) or not parts:
        raise BadInput(
            "is not a list of conditions", where=where, field=f"{path}.{form}", value=_short(parts)
        )
    return form, list(parts)


def _quantified(node: Any, where: str, path: str) -> tuple[str, object]:
    """Which of any, all and count a `via` has, and what it asks."""
    found = [name for name in QUANTIFIERS if name in node]
    if len(found) != 1:
        raise BadInput(
            f"needs one of {', '.join(QUANTIFIERS)}", where=where, field=path, value=_short(dict(node))
        )
    return found[0], node[found[0]]


def _via(node: Any, part: Condition, where: str, path: str) -> Condition:
    quantifier, _ = _quantified(node, where, path)
    counted = ("op", "value") if quantifier == "count" else ()
    _only(node, ("via", quantifier, "others", *counted), where, path)
    via = node["via"] if isinstance(node["via"], list | tuple) else [node["via"]]
    if not 0 < len(via) <= MOST_STEPS or not all(isinstance(name, str) for name in via):
        problem = f"is not a mapping, nor a list of 1 to {MOST_STEPS}"
        raise BadInput(problem, where=where, field=f"{path}.via", value=_short(node["via"]))
    others = node.get("others", False)
    if not isinstance(others, bool):
        raise BadInput("is not true or false", where=where, field=f"{path}.others", value=_short(others))
    test = _test(node, NUMBER_OPS, where, path) if counted else None
    about = {end.field.partition(".")[0] for end in ends(part) if isinstance(end, FieldTest)} - {"user"}
    if not about:
        return Linked(via=tuple(via), quantifier=quantifier, part=part, others=others, test=test)
    alike = all(isinstance(end, FieldTest) and end.field.startswith(f"{min(about)}.") for end in ends(part))
    if len(about) > 1 or not alike:
        problem = f"asks {min(about)} and others at once; give each a `via` of its own"
        raise BadInput(problem, where=where, field=f"{path}.{quantifier}")
    if others:
        raise BadInput(f"is for users, not for {min(about)}", where=where, field=f"{path}.others", value=True)
    return LinkedFields(via=tuple(via), quantifier=quantifier, part=part, test=test)


def _leaf(form: str, node: Any, where: str, path: str) -> Condition:
    if form == "field":
        _only(node, ("field", "op", "value"), where, path)
        return FieldTest(field=_text(node, "field", where, path), test=_test(node, FIELD_OPS, where, path))
    if form == "group":
        _only(node, ("group",), where, path)
        return InGroup(group=_text(node, "group", where, path))
    if form == "sequence":
        _only(node, ("sequence", "within"), where, path)
        steps = node["sequence"]
        if not isinstance(steps, list | tuple) or not steps:
            raise BadInput(
                "is not a list of events", where=where, field=f"{path}.sequence", value=_short(steps)
            )
        return InOrder(
            steps=tuple(_step(step, where, f"{path}.sequence.{i}") for i, step in enumerate(steps)),
            within=_window(node, "within", where, path),
        )
    return _event(node, where, path)


def _event(node: Any, where: str, path: str) -> Condition:
    if "not_followed_by" in node:
        _only(node, ("event", "where", "not_followed_by", "within", "during"), where, path)
        by = node["not_followed_by"]
        return NotFollowed(
            step=_step(node, where, path, alone=False),
            by=_step(by if isinstance(by, Mapping) else {"event": by}, where, f"{path}.not_followed_by"),
            within=_window(node, "within", where, path),
            during=_window(node, "during", where, path) if "during" in node else None,
        )
    if "first" in node or "last" in node:
        return _age(node, where, path)
    _only(node, ("event", "agg", "of", "within", "where", "op", "value"), where, path)
    agg = _text(node, "agg", where, path)
    if agg not in AGGREGATES:
        raise NotFound("agg", agg, AGGREGATES, where=where, field=f"{path}.agg")
    if agg == "count" and "of" in node:
        raise BadInput("is not for count; use distinct", where=where, field=f"{path}.of", value=node["of"])
    return EventTest(
        step=_step(node, where, path, alone=False),
        agg=agg,
        of=None if agg == "count" else _text(node, "of", where, path),
        within=_window(node, "within", where, path) if "within" in node else None,
        test=_test(node, NUMBER_OPS, where, path),
    )


def _age(node: Any, where: str, path: str) -> EventAge:
    which = "first" if "first" in node else "last"
    _only(node, ("event", which, "older_than", "newer_than", "where"), where, path)
    if node[which] is not True:
        raise BadInput("can only be true", where=where, field=f"{path}.{which}", value=_short(node[which]))
    ages = {
        name: _window(node, name, where, path) if name in node else None
        for name in ("older_than", "newer_than")
    }
    older, newer = ages["older_than"], ages["newer_than"]
    if older is None and newer is None:
        raise BadInput("needs older_than or newer_than", where=where, field=path)
    if older is not None and newer is not None and older >= newer:
        raise BadInput("leaves no time before newer_than", where=where, field=f"{path}.older_than",
                       value=str(node["older_than"]))  # fmt: skip
    return EventAge(
        step=_step(node, where, path, alone=False), which=which, older_than=older, newer_than=newer
    )


def _step(node: Any, where: str, path: str, alone: bool = True) -> Step:
    if not isinstance(node, Mapping):
        raise BadInput("is not an event such as {event: order}", where=where, field=path, value=_short(node))
    if alone:
        _only(node, ("event", "where"), where, path)
    kept = None
    if "where" in node:
        kept = _parse(node["where"], where, f"{path}.where", deepest=MOST_DEEP_FILTER, filtering=True)
    return Step(event=_text(node, "event", where, path), where=kept)


def _test(node: Any, ops: tuple[str, ...], where: str, path: str) -> Test:
    op = _text(node, "op", where, path)
    if op not in ops:
        raise NotFound("op", op, ops, where=where, field=f"{path}.op")
    if op in ("is_null", "not_null"):
        if "value" in node:
            raise BadInput(
                f"is not for {op}", where=where, field=f"{path}.value", value=_short(node["value"])
            )
        return Test(op=op)
    if "value" not in node or node["value"] is None:
        raise BadInput("is required and missing", where=where, field=f"{path}.value")
    value = node["value"]
    if op not in ("in", "not_in", "between"):
        _single(value, where, f"{path}.value")
        return Test(op=op, value=value)
    if not isinstance(value, list | tuple) or not value or (op == "between" and len(value) != 2):
        lacking = "[low, high]" if op == "between" else "a list of values"
        raise BadInput(f"is not {lacking}", where=where, field=f"{path}.value", value=_short(value))
    if len(value) > MOST_VALUES:
        problem = f"has more than {MOST_VALUES} values; keep them as a field in a source"
        raise BadInput(problem, where=where, field=f"{path}.value")
    for i, each in enumerate(value):
        _single(each, where, f"{path}.value.{i}")
    return Test(op=op, value=tuple(value))


def _single(value: object, where: str, path: str) -> None:
    """Raises BadInput for what no source can hold as one value."""
    if value is None or isinstance(value, Mapping | list | tuple | set):
        raise BadInput("is not one value", where=where, field=path, value=_short(value))
    if isinstance(value, float) and not math.isfinite(value):
        raise BadInput("is not a finite number", where=where, field=path, value=str(value))
    if isinstance(value, str) and ("\0" in value or not _encodes(value)):
        raise BadInput("holds characters that text cannot", where=where, field=path, value=ascii(value)[:80])


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _window(node: Any, name: str, where: str, path: str) -> timedelta:
    if name not in node:
        raise BadInput("is required and missing", where=where, field=f"{path}.{name}")
    try:
        return parse_window(node[name], name)
    except BadInput as error:
        raise BadInput(error.problem, where=where, field=f"{path}.{name}", value=_short(node[name])) from None


def _text(node: Any, name: str, where: str, path: str) -> str:
    value = node.get(name)
    if value is None:
        raise BadInput("is required and missing", where=where, field=f"{path}.{name}")
    if not isinstance(value, str):
        raise BadInput("is not text", where=where, field=f"{path}.{name}", value=_short(value))
    return value


def _only(node: Any, known: tuple[str, ...], where: str, path: str) -> None:
    for name in node:
        if name not in known:
            value, named = _short(node[name]), ascii(str(name))[1:-1][:80]
            raise BadInput("is not a known field here", where=where, field=f"{path}.{named}", value=value)


def _tail(path: str) -> str:
    """The end of a long path: enough to find the place, short enough for one sentence."""
    return path if len(path) <= 120 else f"…{path[-100:].partition('.')[2]}"


def _short(value: object) -> object:
    if isinstance(value, Mapping | list | tuple):
        return f"{type(value).__name__} of {len(value)}" if len(value) > 3 else _flat(value)
    return value if isinstance(value, int | float | bool) else str(value)[:80]


def _flat(value: Any) -> str:
    """Names and simple values only: a nested value may be as deep as it likes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(str(name)[:30] for name in value) + "}"
    return (
        "["
        + ", ".join(str(each)[:30] if isinstance(each, str | int | float) else "…" for each in value)
        + "]"
    )
