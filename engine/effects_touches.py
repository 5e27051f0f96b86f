"""What touches of past plans teach of effects, beside trials.

A plan chooses by what can be seen of users. So whom it touched can be compared with those who look alike and
whom an exploration gave nothing; and there are many more of them than of trials.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from engine.holdout import EXPLORED as TASK
from engine.wiring import Workspace
from kernel.clock import parse_window, start_of_day
from kernel.events import INSTANT
from models.api import UpliftRecipe

#: touches of one day that are learned from, at most
_MOST = 5_000
_CONFIRMED = "confirmed"


def touched(
    workspace: Workspace, recipe: UpliftRecipe, treated: tuple[str, ...], until: datetime
) -> pl.DataFrame:
    """[user, at, benefit, touchpoint]: everyone whom plans before `until` touched for the recipe's goal, but
    for trials; of a day at most 5,000."""
    wanted = (pl.col("goal") == recipe.goal) & pl.col("benefit").is_in(treated)
    wanted &= ~pl.col("task").str.starts_with(TASK)
    if recipe.touchpoints is not None:
        wanted &= pl.col("touchpoint").is_in(recipe.touchpoints)
    since = datetime.min.replace(tzinfo=UTC) if recipe.recent is None else until - parse_window(recipe.recent)
    parts = []
    for entry in workspace.plans.newest_of_each_day():
        path = Path(entry.folder) / "touches.parquet"
        at = start_of_day(entry.date, workspace.settings.zone)
        if not since < at < until or not path.exists():
            continue
        # identities of touches are hashes: the first of them are any
        rows = pl.read_parquet(path).filter(wanted).sort("touch_id").head(_MOST)
        states = workspace.ledger.states(rows["touch_id"].to_list())
        out = [key for key, state in states.items() if state == _CONFIRMED]
        rows = rows.filter(pl.col("touch_id").is_in(out)).unique("user", keep="first", maintain_order=True)
        parts.append(rows.select("user", pl.lit(at).cast(INSTANT).alias("at"), "benefit", "touchpoint"))
    if not parts:
        return pl.DataFrame(
            schema={"user": pl.Int64, "at": INSTANT, "benefit": pl.String, "touchpoint": pl.String}
        )
    return pl.concat(parts)
