"""`growth select`: an audience published as a version of its group, and written out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from engine.population import population
from engine.selection_published import sources_of
from engine.selection_reports import check_tags
from engine.wiring import Workspace
from insight.api import check_request, check_selection, select
from insight.api import is_local_address as is_local
from kernel.audiences import GroupVersion
from kernel.errors import Stale
from storage.group_exports import Export


def select_audience(
    workspace: Workspace,
    name: str,
    out: str | None,
    as_of: datetime,
    fields: Sequence[str] = (),
    part_rows: int | None = None,
) -> dict[str, Any]:
    """Writes the audience and its manifest, publishes the version that it is of, and returns the manifest.

    Raises Stale when the group uses a tag that failed or has expired; BadInput, NotFound as `select` does.
    """
    people = population(workspace, as_of)
    address = out if out is not None else f"{name}.parquet"
    check_request(people, name, address, fields, part_rows)
    check_tags(workspace, name, as_of)
    group, members = people.groups[name], people.members(name)
    sources = sources_of(workspace, people, [name])

    def publish() -> GroupVersion:
        return workspace.groups.publish(
            name=name,
            fingerprint=group.fingerprint,
            as_of=people.as_of,
            members=members.serialize(),
            count=len(members),
            universe=len(people.universe),
            sources=sources,
            calculated_at=workspace.clock.now(),
            pinned=group.mode == "static",
        )

    manifest = select(
        people, name, address, fields=fields, part_rows=part_rows, members=members,
        version=lambda: publish().version,
    )  # fmt: skip
    at = str(Path(address).resolve()) if is_local(address) and "://" not in address else address
    place = f"{at[: at.rfind('/') + 1]}{name}.manifest.json"
    workspace.exports.note(
        Export(
            name=name,
            address=place,
            version=manifest["version"],
            count=manifest["count"],
            exported_at=workspace.clock.now(),
        )
    )
    return manifest


def check_export(address: str) -> dict[str, Any]:
    """Reads the files of a manifest again. Raises Stale when they are not what it says."""
    found = check_selection(address)
    if not found["ok"]:
        raise Stale(f"{address} does not describe its files: {'; '.join(found['problems'])}")
    return found
