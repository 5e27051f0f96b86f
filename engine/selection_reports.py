"""What people are told of runs, tags and lineage."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from engine.wiring import Workspace
from insight.api import BAD, TAG, Group, Tag, edges_of, trace, used_tags
from kernel.clock import parse_window
from kernel.errors import Stale
from kernel.work import Goal
from storage.selection_runs import JobRow

#: runs that are told unless one is named
_NEWEST = 5


def newest_runs(workspace: Workspace) -> list[str]:
    return [run.run for run in workspace.runs.latest(_NEWEST)]


def run_report(workspace: Workspace, name: str) -> dict[str, Any]:
    """A run and its jobs in the order of work. Raises NotFound."""
    run = workspace.runs.find(name)
    rows = workspace.runs.jobs(name)
    leases = workspace.runs.leases()
    return {
        "run": run.run,
        "as_of": run.as_of.isoformat(),
        "reason": run.reason,
        "made_at": run.made_at.isoformat(),
        "finished_at": None if run.finished_at is None else run.finished_at.isoformat(),
        "states": dict(Counter(row.state for row in rows)),
        "jobs": [{**_job(row), "leased": leases.get(row.key) == name} for row in rows],
    }


def _job(row: JobRow) -> dict[str, Any]:
    said = asdict(row)
    del said["run"]
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in said.items()}


def tag_states(workspace: Workspace) -> list[dict[str, Any]]:
    """Every tag as it stands now; `state` is `good` or says what is wrong."""
    tags, now = workspace.definitions().tags, workspace.clock.now()
    current = workspace.groups.current_many(f"{TAG}{name}" for name in tags)
    newest = workspace.runs.newest_jobs()
    found = []
    for name, tag in sorted(tags.items()):
        version = current.get(f"{TAG}{name}")
        wrong = _wrong(tag, version.as_of if version else None, newest.get(f"{TAG}{name}"), now)
        found.append(
            {
                "name": name,
                "label": tag.title,
                "owner": tag.owner,
                "type": tag.type,
                "freshness": tag.freshness,
                "expires": tag.expires,
                "fingerprint": tag.fingerprint,
                "version": version.version if version else None,
                "count": version.count if version else None,
                "as_of": version.as_of.isoformat() if version else None,
                "calculated_at": version.calculated_at.isoformat() if version else None,
                "state": wrong or "good",
            }
        )
    return found


def _wrong(tag: Tag, as_of: datetime | None, job: JobRow | None, at: datetime) -> str | None:
    """Why the tag may not be used at this instant."""
    if job is not None and job.state in BAD:
        return f"{job.state}: {job.why}"
    if as_of is None:
        return "never produced" if tag.expires is not None or tag.schedule is not None else None
    if tag.expires is not None and at - as_of >= parse_window(tag.expires):
        return f"expired: produced as of {as_of:%Y-%m-%d %H:%M} UTC, good for {tag.expires}"
    return None


def check_tags(workspace: Workspace, name: str, as_of: datetime) -> None:
    """Raises Stale when the group uses, however far down, a tag that failed or has expired at `as_of`."""
    definitions = workspace.definitions()
    groups = {group.name: group for group in definitions.of(Group)}
    tags = definitions.tags
    used = used_tags(name, groups, tags)
    if not used:
        return
    current = workspace.groups.current_many(f"{TAG}{tag}" for tag in used)
    newest = workspace.runs.newest_jobs()
    for tag in used:
        version = current.get(f"{TAG}{tag}")
        wrong = _wrong(tags[tag], version.as_of if version else None, newest.get(f"{TAG}{tag}"), as_of)
        if wrong is not None:
            raise Stale(f"group {name} uses tag {tag}, which is {wrong}; run: growth run selections")


def lineage(workspace: Workspace, name: str) -> dict[str, Any]:
    """`{node, up, down}` of a definition, a field, an event or a `source.table`. Raises BadInput."""
    definitions = workspace.definitions()
    groups = {group.name: group for group in definitions.of(Group)}
    edges = edges_of(workspace.catalog, groups, definitions.tags)
    for goal in definitions.of(Goal):
        edges += [(f"group:{each}", f"goal:{goal.name}") for each in goal.audiences if each in groups]
        edges += [(each, f"goal:{goal.name}") for each in goal.audiences if each.startswith("stage:")]
    edges += _tasks(workspace)
    for export in workspace.exports.all():
        kind, _, own = export.name.rpartition(":")
        edges.append((f"{kind or 'group'}:{own}", f"export:{export.address}"))
    return asdict(trace(name, edges))


def _tasks(workspace: Workspace) -> list[tuple[str, str]]:
    """Goals → tasks of the newest plan."""
    entry = workspace.plans.newest()
    file = Path(entry.folder) / "tasks.parquet" if entry is not None else None
    if file is None or not file.is_file():
        return []
    tasks = pl.read_parquet(file, columns=["task", "goal"])
    return [(f"goal:{goal}", f"task:{task}") for task, goal in tasks.unique().iter_rows()]
