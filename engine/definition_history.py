"""Definitions over time: who changed what, when and why; back to an earlier version, or out of force."""

from __future__ import annotations

from difflib import unified_diff
from typing import Any

import yaml

from engine.definitions import KINDS, check_together, parse_definition
from engine.usecases import apply_all
from engine.wiring import Workspace
from kernel.errors import BadInput, NotFound
from storage.definitions import RETIRED, Stored


def history(
    workspace: Workspace, kind: str | None = None, name: str | None = None, *, limit: int = 100
) -> list[dict[str, Any]]:
    """`{kind, name, version, at, by, why, body}`, the newest first. Raises NotFound for an unknown kind, or a
    name that never was."""
    if kind is not None and kind not in KINDS:
        raise NotFound("kind", kind, KINDS)
    if not 1 <= limit <= 10_000:
        raise BadInput("is not 1 to 10,000", field="limit", value=limit)
    found = workspace.store.history(kind, name, limit=limit)
    if name is not None and not found:
        raise NotFound("definition", name, {each.name for each in workspace.store.history(kind)})
    return [_told(each) for each in found]


def shown(workspace: Workspace, kind: str, name: str, version: int | None = None) -> dict[str, Any]:
    """One version, by default the newest, as in `history`. Raises NotFound."""
    return _told(_version(workspace, kind, name, version))


def difference(workspace: Workspace, kind: str, name: str, old: int, new: int | None = None) -> str:
    """What changed between two versions, as a unified diff of their YAML. Raises NotFound."""
    texts = [_version(workspace, kind, name, each) for each in (old, new)]
    was, now = (yaml.safe_dump(each.body, sort_keys=False, allow_unicode=True).splitlines() for each in texts)
    names = [f"{kind} {name} version {each.version}" for each in texts]
    return "\n".join(unified_diff(was, now, names[0], names[1], lineterm=""))


def revert(workspace: Workspace, kind: str, name: str, version: int, *, by: str, why: str) -> str:
    """An earlier version becomes the newest, if it still fits all others: `changed`, `created`, `unchanged`.

    Raises NotFound, BadInput where it no longer fits.
    """
    old = _version(workspace, kind, name, version)
    if old.body == RETIRED:
        return retire(workspace, kind, name, by=by, why=why)
    definition = parse_definition(old.body, f"{kind} {name} version {version}")
    why = why or f"back to version {version}"
    return apply_all(workspace, [definition], by=by, why=why)[0][2]


def retire(workspace: Workspace, kind: str, name: str, *, by: str, why: str) -> str:
    """Out of force; its history stays. Raises NotFound, BadInput where others need it."""
    if (kind, name) not in {(each.kind, each.name) for each in workspace.store.current()}:
        raise NotFound("definition", name, (each.name for each in workspace.store.current(kind)), where=kind)
    catalog = workspace.catalog if (workspace.root / workspace.settings.catalog).exists() else None
    check_together((), workspace.store, catalog, without=[(kind, name)])
    return workspace.store.apply([(kind, name, RETIRED)], at=workspace.clock.now(), by=by, why=why)[0][2]


def _version(workspace: Workspace, kind: str, name: str, version: int | None) -> Stored:
    if kind not in KINDS:
        raise NotFound("kind", kind, KINDS)
    found = workspace.store.history(kind, name)
    if not found:
        raise NotFound("definition", name, {each.name for each in workspace.store.history(kind)}, where=kind)
    for each in found:
        if version in (None, each.version):
            return each
    raise NotFound("version", version, [each.version for each in found], where=f"{kind} {name}")


def _told(each: Stored) -> dict[str, Any]:
    return {
        "kind": each.kind,
        "name": each.name,
        "version": each.version,
        "at": each.applied_at.isoformat(),
        "by": each.applied_by,
        "why": each.why,
        "body": None if each.body == RETIRED else each.body,
    }
