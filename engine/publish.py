"""A day's plan as files: Parquet for machines, JSON and a report for people; whole or not at all."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from conflict.api import write_allocation
from engine.cells import MEMORY, remembered
from engine.day import Day
from engine.day_candidates import pruning_told
from engine.exploration import FILE as EXPLORED
from engine.holdout import INTENDED, told
from engine.report.data import report_data
from engine.report.render import render_report
from engine.rules import DEALT, dealt, ran
from engine.wiring import Workspace
from planner.api import goal_table, task_table
from storage.lake import folder, write_json, write_text
from touchpoint.api import export_touches


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The newest plan of a day."""

    version: int
    #: as the register knows it
    inputs: str
    #: fingerprint of what it was made from; differs where an older version was made from the same
    asked: str
    #: it was made around what had gone out of the version before
    replanned: bool


def standing_plan(workspace: Workspace, day: date) -> Standing | None:
    """None for a day without one."""
    entry = workspace.plans.find(day)
    if entry is None:
        return None
    file = Path(entry.folder) / "plan.json"
    told = read_plan(Path(entry.folder)) if file.exists() else {}
    asked = told.get("asked", entry.inputs) if told.get("inputs") == entry.inputs else entry.inputs
    return Standing(version=entry.version, inputs=entry.inputs, asked=asked, replanned="replanned" in told)


def make_way(workspace: Workspace, day: date, target: Path, version: int) -> None:
    """An earlier version that lies where this one is to lie is kept beside it, as `NAME.vN`."""
    if (target / "plan.json").exists():
        told = read_plan(target)
        if told["date"] == day.isoformat() and told["version"] < version:
            kept = target.with_name(f"{target.name}.v{told['version']}")
            shutil.rmtree(kept, ignore_errors=True)
            target.rename(kept)
    for old in range(1, version):  # also those of a try that was killed here
        kept = target.with_name(f"{target.name}.v{old}")
        if kept.exists():
            workspace.plans.moved(day, old, str(kept))


def publish(
    workspace: Workspace,
    day: Day,
    out: Path,
    *,
    version: int,
    inputs: str,
    asked: str,
    backtest: dict[str, Any] | None,
    late: tuple[str, ...] = (),
    replanned: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes the plan's folder and returns `plan.json`.

    tasks, assignments, candidates, touches, refusals, cells and profiles as Parquet; `touches_*.csv`;
    `limits.yaml` and `allocation.json`, which `growth allocate` understands; `clusters.json`, by which the
    next plan knows the clusters again; `plan.json`; `report.html`.
    """
    tasks = task_table(day.composed.tasks, day.audiences, day.candidates.frame, day.allocation.assignments)
    summary = plan_json(workspace, day, tasks, version=version, inputs=inputs)
    if asked != inputs:
        summary["asked"] = asked
    if warnings := [*late, *day.warnings]:
        summary["warnings"] = warnings
    if replanned is not None:
        summary["replanned"] = replanned
    with folder(out) as fresh:
        write_allocation(day.allocation, fresh)
        frames = {
            "tasks": tasks,
            "candidates": day.candidates.frame,
            "refusals": day.touches.refusals,
            "cells": day.cells.cells,
            "profiles": day.cells.profiles,
            "lifecycle": day.cells.lifecycle,
        }
        for name, frame in frames.items():
            frame.write_parquet(fresh / f"{name}.parquet")
        if day.intended is not None:
            day.intended.write_parquet(fresh / INTENDED)
        if day.pruning is not None:
            day.pruning.write(fresh)
        if day.explored is not None:
            drawn = day.explored.drawn.drop("if_promising")
            drawn.write_parquet(fresh / EXPLORED)
        if day.firings:
            dealt(day).write_parquet(fresh / DEALT)
        export_touches(day.touches.touches, fresh)
        limits = day.limits.model_dump(mode="json", exclude_defaults=True)
        write_text(fresh / "limits.yaml", yaml.safe_dump(limits, sort_keys=False))
        write_json(fresh / MEMORY, remembered(day.cells).as_json())
        write_json(fresh / "plan.json", summary)
        page = render_report(report_data(workspace, day, summary, tasks, backtest))
        write_text(fresh / "report.html", page)
    return summary


def plan_json(
    workspace: Workspace, day: Day, tasks: pl.DataFrame, *, version: int, inputs: str
) -> dict[str, Any]:
    """The plan in numbers."""
    assignments = day.allocation.assignments
    # exact sums: the same plan has the same totals to the last digit, however its rows are chunked
    sums = {name: math.fsum(assignments[name]) for name in ("cost", "gain", "value", "response")}
    allocation = day.allocation.as_json()
    allocation.pop("seconds")  # the only thing that differs between two runs
    measured: dict[str, Any] = {}
    if day.effects is not None:
        measured["valued"] = [each.as_json() for each in day.effects.valued]
        # as if all were off the same way: wider than the truth, which nobody knows
        known = assignments.drop_nulls("gain_low")
        measured["gain_measured"] = {
            "assigned": known.height,
            **{name: math.fsum(known[name]) for name in ("gain", "gain_low", "gain_high")},
        }
    if day.intended is not None:
        measured["held_out"] = told(day.intended)
    if day.pruning is not None:
        tasks_, rows = day.composed.tasks, day.candidates.frame
        measured["pruning"] = pruning_told(day.pruning, tasks_, rows, day.allocation)
    if day.explored is not None:
        drawn = day.explored.drawn
        measured["explored"] = {"drawn": drawn.height, "given": drawn["benefit"].count()}
    if day.firings:
        measured["rules"] = ran(day)
    return {
        "date": day.date.isoformat(),
        "version": version,
        "inputs": inputs,
        "as_of": day.as_of.isoformat(),
        "timezone": workspace.settings.timezone,
        "currency": workspace.settings.currency,
        "workspace": workspace.settings.name,
        "seed": workspace.settings.seed,
        "totals": {
            "users": day.users.height,
            "audience": day.audiences["user"].n_unique(),
            "candidates": day.candidates.frame.height,
            "assigned": assignments.height,
            "touches": day.touches.touches.height,
            "refused": day.touches.refusals.height,
            "cost": sums["cost"],
            "gain": sums["gain"],
            "value": sums["value"],
            "responses": sums["response"],
        },
        "allocation": allocation,
        "goals": goal_table(tasks).to_dicts(),
        "models": [
            {
                "name": each.name,
                "version": each.version,
                "run_id": each.run_id,
                "as_of": each.as_of.isoformat(),
                "used": "its predictions" if each.trusted else "the average of all",
                "why": each.reason,
            }
            for each in day.models
        ],
        "pruned": day.candidates.pruned,
        "refusals": rules_refused(day.touches.refusals),
        "idle": [list(each) for each in day.composed.idle],
        "cells": day.cells.profiles.height,
        "cell_drift": day.moved.as_json() if day.moved else None,
        **measured,
    }


def rules_refused(refusals: pl.DataFrame) -> list[dict[str, Any]]:
    """[{rule, count}], most first."""
    return (
        refusals.group_by("rule")
        .agg(pl.len().alias("count"))
        .sort(["count", "rule"], descending=[True, False])
    ).to_dicts()


def read_plan(folder_: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder_ / "plan.json").read_text(encoding="utf-8"))
    return found
