"""What of a day's limits is given: by rules that fired by themselves, and by the plan that stands."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl

from engine.outbox import RULES
from engine.wiring import Workspace
from kernel.choices import Limits
from planner.api import Candidates, rest_of_day


def run_folder(workspace: Workspace, run: str) -> Path:
    """Where the files of a run of rules lie: those of a plan, of the same names."""
    return workspace.root / RULES / run


def given_on(workspace: Workspace, day: date, *, plan: bool, without: str = "") -> pl.DataFrame:
    """Candidates of the day that became touches: of runs of rules, and of the plan if asked for."""
    folders = [run_folder(workspace, run) for run in workspace.rule_firings.runs_on(day, without=without)]
    entry = workspace.plans.find(day) if plan else None
    if entry is not None:
        folders.append(Path(entry.folder))
    parts = []
    for each in folders:
        if (each / "assignments.parquet").exists():
            rows = pl.read_parquet(each / "assignments.parquet")
            refused = pl.read_parquet(each / "refusals.parquet").select("user", "task")
            parts.append(rows.join(refused, on=["user", "task"], how="anti") if refused.height else rows)
    return pl.concat(parts, how="diagonal_relaxed") if parts else pl.DataFrame()


def less_given(
    workspace: Workspace, day: date, candidates: Candidates, limits: Limits
) -> tuple[Candidates, Limits]:
    """What a plan may still decide about, where rules have fired on its day already."""
    frame, left = rest_of_day(candidates.frame, limits, given_on(workspace, day, plan=False))
    return replace(candidates, frame=frame), left
