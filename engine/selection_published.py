"""Versions of groups that stand for what would be worked out again: same instant, definitions and sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from pyroaring import BitMap

from engine.wiring import Workspace
from insight.api import Population, names_below, tables_read
from kernel.audiences import GroupVersion
from kernel.errors import GrowthError
from kernel.ids import fingerprint


def sources_of(workspace: Workspace, people: Population, names: Iterable[str]) -> dict[str, str]:
    """Versions of all that decides who belongs to these groups, their own definitions apart: `source.table`,
    `identities` where people were merged, and `groups` where they name others, however far down."""
    named, tables, below = list(names), set[str](), set[str]()
    for name in named:
        tables.update(tables_read(people.groups[name], people.groups, workspace.catalog))
        below.update(names_below(people.groups[name], people.groups))
    found = {table: people.sources[table] for table in sorted(tables)}
    if people.merges:
        found["identities"] = people.merges.fingerprint
    if below:
        found["groups"] = fingerprint([(name, people.groups[name].fingerprint) for name in sorted(below)])
    return found


class Published:
    """Of one population: what was published when it was first asked."""

    def __init__(self, workspace: Workspace, people: Population) -> None:
        self._workspace, self._people = workspace, people
        self._known: dict[str, BitMap] = {}

    def members(self, name: str) -> BitMap | None:
        """None where nothing published stands for what would be worked out, or it cannot be read."""
        if name not in self._known:
            version = self._versions.get(name)
            if version is None or version.fingerprint != self._people.groups[name].fingerprint:
                return None
            if dict(version.sources) != sources_of(self._workspace, self._people, [name]):
                return None
            try:
                found = self._workspace.groups.members(version)
            except GrowthError:  # pruned, or damaged: it is worked out
                return None
            self._known[name] = BitMap.deserialize(found) & self._people.universe
        return self._known[name]

    @cached_property
    def _versions(self) -> Mapping[str, GroupVersion]:
        dynamic = [name for name, group in self._people.groups.items() if group.mode == "dynamic"]
        try:
            return self._workspace.groups.at_many(dynamic, self._people.as_of)
        except GrowthError:
            return {}
