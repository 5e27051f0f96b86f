"""The Complete Journey as history: what the demo's workspace knows, with everything that came later."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from engine.backtest import whole_history
from engine.demo.loader import PLAN_DATE, lay_out
from engine.wiring import open_workspace
from engine.world import plan_instant
from models.history import History

#: distance of plan dates, days: each campaign is judged once
STEP = 35


@cache
def journey() -> tuple[History, datetime]:
    """The history, and the demo's plan instant."""
    with TemporaryDirectory() as folder:
        lay_out(Path(folder))
        workspace = open_workspace(Path(folder))
        return whole_history(workspace), plan_instant(workspace, PLAN_DATE)


def plan_dates(first: int, last: int) -> list[datetime]:
    """Instants so many steps before (negative) and after the demo's."""
    at = journey()[1]
    return [at + timedelta(days=STEP * step) for step in range(first, last + 1)]


def some(history: History, count: int, seed: int) -> History:
    """Only so many users."""
    users = history.purchases["user"].unique().sort()
    kept = users.sample(min(count, len(users)), seed=seed).implode()

    def of(frame: pl.DataFrame | None) -> pl.DataFrame | None:
        return None if frame is None else frame.filter(pl.col("user").is_in(kept))

    return History(
        purchases=history.purchases.filter(pl.col("user").is_in(kept)),
        treatments=of(history.treatments),
        responses=of(history.responses),
        offer_items=history.offer_items,
    )
