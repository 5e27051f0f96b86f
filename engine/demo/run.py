"""`growth demo`: the steps of a newcomer, one after the other, each of them once."""

from __future__ import annotations

from pathlib import Path

from engine.cycle import Made, plan, train
from engine.day import Progress
from engine.demo.loader import PLAN_DATE, lay_out
from engine.replaying import replay
from engine.usecases import apply
from engine.wiring import open_workspace
from kernel.errors import BadInput

#: messages on the screen that are shown, and how much of each
_SHOWN, _WIDE = 2, 110


def run_demo(root: Path, progress: Progress) -> Made:
    """Workspace, definitions, models, the plan with its back-test, its touches delivered as on that day.

    Again: changes nothing.
    """
    if root.exists() and not root.is_dir():
        raise BadInput("is not a folder", field="--dir", value=str(root))
    progress("laying out the workspace")
    lay_out(root)
    workspace = open_workspace(root)
    apply(workspace, root / "definitions", by="demo")
    train(workspace, PLAN_DATE, progress)
    made = plan(workspace, PLAN_DATE, None, progress, judged=True)
    progress("delivering touches")
    lines: list[str] = []
    replay(workspace, PLAN_DATE, lines.append)
    for line in lines[:_SHOWN]:
        progress(line[:_WIDE])
    if len(lines) > _SHOWN:
        progress(f"and {len(lines) - _SHOWN:,} more on the screen")
    return made
