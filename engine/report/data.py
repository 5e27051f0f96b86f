"""What the report says of a day, as plain values."""

from __future__ import annotations

from typing import Any

import polars as pl

from conflict.api import explain
from engine.day import Day
from engine.holdout import told
from engine.wiring import Workspace
from kernel.learning import ModelVersion
from kernel.money import show
from planner.api import contested

_BASES = {
    "spend": "the money that the user is predicted to spend",
    "spend_at_risk": "usual spend times the predicted probability of no purchase",
    "spend_lost": "usual spend less predicted spend",
    "unit": "what one outcome is worth",
}
_SAMPLES = 3


def report_data(
    workspace: Workspace,
    day: Day,
    summary: dict[str, Any],
    tasks: pl.DataFrame,
    backtest: dict[str, Any] | None,
) -> dict[str, Any]:
    """See `engine.report.render` for the shape."""
    labels = {goal.name: goal.title for goal in day.resources.goals}
    money = {limit.name for limit in day.limits.limits if limit.sum in ("cost", "gain", "value")}
    chosen = day.cells.clusters
    return {
        **summary,
        "limits": [{**vars(use), "money": use.name in money} for use in day.allocation.limits],
        "goals": [{**goal, "label": labels[goal["goal"]]} for goal in summary["goals"]],
        "tasks": tasks.to_dicts(),
        "stages": _stages(day),
        "clusters": chosen.facts.to_dicts(),
        "cells": day.cells.profiles.to_dicts(),
        "cells_note": "Clusters are cuts through a continuum that come back when the users are resampled; "
        "their names compare with the average user. Cells of a few users are cells all the same."
        + _drift_note(day),
        "contested": contested(day.candidates.frame, day.allocation.assignments).to_dicts(),
        "samples": _samples(day),
        "models": [_model(version) for version in day.models],
        "backtest": backtest,
        "assumptions": _assumptions(workspace, day),
    }


def _drift_note(day: Day) -> str:
    if day.moved is None:
        return ""
    drift = day.moved.drift
    words = [
        f" Since the plan of {day.moved.since}: population stability index of "
        f"stages {drift.psi['stage']:.3f}, "
        f"clusters {drift.psi['cluster']:.3f}, cells {drift.psi['cell']:.3f} (below 0.1 is stable, above "
        "0.25 another population)"
    ]
    words += [f"; {what}: {', '.join(names)}" for what, names in
              (("new clusters", drift.new), ("gone", drift.gone)) if names]  # fmt: skip
    return "".join(words) + "."


def _stages(day: Day) -> list[dict[str, Any]]:
    facts = day.cells.lifecycle.group_by("stage").agg(
        pl.len().alias("size"), pl.col("rhythm_days").median(), pl.col("recency_days").median()
    )
    found = []
    for row in facts.sort(["size", "stage"], descending=[True, False]).iter_rows(named=True):
        usual, silent = row["rhythm_days"], row["recency_days"]
        text = "have not bought yet"
        if silent is not None:
            text = f"last bought {silent:.0f} days ago (median)"
            text += f", usually every {usual:.0f}" if usual is not None else ""
        share = row["size"] / day.users.height
        found.append({"stage": str(row["stage"]), "size": row["size"], "share": share, "description": text})
    return found


def _samples(day: Day) -> list[dict[str, Any]]:
    """Three users worth a look: the most valuable choice, the closest loser, one who got the second best."""
    frame, assigned = day.candidates.frame, day.allocation.assignments
    won = assigned.sort(["value", "user"], descending=[True, False])["user"].head(1).to_list()
    best = frame.sort(["value", "task"], descending=[True, False]).unique(
        "user", keep="first", maintain_order=True
    )
    lost = best.join(assigned, on="user", how="anti")["user"].head(1).to_list()
    pairs = best.join(assigned.select("user", pl.col("task").alias("given")), on="user")
    swayed = pairs.filter(pl.col("task") != pl.col("given"))["user"].head(1).to_list()
    titles = ("The most valuable choice", "Wanted, but not worth the price", "Got the second best")
    found = []
    for title, users in zip(titles, (won, lost, swayed), strict=True):
        found += [{**explain_user(day, user), "title": title} for user in users]
    return found[:_SAMPLES]


def explain_user(day: Day, user: object) -> dict[str, Any]:
    """What this user got and did not get, and why, in values and prices."""
    reasons = explain(day.candidates.frame, day.limits, day.allocation, user)
    cell = day.cells.cells.filter(pl.col("user") == pl.lit(user)).to_dicts()[0]
    life = day.cells.lifecycle.filter(pl.col("user") == pl.lit(user)).to_dicts()[0]
    score = day.scores.filter(pl.col("user") == pl.lit(user)).to_dicts()[0]
    rhythm = life["rhythm_days"]
    usual = f"usually buys every {rhythm:.0f} days, " if rhythm is not None else ""
    last = life["recency_days"]
    silent = f"last {last:.0f} days ago; " if last is not None else "never bought; "
    given = [reason.task for reason in reasons if reason.chosen]
    return {
        "user": user,
        "cell": cell["cell"],
        "description": f"{usual}{silent}predicted to spend {score['spend']:,.0f} in the window, "
        f"{score['churn']:.0%} likely not to buy",
        "given": given[0] if given else None,
        "reasons": [
            {
                "task": reason.task,
                "value": reason.value,
                "paid": reason.pays,
                "adjusted": reason.adjusted,
                "chosen": reason.chosen,
                "sentence": reason.sentence,
            }
            for reason in reasons[:6]
        ],
    }


def _model(version: ModelVersion) -> dict[str, Any]:
    def intervals(prefix: str, *, baseline: bool) -> dict[str, Any]:
        names = [n for n in version.metrics if f"{n}_low" in version.metrics]
        mine = [n for n in names if n.startswith("baseline_") == baseline]
        return {
            name.removeprefix(prefix): {
                "mean": version.metrics[name],
                "low": version.metrics[f"{name}_low"],
                "high": version.metrics[f"{name}_high"],
            }
            for name in mine
        }

    naive = intervals("baseline_", baseline=True)
    return {
        "name": version.name,
        "predicts": version.params.get("predicts", version.name),
        "version": version.version,
        "alias": version.alias,
        "as_of": version.as_of.isoformat(),
        "trusted": version.trusted,
        "reason": version.reason,
        "baseline": version.params.get("baseline", "baseline"),
        "rows": int(version.params.get("rows", 0)),
        "metrics": intervals("", baseline=False),
        "baseline_metrics": {name: value["mean"] for name, value in naive.items()},
    }


def _measured(day: Day, money: str) -> list[str]:
    """By what each goal and benefit is valued, where an uplift model is defined, and who is held out."""
    said = []
    for each in day.effects.valued if day.effects else ():
        what = each.what
        if each.adds is None:
            said.append(f"{what}: valued by the assumption below; {each.reason}.")
            continue
        mean, low, high = (show(amount, money) for amount in each.adds)
        by = "single users' measured effects" if each.by == "uplift" else "the measured average effect"
        model = f"{each.model.name} v{each.model.version}" if each.model else ""
        said.append(
            f"{what}: valued by {by} ({model}), on average {mean} ({low} to {high}) a touch; {each.reason}."
        )
    for row in told(day.intended) if day.intended is not None else ():
        said.append(
            f"{row['why']}: {row['users']:,} users get nothing of what was meant for them, so that effects "
            f"can be measured; it would have been worth {show(row['value'], money)}."
        )
    return said


def _assumptions(workspace: Workspace, day: Day) -> list[str]:
    """What the plan takes for granted until an experiment measures it."""
    money = workspace.settings.currency
    said = _measured(day, money) + [
        f"{goal.title}: one response adds {goal.lift:.0%} of {_BASES[goal.base]} within {goal.window}, "
        f"of which {goal.margin:.0%} is profit."
        for goal in day.resources.goals
    ]
    said += [
        f"{each.title}: {each.reach:.0%} of touches are seen, each costs {show(each.cost_per_touch, money)}."
        for each in day.resources.touchpoints
    ]
    said += [
        f"{each.title}: costs {show(each.cost_per_response, money)} for each user who uses it."
        for each in day.resources.benefits
    ]
    return [
        *said,
        "P(response) was learned from mailed users only; for other touchpoints it is scaled by reach.",
    ]
