"""`growth events export`: the log of fresh events as Parquet, so that it can be a source itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.wiring import Workspace
from insight.api import EventDoor, event_table
from kernel.errors import BadInput
from storage.events import EventLog
from storage.lake import write_parquet

#: events in one file
_PART = 100_000


def export_events(workspace: Workspace, out: Path) -> dict[str, Any]:
    """Appends what the log has received since the last time to `out`/EVENT/FIRST-LAST.parquet, named by
    numbers in the log; event → lines that were added. Stopped in the middle, the next time goes on.

    Raises BadInput for a place that is a file, Unavailable when the log does not answer.
    """
    if out.exists() and not out.is_dir():
        raise BadInput("is not a folder", field="--out", value=str(out))
    catalog, log = workspace.catalog, EventLog(workspace.database)
    door, until, added = EventDoor(catalog), log.last(), dict[str, int]()
    for name in sorted(catalog.events):
        seen = max((_last(path) for path in (out / name).glob("*.parquet")), default=0)
        while seen < until and (page := log.after(seen, [name], _PART)):
            typed = [event for event in map(door.typed, page) if event is not None]
            frame = event_table(catalog, name, typed)
            write_parquet(out / name / f"{page[0].number:012d}-{page[-1].number:012d}.parquet", frame)
            seen, added[name] = page[-1].number, added.get(name, 0) + frame.height
    return {"folder": str(out), "lines": added}


def _last(path: Path) -> int:
    _, _, last = path.stem.partition("-")
    if not last.isdigit():
        raise BadInput(
            "is no part of an export of events", where=str(path.parent), field="file", value=path.name
        )
    return int(last)
