"""The plan's prices, as decisions pay them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from engine.publish import read_plan
from engine.wiring import Workspace


def prices(workspace: Workspace) -> Mapping[str, float]:
    """Benefit or touchpoint → the price of one use in today's newest plan; empty without a plan."""
    today = workspace.clock.now().astimezone(workspace.settings.zone).date()
    entry = workspace.plans.find(today)
    return {} if entry is None else _prices(Path(entry.folder), entry.version)


@lru_cache(maxsize=8)
def _prices(folder: Path, _version: int) -> Mapping[str, float]:
    """A version's files stay as they are, and may be large: they are read once."""
    uses = read_plan(folder)["allocation"]["limits"]
    return {each["name"].removesuffix("_capacity"): max(each["price"], 0.0) for each in uses}
