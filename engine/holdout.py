"""Whom a plan leaves out so that its effects can be measured, and what they would have got."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from engine.definitions import Definitions
from kernel.choices import Allocation, Limits
from kernel.randomness import unit
from models.api import Experiment, Holdout, bucket_users, held_out
from planner.api import Candidates, intended

#: what stands before the names of tasks of explorations
EXPLORED = "explore."
#: file of a plan: one row a user for whom something was intended, treated or held out
INTENDED = "intended.parquet"


def withheld_from(definitions: Definitions, users: pl.Series, at: datetime) -> pl.DataFrame | None:
    """[user, benefit, why]: everything (benefit null) from the global holdout; from users of an experiment
    the benefits that are other variants'. None when there is neither."""
    holdout = definitions.one(Holdout)
    experiments = [each for each in definitions.of(Experiment) if each.withholds_at(at)]
    if holdout is None and not experiments:
        return None
    people = users.unique().sort().rename("user")
    parts = []
    if holdout is not None:
        kept = people.filter(held_out(people, holdout))
        parts.append(_rows(pl.DataFrame({"user": kept}), None, f"holdout {holdout.name}"))
    for experiment in experiments:
        dealt = bucket_users(people, experiment, holdout).drop_nulls("variant")
        for benefit in sorted(set(experiment.gives.values())):
            theirs = [name for name, given in experiment.gives.items() if given == benefit]
            others = dealt.filter(~pl.col("variant").is_in(theirs))
            parts.append(_rows(others, benefit, f"experiment {experiment.name}"))
    return pl.concat(parts)


def _rows(users: pl.DataFrame, benefit: str | None, why: str) -> pl.DataFrame:
    return users.select("user", pl.lit(benefit, dtype=pl.String).alias("benefit"), pl.lit(why).alias("why"))


def intentions(candidates: Candidates, limits: Limits, allocation: Allocation) -> pl.DataFrame | None:
    """What was intended for each user, and `why` it was withheld (null: it was not). None without anybody
    who is held out."""
    if candidates.withheld is None:
        return None
    # what chance gives is no intention, and nobody held out has its like
    planned = candidates.frame.filter(~pl.col("task").str.starts_with(EXPLORED))
    reached = planned.with_columns(why=pl.lit(None, dtype=pl.String))
    both = pl.concat([reached, candidates.withheld.select(reached.columns)])
    prices = {use.name: use.price for use in allocation.limits}
    found = intended(both, limits, prices)
    return found.join(both.select("user", "task", "why"), on=["user", "task"], maintain_order="left")


def told(found: pl.DataFrame) -> list[dict[str, Any]]:
    """[{why, users, value}] for `plan.json`: from whom something was kept, and what it would have added."""
    withheld = (
        found.drop_nulls("why").group_by("why").agg(pl.len().alias("users"), pl.col("value").sum().round(6))
    )
    return withheld.sort("why").to_dicts()


def held_out_now(definitions: Definitions) -> Callable[[str], bool]:
    """Whether a user is in the global holdout, as real-time asks it: two microseconds."""
    holdout = definitions.one(Holdout)
    if holdout is None:
        return lambda _: False
    key, share = holdout.key, holdout.share
    return lambda user: unit(user, key) < share


def kept_from(folder: Path, user: str) -> list[dict[str, Any]]:
    """[{task, goal, benefit, touchpoint, worth, why}] : meant for this user, and withheld."""
    if not (folder / INTENDED).exists():
        return []
    rows = pl.scan_parquet(folder / INTENDED).filter(pl.col("user").cast(pl.String) == user)
    return (
        rows.filter(pl.col("why").is_not_null())
        .select("task", "goal", "benefit", "touchpoint", "worth", "why")
        .collect()
        .to_dicts()
    )
