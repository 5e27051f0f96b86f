"""The catalog's use cases: what is in its sources, a first draft of one, and what a condition panel shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.wiring import Workspace
from insight.api import (
    condition_panel,
    condition_schema,
    freshness,
    profile_catalog,
    suggest_catalog,
    write_profile,
)
from kernel.errors import BadInput


def profile(
    workspace: Workspace, *, write: bool, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """`{at, fields, events}` as the sources have them now; `write` keeps it beside the catalog, as `file`."""
    found = profile_catalog(workspace.catalog, workspace.clock.now(), progress)
    said: dict[str, Any] = found.model_dump(mode="json")
    for name, seconds in freshness(found).items():
        said["events"][name]["age_seconds"] = seconds
    if write:
        said["file"] = str(write_profile(found, workspace.root / workspace.settings.catalog))
    return said


def suggest(url: str, *, out: Path | None, timezone: str, force: bool) -> str:
    """A draft as YAML text; written to `out` where that is given. Relative addresses start from its folder.

    Raises BadInput when `out` is there already and `force` is not given: somebody may have written it.
    """
    if out is not None and out.exists() and not force:
        raise BadInput("is there already; write elsewhere, or add --force", field="--out", value=str(out))
    if out is not None and not out.parent.is_dir():
        raise BadInput("is in a folder that does not exist", field="--out", value=str(out))
    text = suggest_catalog(url, folder=out.parent if out else Path(), timezone=timezone)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    return text


def panel(workspace: Workspace) -> dict[str, Any]:
    """Fields, events, groups and tags with all that it takes to draw a condition panel."""
    known = workspace.definitions()
    return condition_panel(workspace.catalog, known.groups, known.tags)


def schema(workspace: Workspace) -> dict[str, Any]:
    """A JSON Schema of the conditions that can be asked here."""
    known = workspace.definitions()
    return condition_schema(workspace.catalog, known.groups, known.tags)
