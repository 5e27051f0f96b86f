"""The plan's prices, as decisions pay them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine.publish import read_plan
from engine.wiring import Workspace


def prices(workspace: Workspace) -> Mapping[str, float]:
    """Benefit or touchpoint → the price of one use in the newest plan; empty without a plan."""
    today = workspace.clock.now().astimezone(workspace.settings.zone).date()
    entry = workspace.plans.find(today)
    if entry is None:
        return {}
    uses = read_plan(Path(entry.folder))["allocation"]["limits"]
    return {each["name"].removesuffix("_capacity"): max(each["price"], 0.0) for each in uses}
