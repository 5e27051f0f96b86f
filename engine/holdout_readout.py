"""What plans brought: everyone for whom something was intended, treated or held out, in money."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from engine.effects_samples import first_intentions
from engine.usecases import instant_of
from engine.wiring import Workspace
from engine.world import read_history
from kernel.clock import parse_date, start_of_day
from kernel.errors import BadInput
from kernel.events import INSTANT
from kernel.work import Goal
from models.api import Experiment, Holdout, Readout, read_out

PLANNED, HELD_OUT, ALL = "planned", "held_out", "all plans"


@dataclass(frozen=True, kw_only=True)
class PlanReadout:
    """Intention to treat: users are compared by what was meant for them, whether or not they got it."""

    first: date
    last: date
    #: plans of these days that meant something for somebody for the first time
    plans: int
    #: one for all plans together, one a goal, one a goal and benefit
    readouts: tuple[Readout, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "from": self.first.isoformat(),
            "to": self.last.isoformat(),
            "plans": self.plans,
            "subjects": [each.as_json() for each in self.readouts],
        }


def parse_days(text: str) -> tuple[date, date]:
    """`DAY..DAY`, or one day."""
    first, dots, last = text.partition("..")
    begin = parse_date(first, "--plan")
    end = parse_date(last, "--plan") if dots else begin
    if end < begin:
        raise BadInput("ends before it begins", field="--plan", value=text)
    return begin, end


def read_plans(
    space: Workspace,
    first: date,
    last: date,
    *,
    within: str = "28d",
    before: str | None = "84d",
    as_of: str | None = None,
    alpha: float = 0.05,
) -> PlanReadout:
    """What the plans of these days added to profit, spend and buyers within a window of the first intention.

    Profit is margin × spend less what the user's touches were expected to cost, the margin being that of
    the goal that was intended. A user counts from the first plan since the holdout began that meant
    something for them, under what it meant, if that plan is of these days. Always-valid intervals: the
    reading may be repeated every day. Raises BadInput without a holdout, without such users, and before any
    window is over.
    """
    holdout = space.definitions().one(Holdout)
    if holdout is None:
        raise BadInput("needs a definition of kind holdout", field="--plan", value=f"{first}..{last}")
    zone = space.settings.zone
    since, until = start_of_day(first, zone), start_of_day(last + timedelta(days=1), zone)
    rows = first_intentions(space, holdout, until)
    rows = rows.filter(pl.col("at") >= since)
    if rows.is_empty():
        raise BadInput(
            "has no plan that held anybody out for the first time", field="--plan", value=f"{first}..{last}"
        )
    plans = rows["at"].unique().to_list()
    instant = instant_of(space, as_of)
    meant = _meant(space, rows)
    history = read_history(space, instant)
    costs = space.tombstones.without(_costs(space, min(plans), instant))
    told: dict[str, Any] = {
        "variants": {PLANNED: 1 - holdout.share, HELD_OUT: holdout.share},
        "holdout": HELD_OUT,
        "starts": first,
        "within": within,
        "before": before,
        "alpha": alpha,
        "metrics": [
            {"name": "profit", "sum": {"profit": 1, "cost": -1}},
            {"name": "spend", "sum": {"amount": 1}},
            {"name": "bought", "event": "purchase"},
        ],
    }
    found = []
    for subject, rows in _subjects(meant):
        users = rows.sort("at", "goal", "benefit").unique("user", keep="first", maintain_order=True)
        name = subject.replace(" ", "_")
        planned_users = max(users.height, 200)
        experiment = Experiment.model_validate({**told, "name": name, "planned": planned_users})
        bought = (
            history.purchases.lazy()
            .join(users.lazy().select("user", "margin"), on="user")
            .select(
                "user",
                "at",
                pl.col("amount").cast(pl.Float64),
                (pl.col("amount").cast(pl.Float64) * pl.col("margin")).alias("profit"),
                pl.lit(0.0).alias("cost"),
                pl.lit("purchase").alias("event"),
            )
        )
        spent = (
            costs.lazy()
            .join(users.lazy().select("user"), on="user", how="semi")
            .select(
                "user",
                "at",
                pl.lit(0.0).alias("amount"),
                pl.lit(0.0).alias("profit"),
                "cost",
                pl.lit("touch").alias("event"),
            )
        )
        outcomes = pl.concat([bought, spent]).collect()
        assigned = users.select("user", "variant", "at", pl.lit(subject).alias("subject"))
        found.append(read_out(experiment, assigned, outcomes, instant))
    return PlanReadout(first=first, last=last, plans=len(plans), readouts=tuple(found))


def _meant(space: Workspace, rows: pl.DataFrame) -> pl.DataFrame:
    """user, at, goal, benefit, margin, variant."""
    margins = {each.name: each.margin for each in space.definitions().of(Goal)}
    gone = set(rows["goal"].unique().to_list()) - set(margins)
    if gone:
        raise BadInput("is no goal any more: its margin is not known", field="goal", value=min(gone))
    return rows.select(
        "user",
        "at",
        "goal",
        "benefit",
        pl.col("goal").replace_strict(margins, return_dtype=pl.Float64).alias("margin"),
        pl.when("treated").then(pl.lit(PLANNED)).otherwise(pl.lit(HELD_OUT)).alias("variant"),
    )


def _subjects(meant: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    yield ALL, meant
    for (goal,), rows in meant.sort("goal").group_by("goal", maintain_order=True):
        yield f"{goal}", rows
        for (benefit,), part in rows.sort("benefit").group_by("benefit", maintain_order=True):
            yield f"{goal} {benefit}", part


def _costs(space: Workspace, since: datetime, until: datetime) -> pl.DataFrame:
    """user, at, cost: what was expected of each touch that no cap, hour or consent refused, of every plan
    from the first on: what the first intention led to counts too."""
    parts = []
    for entry in space.plans.newest_of_each_day():
        at, folder = start_of_day(entry.date, space.settings.zone), Path(entry.folder)
        if not since <= at <= until or not (folder / "assignments.parquet").exists():
            continue
        given = pl.read_parquet(folder / "assignments.parquet").select("user", "task", "cost")
        refused = pl.read_parquet(folder / "refusals.parquet")
        if refused.height:
            given = given.join(refused.select("user", "task"), on=["user", "task"], how="anti")
        # a window begins after the plan's instant
        later = at + timedelta(seconds=1)
        parts.append(given.select("user", pl.lit(later).cast(INSTANT).alias("at"), "cost"))
    return pl.concat(parts)
