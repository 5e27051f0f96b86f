"""What one asks of a plan: why she got this, what other limits would bring, what goals cost each other, and
what has changed since yesterday."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from threading import Lock
from typing import Any

import polars as pl

from conflict.api import WhatIf, allocate, asked_again, explain, load_limits, parse_sweep, sweep
from engine.day_candidates import LEFT_OUT
from engine.publish import read_plan
from engine.wiring import Workspace
from insight.api import typed_users
from kernel.choices import Allocation, Limits, LimitUse, Status
from kernel.errors import BadInput, Infeasible, NotFound, Unavailable

#: money of a plan that is summed up
_SUMS = ("cost", "gain", "value", "response")
#: plans that are kept ready to be asked
_KEPT = 2
#: seconds that one question may take the allocator
_PATIENCE = 10.0
#: relative gap at which an answer is near enough: a person reads four digits, the last of them take the time
NEAR = 1e-4
#: seconds after which one that is ten times as far is taken too
_SOON = 2.0


class PlanQuestions:
    """Every method raises NotFound for a day without a plan. Safe for threads; one answers at a time."""

    def __init__(self, workspace: Workspace) -> None:
        self._space = workspace
        #: folder and fingerprint of inputs → what can be asked
        self._ready: dict[tuple[str, str], WhatIf] = {}
        self._lock = Lock()

    def folder(self, day: date, version: int | None = None) -> Path:
        """Where the files of a day's newest plan lie, or of an older version."""
        plans = self._space.plans
        entry = plans.find(day) if version is None else plans.version(day, version)
        if version is not None and entry is None and (newest := plans.find(day)) is not None:
            raise NotFound("version", version, range(1, newest.version + 1), where=f"plan {day}")
        if entry is None or not (Path(entry.folder) / "plan.json").exists():
            known = [each.date for each in self._space.plans.newest_of_each_day()]
            raise NotFound("plan", day, known, field="date")
        return Path(entry.folder)

    def what_if(self, day: date, changes: Mapping[str, Mapping[str, float | None]]) -> dict[str, Any]:
        """The plan's totals under changed limits, `{limit: {at_most, at_least}}`, within 0.01 % of the best.

        `gap` is what is proven; after two seconds 0.1 % will do.

        `{status, gap, seconds, totals, before, difference, goals, limits}`; nothing is changed. Raises
        BadInput for a limit that there is not, Infeasible for limits that cannot hold together.
        """
        if not changes:
            raise BadInput("names no limit to change", field="limits")
        with self._lock:
            asked = self._asked(day)
            found = asked.changed(changes, time_limit=_SOON, gap=NEAR)
            if found.gap is None or found.gap > 10 * NEAR:
                found = asked.changed(changes, time_limit=_PATIENCE, gap=NEAR)
        if found.status is Status.INFEASIBLE:
            raise Infeasible(found.conflicting, where="what-if")
        if found.objective is None:
            raise Unavailable(f"the allocation ended {found.status}: ask again")
        before, after = _totals(asked.allocation.assignments), _totals(found.assignments)
        goals = _by_goal(asked.allocation.assignments).join(
            _by_goal(found.assignments), on="goal", how="full", coalesce=True, suffix="_after"
        )
        return {
            "date": day.isoformat(),
            "status": str(found.status),
            "gap": found.gap,
            "seconds": round(found.seconds, 3),
            "totals": after,
            "before": before,
            "difference": {key: round(after[key] - before[key], 6) for key in after},
            "goals": goals.fill_null(0).sort("goal").to_dicts(),
            "limits": [vars(each) for each in found.limits],
        }

    def curve(self, day: date, asked_for: str) -> list[dict[str, Any]]:
        """`LIMIT=FROM:TO:POINTS`: what each bound would bring, a row a point, each proven."""
        with self._lock:
            asked = self._asked(day)
            curve = parse_sweep(asked_for, asked.limits)
            return list(sweep(asked, curve, time_limit=_PATIENCE, gap=NEAR))

    def explain(self, day: date, user_id: str) -> dict[str, Any]:
        """`{user_id, date, given, candidates, left_out}`: every candidate best first, with its value, what it
        pays for limits, what beat it, and what would have to change. Raises NotFound for an unknown user."""
        folder = self.folder(day)
        text_ids = pl.read_parquet_schema(folder / "cells.parquet")["user"] == pl.String
        user = typed_users(text_ids, [user_id], "user_id")[0]
        rows = pl.scan_parquet(folder / "candidates.parquet").filter(pl.col("user") == pl.lit(user)).collect()
        cells = pl.scan_parquet(folder / "cells.parquet").filter(pl.col("user") == pl.lit(user)).collect()
        if rows.is_empty() and cells.is_empty():
            raise NotFound("user", user_id, (), where=f"plan {day}", field="user_id")
        got = pl.scan_parquet(folder / "assignments.parquet").filter(pl.col("user") == pl.lit(user)).collect()
        refused = (
            pl.scan_parquet(folder / "refusals.parquet").filter(pl.col("user") == pl.lit(user)).collect()
        )
        limits = load_limits(folder / "limits.yaml")
        reasons = []
        if not rows.is_empty():
            allocation = replace(_allocation(folder), assignments=got)
            facts = {each["task"]: each for each in rows.to_dicts()}
            for each in explain(rows, limits, allocation, user):
                told = {"pays": each.pays, "adjusted": each.adjusted, "chosen": each.chosen}
                beaten = {"beaten_by": each.beaten_by, "behind": each.behind}
                reasons.append(
                    {
                        **facts[each.task],
                        **told,
                        **beaten,
                        "why": each.sentence,
                        "would_need": _would_need(each.value, each.adjusted, each.chosen, each.behind),
                    }
                )
        plan = read_plan(folder)
        return {
            "user_id": user_id,
            "date": day.isoformat(),
            "cell": cells.to_dicts()[0] if cells.height else None,
            "given": got["task"].to_list(),
            "refused": refused.select("task", "rule", "reason").to_dicts(),
            "prices": {use["name"]: use["price"] for use in plan["allocation"]["limits"]},
            "candidates": reasons,
            "left_out": _left_out(folder, user),
            "held_out": self._held_out(folder, user),
        }

    def goals(self, day: date) -> list[dict[str, Any]]:
        """What each goal costs the others: `{goal, value, others_with, others_without, costs_others}`, money;
        found by allocating the day once without each."""
        with self._lock:
            folder = self.folder(day)
            frame, limits = self._problem(folder)
            given = pl.read_parquet(folder / "assignments.parquet")
            names = sorted(frame["goal"].unique().to_list())
            told = []
            for goal in names:
                rest = frame.filter(pl.col("goal") != goal)
                mine = math.fsum(given.filter(pl.col("goal") == goal)["value"])
                others = math.fsum(given.filter(pl.col("goal") != goal)["value"])
                alone = others if rest.is_empty() else self._worth(rest, _without(limits, goal, rest))
                cost = None if alone is None else round(alone - others, 6)
                told.append(
                    {
                        "goal": goal,
                        "value": round(mine, 6),
                        "others_with": round(others, 6),
                        "others_without": alone,
                        "costs_others": cost,
                    }
                )
            return told

    def difference(
        self, old: date, new: date, version: int | None = None, to_version: int | None = None
    ) -> dict[str, Any]:
        """What changed from one day's plan to another's, or between two versions of a day's: totals, goals,
        tasks, prices, models, users."""
        before, after = self.folder(old, version), self.folder(new, to_version)
        was, now = read_plan(before), read_plan(after)
        users = [
            set(pl.read_parquet(each / "assignments.parquet")["user"].to_list()) for each in (before, after)
        ]
        tasks = [
            pl.read_parquet(each / "tasks.parquet").select("task", "assigned", "value")
            for each in (before, after)
        ]
        both = tasks[0].join(tasks[1], on="task", how="full", coalesce=True, suffix="_after")
        prices = {each["name"]: each["price"] for each in was["allocation"]["limits"]}
        return {
            "from": old.isoformat() + ("" if version is None else f"@{version}"),
            "to": new.isoformat() + ("" if to_version is None else f"@{to_version}"),
            "totals": {
                key: {
                    "before": was["totals"][key],
                    "after": value,
                    "difference": value - was["totals"].get(key, 0),
                }
                for key, value in now["totals"].items()
            },
            "users": {
                "only_before": len(users[0] - users[1]),
                "both": len(users[0] & users[1]),
                "only_after": len(users[1] - users[0]),
            },
            "tasks": both.fill_null(0).sort("task").to_dicts(),
            "prices": [
                {"limit": each["name"], "before": prices.get(each["name"]), "after": each["price"]}
                for each in now["allocation"]["limits"]
            ],
            "models": [
                {"name": each["name"], "before": _version(was, each["name"]), "after": each["version"]}
                for each in now["models"]
                if _version(was, each["name"]) != each["version"]
            ],
        }

    def _asked(self, day: date) -> WhatIf:
        folder = self.folder(day)
        key = (str(folder), str(read_plan(folder)["inputs"]))
        if key not in self._ready:
            while len(self._ready) >= _KEPT:
                del self._ready[next(iter(self._ready))]
            frame, limits = self._problem(folder)
            given = pl.read_parquet(folder / "assignments.parquet")
            first = replace(_allocation(folder), assignments=given)
            self._ready[key] = asked_again(frame, limits, first, seed=self._space.settings.seed)
        return self._ready[key]

    def _problem(self, folder: Path) -> tuple[pl.DataFrame, Limits]:
        return pl.read_parquet(folder / "candidates.parquet"), load_limits(folder / "limits.yaml")

    def _worth(self, frame: pl.DataFrame, limits: Limits) -> float | None:
        """None where the rest cannot hold its own floors."""
        found = allocate(frame, limits, time_limit=_PATIENCE, gap=NEAR, seed=self._space.settings.seed)
        return None if found.objective is None else round(math.fsum(found.assignments["value"]), 6)

    def _held_out(self, folder: Path, user: object) -> list[dict[str, Any]]:
        if not (folder / "intended.parquet").exists():
            return []
        meant = pl.scan_parquet(folder / "intended.parquet").filter(pl.col("user") == pl.lit(user)).collect()
        return meant.drop_nulls("why").select("task", "why").to_dicts()


def _left_out(folder: Path, user: object) -> list[dict[str, Any]]:
    """`{task, value, reason}` of what never came to the allocation, best first."""
    if not (folder / LEFT_OUT).exists():
        return []
    rows = pl.scan_parquet(folder / LEFT_OUT).filter(pl.col("user") == pl.lit(user)).collect()
    told = rows.select(pl.col("task").cast(pl.String), "value", pl.col("reason").cast(pl.String))
    return told.sort(["value", "task"], descending=[True, False]).to_dicts()


def _would_need(value: float, adjusted: float, chosen: bool, behind: float | None) -> str | None:
    """What would have to change for a candidate that was not chosen."""
    if chosen:
        return None
    if behind is not None and behind > 0:
        return f"to be worth {behind:.4g} more, or what it pays to cost so much less"
    if adjusted <= 0:
        return f"to be worth more than {value - adjusted:.4g}, what it pays; now it is worth {value:.4g}"
    return None


def _allocation(folder: Path) -> Allocation:
    """As it was written, without its rows."""
    raw = json.loads((folder / "allocation.json").read_text(encoding="utf-8"))
    limits = tuple(
        LimitUse(**{**each, "range": None if each.get("range") is None else tuple(each["range"])})
        for each in raw["limits"]
    )
    return Allocation(
        status=Status(raw["status"]),
        objective=raw["objective"],
        bound=raw["bound"],
        gap=raw["gap"],
        seconds=raw.get("seconds", 0.0),
        limits=limits,
        assignments=pl.DataFrame(),
    )


def _without(limits: Limits, goal: str, rest: pl.DataFrame) -> Limits:
    """The limits less those that are about this goal alone, or about nothing any more."""
    kept = []
    for limit in limits.limits:
        chosen = pl.lit(value=True)
        for column, label in limit.where.items():
            labels = label if isinstance(label, tuple) else (label,)
            chosen = chosen & pl.col(column).cast(pl.String).is_in([str(each) for each in labels])
        if limit.where.get("goal") != goal and not rest.filter(chosen).is_empty():
            kept.append(limit)
    return limits.model_copy(update={"limits": tuple(kept)})


def _totals(rows: pl.DataFrame) -> dict[str, float]:
    return {"assigned": rows.height, **{key: round(math.fsum(rows[key]), 6) for key in _SUMS}}


def _by_goal(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.group_by("goal").agg(pl.len().alias("assigned"), pl.col("cost", "value").sum().round(6))


def _version(plan: Mapping[str, Any], name: str) -> str | None:
    return next((each["version"] for each in plan["models"] if each["name"] == name), None)
