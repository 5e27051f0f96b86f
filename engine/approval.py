"""Whether the touches of a plan may go out: by the workspace's rhythm, and by a person's word."""

from __future__ import annotations

from datetime import date

from engine.wiring import Workspace
from planner.api import Planning
from storage.plan_runs import APPROVED


def needs_approval(workspace: Workspace) -> bool:
    rhythm = workspace.definitions().one(Planning)
    return rhythm is not None and rhythm.approval == "person"


def may_go(workspace: Workspace, day: date, version: int) -> bool:
    """Whether the touches of this version of a day's plan may go out now."""
    said = workspace.plan_runs.decision(day, version)
    return said == APPROVED or (said is None and not needs_approval(workspace))
