"""Lineage: what a name is made of, and what is made of it. From sources to goals and exports, by references.

Nodes are `kind:name`: `source:shop`, `table:shop.orders`, `field:user.city`, `event:order`,
`mapping:household`, `tag:vip`, `group:lapsed`, and whatever the caller adds, such as `goal:…`, `export:…`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from insight.catalog import Catalog
from insight.condition_parse import parse_condition
from insight.dependencies import names, tables_of
from insight.groups import Group
from insight.readiness import Needs
from insight.tag_mentions import mentions, shape
from insight.tags import Tag
from kernel.errors import BadInput, NotFound

#: order in which kinds are told
KINDS = ("source", "table", "file", "mapping", "field", "event", "tag", "group", "goal", "task", "export")
Edge = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One node of an answer."""

    #: `kind:name`
    node: str
    #: how many steps away, from 1; the shortest way
    steps: int
    #: the nodes one step nearer through which it is reached
    through: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The answer for one node, nearest first."""

    node: str
    #: what it is made of
    up: tuple[Line, ...]
    #: what is made of it
    down: tuple[Line, ...]


def edges_of(catalog: Catalog, groups: Mapping[str, Group], tags: Mapping[str, Tag]) -> list[Edge]:
    """(what is used, what uses it) of catalog, groups and tags as they were written."""
    found: list[Edge] = []
    for source in catalog.sources:
        found += [(f"source:{source}", f"table:{source}.{table}") for table in catalog.tables(source)]
    for kind, known in (("field", catalog.fields), ("event", catalog.events), ("mapping", catalog.mappings)):
        for name in known:
            found += [(f"table:{table}", f"{kind}:{name}") for table in tables_of(kind, name, catalog)]
    for name, group in groups.items():
        found += _of_condition(group.where, f"group:{name}") + _of_needs(group.needs, f"group:{name}")
    for name, tag in tags.items():
        here = f"tag:{name}"
        found += _of_needs(tag.needs, here)
        if tag.where is not None:
            found += _of_condition(tag.where, here)
        elif tag.source and "field" in tag.source:
            found.append((f"field:{tag.source['field']}", here))
        elif tag.source:
            found.append((f"event:{tag.source['event']}", here))
    return list(dict.fromkeys(found))


def _of_condition(raw: dict[str, object], here: str) -> list[Edge]:
    stand_in = "user.tag"
    found = [(f"tag:{name}", here) for name in mentions(raw)]
    for kind, name in names(parse_condition(shape(raw))):
        if (kind, name) != ("field", stand_in) or not mentions(raw):
            found.append((f"{kind}:{name}", here))
    return found


def _of_needs(needs: Needs, here: str) -> list[Edge]:
    return [
        (f"{kind}:{name}", here)
        for need in needs.each()
        for kind, name in (
            ("table", need.table), ("group", need.group), ("tag", need.tag), ("file", need.file),
        )
        if name is not None
    ]  # fmt: skip


def trace(wanted: str, edges: Iterable[Edge]) -> Lineage:
    """The lineage of a node, or of a bare name if only one kind has it. Raises NotFound, BadInput."""
    edges = list(edges)
    node = _find(wanted, {node for edge in edges for node in edge})
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for used, user in edges:
        above.setdefault(user, []).append(used)
        below.setdefault(used, []).append(user)
    return Lineage(node=node, up=_reached(node, above), down=_reached(node, below))


def _find(wanted: str, nodes: set[str]) -> str:
    if wanted in nodes:
        return wanted
    found = sorted(node for node in nodes if node.partition(":")[2] == wanted)
    if not found:
        raise NotFound("name", wanted, {node.partition(":")[2] for node in nodes}, field="NAME")
    if len(found) > 1:
        raise BadInput(f"could be {' or '.join(found)}; say which", field="NAME", value=wanted)
    return found[0]


def _reached(start: str, steps: Mapping[str, list[str]]) -> tuple[Line, ...]:
    far = {start: 0}
    through: dict[str, list[str]] = {}
    waiting = deque([start])
    while waiting:
        node = waiting.popleft()
        for other in steps.get(node, ()):
            if other not in far:
                far[other] = far[node] + 1
                waiting.append(other)
            if far[other] == far[node] + 1:
                through.setdefault(other, []).append(node)
    lines = [
        Line(node=node, steps=steps_away, through=tuple(sorted(through[node])))
        for node, steps_away in far.items()
        if node != start
    ]
    return tuple(sorted(lines, key=lambda line: (line.steps, _place(line.node), line.node)))


def _place(node: str) -> int:
    kind = node.partition(":")[0]
    return KINDS.index(kind) if kind in KINDS else len(KINDS)
