"""Rules that fire by themselves: once each, within what the plan has left, read like all others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

RULES = """
kind: rule
name: elevenses
goal: grow
group: frequent
touchpoint: note
benefit: glossy
cron: "0 11 * * *"
fires: by_itself
at_most: 7
within: 7d
---
kind: rule
name: also_at_eleven
goal: back
group: gone_quiet
touchpoint: note
benefit: glossy
cron: "0 11 * * *"
fires: by_itself
within: 7d
variants:
  - {name: plain, benefit: autumn}
  - {name: shiny}
---
kind: rule
name: nobody_home
goal: grow
group: nobody
touchpoint: note
benefit: autumn
cron: "0 11 * * *"
fires: by_itself
---
kind: holdout
name: untouched
share: 0.2
"""


@pytest.fixture
def ruled(planned_copy: Path, growth: Any) -> Path:
    (planned_copy / "rules.yaml").write_text(RULES, encoding="utf-8")
    growth.well("apply", "-f", planned_copy / "rules.yaml", "--dir", planned_copy)
    return planned_copy


def test_rules_fire_by_themselves_once_within_what_the_day_has_left(
    ruled: Path, growth: Any, world: Any
) -> None:
    here = ("--dir", ruled)
    before = {path: path.read_bytes() for path in (ruled / "plans").rglob("*") if path.is_file()}
    noon = f"{world.plan_date}T11:00:20+02:00"
    (run,) = growth.well("rule", "fire", "--at", noon, "--json", *here).json
    assert (run["run"], run["state"], run["rules"], run["failed"]) == ("2023-10-16T0900Z", "done", 3, {})
    assert growth.well("rule", "fire", "--at", noon, "--json", *here).json == []
    folder = ruled / "rules" / run["run"]
    plan = pl.read_parquet(ruled / "plans" / world.plan_date / "assignments.parquet")
    refused = pl.read_parquet(ruled / "plans" / world.plan_date / "refusals.parquet")
    stands = plan.join(refused, on=["user", "task"], how="anti")
    mine = pl.read_parquet(folder / "assignments.parquet")
    touches = pl.read_parquet(folder / "touches.parquet")
    assert mine.height > 0
    # nobody gets more than the day allows, whoever gave it
    assert not set(mine["user"]) & set(stands["user"])
    assert stands["cost"].sum() + mine["cost"].sum() <= 25 + 1e-6
    assert stands.filter(pl.col("touchpoint") == "note").height + mine.height <= 90
    assert mine.filter(pl.col("task") == "rule.elevenses.only").height <= 7
    held = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["rules"]
    dealt = pl.read_parquet(folder / "rules.parquet")
    assert held["elevenses"]["users"] == dealt.filter(pl.col("rule") == "elevenses").height > 0
    assert held["nobody_home"]["users"] == 0
    # caps hold over plan and firings, and nothing goes out before the rule fired
    assert run["touches"] == touches.height > 0, pl.read_parquet(folder / "refusals.parquet").rows()
    assert touches["send_at"].min().isoformat() >= "2023-10-16T09:00"  # type: ignore[union-attr]
    days = pl.concat([pl.read_parquet(ruled / "plans" / world.plan_date / "touches.parquet"), touches])
    assert days["user"].is_unique().all()
    assert {path: path.read_bytes() for path in before} == before

    (told,) = growth.well("rule", "runs", "elevenses", "--json", *here).json
    assert (told["run"], told["state"], told["day"]) == (run["run"], "done", world.plan_date)
    assert told["assigned"] == held["elevenses"]["assigned"]
    # the next day, and a day that was missed is not made up for more than once
    (later,) = growth.well("rule", "fire", "--at", "2023-10-17T12:30:00+02:00", "--json", *here).json
    assert (later["day"], later["rules"]) == ("2023-10-17", 3)
    read = growth.well("rule", "read", "also_at_eleven", "--as-of", "2023-10-31", "--json", *here).json
    assert read["firings"] == 2
    assert {each["variant"] for each in read["variants"]} == {"plain", "shiny"}
    listed = {each["rule"]: each for each in growth.well("rule", "list", "--json", *here).json}
    assert listed["elevenses"]["last"]["run"] == later["run"]
    # planned anew, the day keeps what rules have given
    growth.well("plan", "--date", "2023-10-17", *here)
    given = pl.read_parquet(ruled / "rules" / later["run"] / "assignments.parquet")
    second = pl.read_parquet(ruled / "plans" / "2023-10-17" / "assignments.parquet")
    assert not set(given["user"]) & set(second["user"])
    assert given["cost"].sum() + second["cost"].sum() <= 25 + 1e-6


def test_a_rule_that_cannot_fire_keeps_no_other_from_it(ruled: Path, growth: Any) -> None:
    here = ("--dir", ruled)
    (run,) = growth.well("rule", "fire", "--at", "2024-03-01T11:00:00+01:00", "--json", *here).json
    assert run["state"] == "failed"
    assert "outside the data" in run["failed"]["elevenses"]
    assert growth.well("rule", "fire", "--at", "2024-03-01T11:00:00+01:00", "--json", *here).json == []
    (told,) = growth.well("rule", "runs", "elevenses", "--json", *here).json
    assert told["state"] == "failed"
    assert "failed" in growth.well("rule", "runs", "elevenses", *here).out
    assert "is not a date or time" in growth("rule", "fire", "--at", "noon", *here).err
