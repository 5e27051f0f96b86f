"""Cells of a day's plan: clusters keep the names of the plan before, and what has moved since is told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from engine.definitions import Definitions
from engine.wiring import Workspace
from engine.world import known_fields
from insight.api import CellDrift, CellMap, CellMemory, derive_cells, derive_drift, shares_of
from models.api import History

#: in the folder of a plan
MEMORY = "clusters.json"
#: users from which on clusters are learnt from a sample
_AT_SCALE = 400_000


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The cells of the newest plan of an earlier date."""

    date: date
    memory: CellMemory


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What has moved in the cells since an earlier plan."""

    since: date
    drift: CellDrift

    def as_json(self) -> dict[str, Any]:
        return {"since": self.since.isoformat(), **self.drift.as_json()}


def earlier_cells(workspace: Workspace, day: date) -> Earlier | None:
    """None without an earlier plan, or where its folder is gone. Raises BadInput for a spoilt file."""
    entry = workspace.plans.newest(before=day)
    path = Path(entry.folder) / MEMORY if entry else None
    if entry is None or path is None or not path.exists():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raw = None
    return Earlier(date=entry.date, memory=CellMemory.from_json(raw, where=str(path)))


def remembered(cells: CellMap) -> CellMemory:
    return CellMemory(model=cells.clusters.model, shares=shares_of(cells.cells))


def moved(earlier: Earlier | None, cells: CellMap) -> Moved | None:
    """None for the first plan."""
    if earlier is None:
        return None
    return Moved(since=earlier.date, drift=derive_drift(earlier.memory, remembered(cells)))


def lay_out_cells(
    workspace: Workspace,
    definitions: Definitions,
    known: History,
    users: pl.DataFrame,
    scores: pl.DataFrame,
    as_of: datetime,
    earlier: Earlier | None,
) -> CellMap:
    """Every user in a cell; `scores`: user, spend."""
    recipe = definitions.cells
    return derive_cells(
        users=users,
        purchases=known.purchases,
        fields=known_fields(workspace, users, recipe.sociology),
        spend=scores.select("user", "spend"),
        as_of=as_of,
        recipe=recipe,
        seed=workspace.settings.seed,
        zone=workspace.settings.zone,
        before=earlier.memory.model if earlier else None,
        at_scale=_AT_SCALE,
    )
