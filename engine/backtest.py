"""The back-test of a workspace: past plan dates, one after the other, each judged by what then happened."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from engine.wiring import Workspace
from engine.world import plan_instant, read_history
from kernel.errors import BadInput
from kernel.events import OFFER
from kernel.ids import fingerprint
from models.api import BackTest, History, back_test, settled_recipe

#: distance of plan dates, and how far ahead offers count: each offer is judged once
AHEAD = timedelta(days=35)
#: folds around the plan's own date: three before, one after
FOLDS = (-3, -2, -1, 0, 1)


def whole_history(workspace: Workspace) -> History:
    """Everything in the sources, also what came after a plan: only the back-test may see it."""
    return read_history(workspace, datetime(9000, 1, 1, tzinfo=UTC))


def run_backtest(workspace: Workspace, day: date, history: History) -> tuple[BackTest, dict[str, Any]]:
    """The back-test around `day` and what the report says of it; recorded in MLflow once."""
    recipe = workspace.definitions().recipe("response")
    instants = []
    for fold in FOLDS:
        try:
            instants.append(plan_instant(workspace, day + fold * AHEAD))
        except BadInput:
            continue  # that date has no data around it
    recipe = settled_recipe(recipe, history, min(instants, default=plan_instant(workspace, day)))
    seed = workspace.settings.seed
    test = back_test(history, instants, recipe, ahead=AHEAD, seed=seed)
    key = fingerprint([history.fingerprint(), instants, recipe.model_dump(mode="json"), seed])
    workspace.registry.record_backtest(test, key)
    return test, {
        "share": test.share,
        "ahead_days": AHEAD.days,
        "lift": {name: vars(value) for name, value in test.lift.items()},
        "auc": {name: vars(value) for name, value in test.auc.items()},
        "dates": [
            {**row, "plan": row["plan"].astimezone(workspace.settings.zone).date().isoformat()}
            for row in test.dates.to_dicts()
        ],
        "reality": None,
    }


def compare_with_reality(
    assignments: pl.DataFrame, offers: dict[str, Any], history: History
) -> dict[str, Any] | None:
    """Of those whom the plan chose for an offer and who really received it: how many responded.

    `offers`: benefit → offer id. None when no benefit is an offer that was really sent.
    """
    treatments, responses = history.contacts()
    kind = treatments.schema[OFFER]
    known = pl.DataFrame(
        {"benefit": list(offers), OFFER: pl.Series(list(offers.values()), dtype=kind, strict=False)}
    )
    answered = responses.select("user", OFFER, pl.lit(1.0).alias("responded")).unique()
    reached = (
        treatments.select("user", OFFER)
        .unique()
        .join(known, on=OFFER)
        .join(answered, on=["user", OFFER], how="left")
        .with_columns(pl.col("responded").fill_null(0.0))
    )
    chosen = reached.join(assignments.select("user", "benefit"), on=["user", "benefit"], how="semi")
    if reached.is_empty() or chosen.is_empty():
        return None
    return {
        "chosen_and_reached": chosen.height,
        "responded": int(chosen["responded"].sum()),
        "rate": chosen["responded"].mean(),
        "reached_all": reached.height,
        "rate_all": reached["responded"].mean(),
    }
