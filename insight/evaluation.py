"""How soon a condition's answer can follow what happens: with the next batch, or as it happens."""

from __future__ import annotations

from collections.abc import Mapping

from insight.catalog import Catalog, Freshness
from insight.conditions import (
    AllOf,
    AnyOf,
    Condition,
    EventAge,
    EventTest,
    FieldTest,
    InGroup,
    InOrder,
    Not,
    NotFollowed,
    Step,
    parents_first,
)
from insight.groups import Group, in_order


def evaluation_mode(condition: Condition, catalog: Catalog, groups: Mapping[str, Group]) -> Freshness:
    """`real_time` when every field and event in it, and in the groups below it, is; else `batch`.

    A static group is what it was pinned as, and links between entities are read with the next load:
    batch. Raises NotFound for names that nothing answers to.
    """
    below = in_order(condition, groups)
    if any(groups[name].mode == "static" for name in below):
        return "batch"
    nodes = [node for each in (condition, *below.values()) for node in parents_first(each)]
    fresh = all(
        isinstance(node, AllOf | AnyOf | Not | InGroup) or _freshness(node, catalog) == "real_time"
        for node in nodes
    )
    return "real_time" if fresh else "batch"


def _freshness(leaf: Condition, catalog: Catalog) -> Freshness:
    """The slowest of what a leaf looks at."""
    if isinstance(leaf, FieldTest):
        return catalog.field(leaf.field).freshness
    steps: tuple[Step, ...] = ()
    if isinstance(leaf, InOrder):
        steps = leaf.steps
    elif isinstance(leaf, NotFollowed):
        steps = (leaf.step, leaf.by)
    elif isinstance(leaf, EventTest | EventAge):
        steps = (leaf.step,)
    fresh = bool(steps) and all(catalog.event(step.event).freshness == "real_time" for step in steps)
    return "real_time" if fresh else "batch"
