"""The users as of an instant, with the groups they are in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pyroaring import BitMap

from engine.identities import merges_of
from engine.selection_published import Published
from engine.wiring import Workspace
from insight.api import Group, Population


def population(
    workspace: Workspace, as_of: datetime, groups: Mapping[str, Group] | None = None
) -> Population:
    """The users as of an instant, with these groups (by default those in force), static ones as pinned."""
    people = Population(
        workspace.catalog,
        as_of,
        workspace.definitions().groups if groups is None else groups,
        cache=workspace.leaves,
        merges=merges_of(workspace),
        dictionary=workspace.dictionary,
    )
    for name, group in people.groups.items():
        pin = workspace.groups.pinned(name, group.fingerprint) if group.mode == "static" else None
        if pin is not None:
            people.pinned[name] = people.users(BitMap.deserialize(workspace.groups.members(pin)))
    people.published = Published(workspace, people).members
    return people
