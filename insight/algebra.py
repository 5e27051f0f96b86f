"""Conditions over known sets, worked out inside what is left: each part only among those who still count."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyroaring import BitMap

from insight.conditions import (
    AllOf,
    AnyOf,
    Condition,
    InGroup,
    Leaf,
    Linked,
    Not,
    evaluate,
    leaf_id,
    parents_first,
)

#: (a `via`, who fulfils what it asks of the circle) → who fulfils it
Through = Callable[[Linked, BitMap], BitMap]
#: parts up to which a condition is worked out by recursion
_FLAT = 200


def set_name(end: Leaf | InGroup) -> str:
    """What a set is kept under: a leaf by its id, a group by `group NAME`."""
    return f"group {end.group}" if isinstance(end, InGroup) else leaf_id(end)


def members_of(
    condition: Condition, sets: Mapping[str, BitMap], universe: BitMap, through: Through
) -> BitMap:
    """Who fulfils `condition`. `sets`: of each of its ends, inside the universe; never changed here."""
    if len(parents_first(condition)) > _FLAT:  # as deep as it is wide: no recursion
        return evaluate(
            condition,
            end=lambda end: sets[set_name(end)],
            every=lambda parts: BitMap.intersection(*parts),
            some=lambda parts: BitMap.union(*parts),
            opposite=lambda part: universe - part,
            through=through,
        )
    return _within(condition, None, sets, universe, through)


def count_of(condition: Condition, sets: Mapping[str, BitMap], universe: BitMap, through: Through) -> int:
    """How many fulfil it. The smallest of several leaves comes last and is only counted: while sets are still
    large they stay plain bits, which are joined far faster than they are turned into lists."""
    leaves = [part for part in condition.parts if _is_end(part)] if isinstance(condition, AllOf) else []
    if not isinstance(condition, AllOf) or not leaves or len(condition.parts) < 2:
        return len(members_of(condition, sets, universe, through))
    last = min(leaves, key=lambda part: _size(part, sets))
    rest = AllOf(parts=tuple(part for part in condition.parts if part is not last))
    found = members_of(rest, sets, universe, through)
    return int(found.intersection_cardinality(members_of(last, sets, universe, through)))


def _is_end(node: Condition) -> bool:
    return not isinstance(node, AllOf | AnyOf | Not | Linked)


def _within(
    node: Condition, left: BitMap | None, sets: Mapping[str, BitMap], universe: BitMap, through: Through
) -> BitMap:
    """The members of `node` among `left` (None: the universe)."""
    if isinstance(node, AllOf):
        for part in sorted(node.parts, key=lambda part: _size(part, sets)):
            left = _within(part, left, sets, universe, through)
        assert left is not None  # noqa: S101  every list of parts has one
        return left
    if isinstance(node, AnyOf):
        found = [_within(part, left, sets, universe, through) for part in node.parts]
        return BitMap.union(*found) if len(found) > 1 else found[0]
    if isinstance(node, Not):
        among = universe if left is None else left
        return among - _within(node.part, left, sets, universe, through)
    if isinstance(node, Linked):
        found_through = through(node, _within(node.part, None, sets, universe, through))
        return found_through if left is None else left & found_through
    known = sets[set_name(node)]
    return known if left is None else left & known


def _size(node: Condition, sets: Mapping[str, BitMap]) -> int:
    """Smaller first: leaves and groups by their number, then what must be worked out, `not` last."""
    if isinstance(node, AllOf | AnyOf | Linked):
        return 2**32
    return 2**33 if isinstance(node, Not) else len(sets[set_name(node)])
