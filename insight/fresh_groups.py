"""What the speed layer knows of a group: its condition, cut into what is answered afresh and what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from insight.catalog import Catalog
from insight.condition_check import check_leaf
from insight.condition_text import phrase
from insight.conditions import (
    AllOf,
    AnyOf,
    Condition,
    EventAge,
    EventTest,
    InGroup,
    InOrder,
    Not,
    NotFollowed,
    branches,
    leaf_id,
)
from insight.elastic import is_elastic
from insight.fresh_batch import micros
from insight.fresh_leaves import EventLeaf, decide, events_of, leaves_in, opened
from insight.groups import Group, in_order
from kernel.audiences import GroupVersion
from kernel.ids import short_id

#: members of conditions, as of an instant
Members = Callable[[datetime, Sequence[Condition]], list[BitMap]]
_EVENT_LEAVES = (EventTest, EventAge, InOrder, NotFollowed)


def real_time_events(catalog: Catalog) -> frozenset[str]:
    """Events whose leaves the speed layer answers: `freshness: real_time`, in a source that Ibis asks."""
    return frozenset(
        name
        for name, event in catalog.events.items()
        if event.freshness == "real_time" and not is_elastic(catalog, event.source)
    )


@dataclass(kw_only=True)
class Overlay:
    """Users whose answer is not that of the published bitmap. One thread writes, any may read."""

    #: users with an event that the published version does not know
    touched: BitMap = field(default_factory=BitMap)
    #: of these, the members
    inside: BitMap = field(default_factory=BitMap)


@dataclass(frozen=True, kw_only=True)
class FreshGroup:
    """A published group whose condition speaks of real-time events."""

    name: str
    version: GroupVersion
    #: groups opened; ends are real-time leaves, checked, and everything else
    condition: Condition
    #: real-time leaves by id
    leaves: Mapping[str, EventLeaf]
    #: node → id of a real-time leaf, or who else fulfils it as of the version
    ends: Mapping[int, str | BitMap]
    #: real-time events that its leaves look at
    events: frozenset[str]
    overlay: Overlay = field(default_factory=Overlay)

    def holds(self, number: int, truths: Callable[[str], bool]) -> bool:
        """Whether a user belongs, from the truth of real-time leaves."""

        def end(node: Condition) -> bool:
            found = self.ends[id(node)]
            return truths(found) if isinstance(found, str) else number in found

        return decide(self.condition, end)

    def lines(self, number: int, truths: Callable[[str], bool]) -> list[tuple[int, str, bool]]:
        """(depth, what is stated, whether it holds) for a user, line by line."""
        found: list[tuple[int, str, bool]] = []
        waiting: list[tuple[Condition, int]] = [(self.condition, 0)]
        while waiting:
            node, depth = waiting.pop()
            whole = replace(self, condition=node)
            found.append((depth, phrase(node), whole.holds(number, truths)))
            below = branches(node) if isinstance(node, AllOf | AnyOf | Not) else ()
            waiting.extend((part, depth + 1) for part in reversed(below))
        return found

    def inside(
        self, truths: Callable[[str], NDArray[np.bool_]], among: Callable[[BitMap], NDArray[np.bool_]]
    ) -> NDArray[np.bool_]:
        """Who of some users belongs. `truths`: of a real-time leaf; `among`: who of them is in a set."""
        done: dict[int, NDArray[np.bool_]] = {}
        for node in reversed(opened(self.condition)):
            if isinstance(node, AllOf | AnyOf):
                parts = [done[id(part)] for part in node.parts]
                both = np.logical_and if isinstance(node, AllOf) else np.logical_or
                done[id(node)] = both.reduce(parts)
            elif isinstance(node, Not):
                done[id(node)] = ~done[id(node.part)]
            else:
                found = self.ends[id(node)]
                done[id(node)] = truths(found) if isinstance(found, str) else among(found)
        return done[id(self.condition)]

    def cut(self, settles: timedelta) -> tuple[int, int]:
        """An event that happened at or before the first, and was received before the second, is known to the
        published version; microseconds."""
        return micros(self.version.as_of), micros(self.version.calculated_at - settles)


class Cutter:
    """Cuts groups: everything that is the same for several is worked out once."""

    def __init__(
        self, catalog: Catalog, groups: Mapping[str, Group], real_time: Iterable[str], members: Members
    ) -> None:
        self._catalog, self._groups = catalog, groups
        self._real_time, self._members = frozenset(real_time), members
        self._known: dict[tuple[datetime, str], BitMap] = {}

    def cut(self, version: GroupVersion) -> FreshGroup | None:
        """None for a group that no fresh event can change, or whose definition has changed since."""
        group = self._groups.get(version.name)
        if group is None or group.fingerprint != version.fingerprint or group.mode == "static":
            return None
        condition = self.opened(group)
        leaves: dict[str, EventLeaf] = {}
        ends: dict[int, str | BitMap] = {}
        others: list[Condition] = []
        for node in leaves_in(condition):
            if self._is_real_time(node):
                assert isinstance(node, _EVENT_LEAVES)  # noqa: S101  is what real time means
                leaves[leaf_id(node)] = node
                ends[id(node)] = leaf_id(node)
            else:
                others.append(node)
        if not leaves:
            return None
        self._look_up(version.as_of, others)
        ends |= {id(node): self._known[version.as_of, _said(node)] for node in others}
        events = {event for leaf in leaves.values() for event in events_of(leaf)} & self._real_time
        return FreshGroup(
            name=version.name,
            version=version,
            condition=condition,
            leaves=leaves,
            ends=ends,
            events=frozenset(events),
        )

    def opened(self, group: Group) -> Condition:
        """The condition with real-time leaves checked, and groups below opened that have such leaves."""
        below = in_order(group.condition, self._groups, f"group {group.name}")
        done: dict[str, Condition] = {}
        for name, condition in below.items():
            done[name] = self._open(condition, done) if self._groups[name].mode == "dynamic" else condition
        return self._open(group.condition, done)

    def _open(self, condition: Condition, done: Mapping[str, Condition]) -> Condition:
        built: dict[int, Condition] = {}
        for node in reversed(opened(condition)):
            if isinstance(node, AllOf | AnyOf):
                parts = tuple(built[id(part)] for part in node.parts)
                built[id(node)] = AllOf(parts=parts) if isinstance(node, AllOf) else AnyOf(parts=parts)
            elif isinstance(node, Not):
                built[id(node)] = Not(part=built[id(node.part)])
            else:
                built[id(node)] = self._end(node, done)
        return built[id(condition)]

    def _end(self, node: Condition, done: Mapping[str, Condition]) -> Condition:
        if isinstance(node, InGroup) and self._groups[node.group].mode == "dynamic":
            inside = done[node.group]
            return inside if any(self._is_real_time(each) for each in leaves_in(inside)) else node
        if isinstance(node, _EVENT_LEAVES) and self._is_real_time(node):
            checked = check_leaf(node, self._catalog)
            assert isinstance(checked, _EVENT_LEAVES)  # noqa: S101  checking changes values only
            return checked
        return node

    def _is_real_time(self, node: Condition) -> bool:
        return isinstance(node, _EVENT_LEAVES) and not self._real_time.isdisjoint(events_of(node))

    def _look_up(self, as_of: datetime, nodes: Sequence[Condition]) -> None:
        missing = {_said(node): node for node in nodes if (as_of, _said(node)) not in self._known}
        if missing:
            found = self._members(as_of, list(missing.values()))
            for said, members in zip(missing, found, strict=True):
                self._known[as_of, said] = members


def _said(node: Condition) -> str:
    return short_id(repr(node))
