"""Where a condition speaks of tags: found, checked in shape, replaced. What a tag says is in `tags`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from insight.condition_parse import parse_condition
from insight.conditions import FIELD_OPS
from kernel.errors import BadInput, NotFound

#: deepest nesting in a saved group, so that it can also be written down and read again
MOST_DEEP_SAVED = 100
_LISTS = ("all", "any")
_PARTS = ("not", "count", "any", "all")
#: levels of mappings and lists that a saved condition can have
_DEEPEST = 2 * MOST_DEEP_SAVED + 10


def mentions(raw: object) -> tuple[str, ...]:
    """Tags that a condition names directly, each once."""
    found = (node.get("tag") for node in nodes(raw) if "tag" in node)
    return tuple(dict.fromkeys(name for name in found if isinstance(name, str)))


def shape(raw: dict[str, Any], where: str = "") -> dict[str, Any]:
    """The condition with a stand-in for each tag, so that all else about it can be checked."""

    def stand_in(node: Mapping[str, Any]) -> dict[str, Any]:
        test_of(node, where)
        return {"field": "user.tag", "op": "is_null"}

    return replaced(raw, stand_in, where)


def test_of(node: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """The tag and `{op, value}` (empty when there is none) of a mention. Raises BadInput, NotFound."""
    for name in node:
        if name not in ("tag", "op", "value"):
            raise BadInput("is not a known field here", where=where, field=f"tag.{name}")
    name, op = node["tag"], node.get("op")
    if not isinstance(name, str):
        raise BadInput("is not text", where=where, field="tag", value=str(name)[:80])
    if op is None:
        if "value" in node:
            raise BadInput("needs an op", where=where, field="tag", value=name)
        return name, {}
    if op not in FIELD_OPS:
        raise NotFound("op", op, FIELD_OPS, where=where, field="op")
    test = {key: node[key] for key in ("op", "value") if key in node}
    parse_condition({"field": "user.tag", **test}, where, "tag")  # the value suits the op
    return name, test


def nodes(raw: object) -> Iterator[Mapping[str, Any]]:
    """Every node of a condition as it was written, however deep."""
    waiting = [raw]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, Mapping):
            continue
        yield node
        for name in _PARTS:
            below = node.get(name)
            waiting.extend(below if name in _LISTS and isinstance(below, list | tuple) else [below])


def replaced(
    raw: dict[str, Any], replace: Callable[[Mapping[str, Any]], dict[str, Any]], where: str
) -> dict[str, Any]:
    """A copy in which every node that names a tag is what `replace` makes of it; without tags, `raw`."""
    if not any("tag" in node for node in nodes(raw)):
        return raw

    def copy(node: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            raise BadInput(f"nests deeper than {MOST_DEEP_SAVED}", where=where, field="where")
        if isinstance(node, list | tuple):
            return [copy(each, depth + 1) for each in node]
        if not isinstance(node, Mapping):
            return node
        if "tag" in node:
            return replace(node)
        return {name: copy(part, depth + 1) if name in _PARTS else part for name, part in node.items()}

    made: dict[str, Any] = copy(raw, 0)
    return made
