"""Merging and unmerging ids of one person, mappings as they stand, audiences in other ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
from pyroaring import BitMap

from engine.wiring import Workspace
from insight.api import (
    Merges,
    Population,
    answering,
    as_user,
    existing_users,
    has_text_ids,
    mapping_states,
    rekey,
    resolve_merges,
    typed_users,
)
from kernel.errors import BadInput, NotFound
from storage.identities import IdentityEntry
from storage.lake import write_json, write_parquet, write_text

#: number of a user; None for one without a number
NumberOf = Callable[[str], int | None]


def merges_of(workspace: Workspace) -> Merges:
    """Who stands for whom, in the ids of the catalog."""
    merged = workspace.identities.merged()
    if not merged:
        return Merges()
    text = has_text_ids(workspace.catalog)
    into = typed_users(text, merged.values())
    return resolve_merges(dict(zip(typed_users(text, merged), into, strict=True)))


def merge_users(workspace: Workspace, user: str, into: str, *, because: str, by: str) -> dict[str, Any]:
    """`user` is the same person as `into` from now on. Raises BadInput, NotFound; then nothing changed."""
    if not because.strip():
        raise BadInput("is empty; say why they are one person", field="--because")
    ids = [as_user(workspace.catalog, user, "FROM"), as_user(workspace.catalog, into, "INTO")]
    now = workspace.clock.now()
    known = existing_users(workspace.catalog, ids, now)
    for one, name in zip(ids, ("FROM", "INTO"), strict=True):
        if one not in known:
            raise NotFound("user", one, (), field=name)
    entry = workspace.identities.merge(str(ids[0]), str(ids[1]), because=because, by=by, at=now)
    return {**_told(entry), "memberships": rekey_memberships(workspace)}


def unmerge_users(workspace: Workspace, user: str, *, because: str, by: str) -> dict[str, Any]:
    """Takes the merge of `user` back: memberships are what they were before it."""
    if not because.strip():
        raise BadInput("is empty; say why they are not one person", field="--because")
    one = str(as_user(workspace.catalog, user, "FROM"))
    entry = workspace.identities.unmerge(one, because=because, by=by, at=workspace.clock.now())
    return {**_told(entry), "memberships": rekey_memberships(workspace)}


def identity_history(workspace: Workspace) -> dict[str, Any]:
    """What was done, and what stands."""
    store = workspace.identities
    return {
        "version": store.version(),
        "merged": [{"user": user, "into": into} for user, into in sorted(store.merged().items())],
        "log": [_told(entry) for entry in store.log()],
    }


def mappings_now(workspace: Workspace, as_of: datetime) -> list[dict[str, Any]]:
    """Every mapping of the catalog: its links, and those that do not count because an id has too many."""
    with answering(workspace.catalog) as run:
        states = mapping_states(workspace.catalog, as_of, run, merges_of(workspace).frame)
    return [
        {
            "mapping": state.name,
            "from": state.from_,
            "to": state.to,
            "links": state.links,
            "counted": state.counted,
            "ignored": [each.as_json() for each in state.crowded],
        }
        for state in states
    ]


def select_as(
    people: Population, name: str, entity: str, via: tuple[str, ...] | None, out: Path
) -> dict[str, Any]:
    """A group's audience in the ids of another entity, each once, with a manifest of what had none."""
    if out.suffix not in (".parquet", ".csv"):
        raise BadInput("does not end in .parquet or .csv", field="out", value=str(out))
    if not out.parent.is_dir():
        raise BadInput("is in a folder that does not exist", field="out", value=str(out))
    if name not in people.groups:
        raise NotFound("group", name, people.groups)
    found = rekey(people, people.users(people.members(name)), entity, via)
    if found.targets.is_empty():
        where, as_of = f"group {name}", people.as_of.isoformat()
        raise BadInput(f"leads to no {entity}", where=where, field="as_of", value=as_of)
    if out.suffix == ".parquet":
        write_parquet(out, found.targets)
    else:
        write_text(out, found.targets.write_csv())
    manifest = {
        "group": name,
        "file": out.name,
        **found.as_json(),
        "sha256": _sha256(out),
        "as_of": people.as_of.isoformat(),
        "group_fingerprint": people.groups[name].fingerprint,
        "catalog_fingerprint": people.catalog.fingerprint,
        "merges": people.merges.fingerprint,
    }
    write_json(out.with_name(f"{out.stem}.manifest.json"), manifest)
    return manifest


def rekey_memberships(workspace: Workspace) -> dict[str, int]:
    """Published groups in force, and pinned ones, as the merges now have it. Again, it changes nothing.

    What a membership was before its first merge is remembered, so that taking a merge back restores it. A
    version published while a merge stood knows the survivor only; the others come back with the next one.
    Killed in the middle, the next call completes it.
    """
    merges, store, groups = merges_of(workspace), workspace.identities, workspace.groups
    dictionary, text = workspace.dictionary, has_text_ids(workspace.catalog)
    changed = 0
    before = store.before()
    names = set(groups.names())
    versions = {(each.name, each.version): each for name in names for each in groups.versions(name)}
    current = {(each.name, each.version) for each in groups.current_many(names).values()}
    survivors = {str(user): str(into) for user, into in merges.survivors.items()}
    for key in [key for key in before if key not in versions]:
        store.restored(*key, before[key])
    for key in sorted(current | (set(before) & set(versions))):
        version, remembered = versions[key], before.get(key, {})
        touched = [*dict.fromkeys([*survivors, *survivors.values(), *remembered])]
        ids = pl.Series(typed_users(text, touched), dtype=pl.String if text else pl.Int64)
        numbers = dictionary.numbers(ids)
        place = {user: number for user, number in zip(touched, numbers, strict=True) if number is not None}
        members = BitMap.deserialize(groups.members(version))
        raw = {user: remembered.get(user, number in members) for user, number in place.items()}
        wanted = dict.fromkeys(place, False)
        for user, member in raw.items():
            stands = survivors.get(user, user)
            wanted[stands if stands in wanted else user] |= member
        fresh = BitMap(members)
        for user, number in place.items():
            (fresh.add if wanted[user] else fresh.discard)(number)
        if fresh != members:
            store.remember(*key, {user: raw[user] for user in place})
            groups.amend(version, members=fresh.serialize(), count=len(fresh), universe=version.universe)
            changed += 1
        free = [user for user in remembered if user not in survivors and user not in survivors.values()]
        store.restored(*key, free)
    return {"versions": len(current), "changed": changed}


def _told(entry: IdentityEntry) -> dict[str, Any]:
    return {**asdict(entry), "at": entry.at.isoformat()}


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
