"""Operational rules: tried, fired within the plan, recorded, read, tuned and undone, by the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

RULES = """
kind: rule
name: nudge
goal: grow
group: frequent
touchpoint: note
benefit: autumn
cron: "0 10 * * *"
at_most: 12
within: 7d
variants:
  - {name: plain}
  - {name: shiny, benefit: glossy}
tuning: {least: 0.2, step: 0.1}
---
kind: rule
name: mondays
goal: back
group: gone_quiet
touchpoint: letter
benefit: autumn
cron: "0 8 * * mon"
---
kind: rule
name: quiet_towns
goal: grow
group: nobody
touchpoint: note
benefit: autumn
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


def test_a_rule_is_tried_fired_read_tuned_and_undone(ruled: Path, growth: Any, world: Any) -> None:
    here = ("--dir", ruled)
    plan = ruled / "plans" / world.next_date / "plan.json"
    before = plan.read_bytes() if plan.exists() else None
    tried = growth.well("rule", "try", "nudge", "--date", world.next_date, "--json", *here).json
    assert tried["users"] > 20
    assert 0 < tried["assigned"] <= 12
    assert tried["held_out"] > 0
    assert (plan.read_bytes() if plan.exists() else None) == before
    none = growth.well("rule", "try", "quiet_towns", "--date", world.next_date, "--json", *here).json
    assert (none["users"], none["assigned"]) == (0, 0)

    growth.well("plan", "--date", world.next_date, *here)  # a Tuesday
    folder = ruled / "plans" / world.next_date
    told = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    assert set(told["rules"]) == {"nudge", "quiet_towns"}
    given = pl.read_parquet(folder / "assignments.parquet")
    mine = given.filter(pl.col("task").str.starts_with("rule.nudge."))
    assert mine.height == told["rules"]["nudge"]["assigned"] <= 12
    assert given["user"].is_unique().all()  # at most one task a user, the rule's among them
    dealt = pl.read_parquet(folder / "rules.parquet")
    assert dealt.filter(pl.col("rule") == "nudge").height == tried["users"]
    both = mine.join(dealt, on="user")
    assert (both["task"] == "rule.nudge." + both["variant"]).all()
    assert set(both["benefit"].unique()) <= {"autumn", "glossy"}
    limits = {each["name"]: each for each in told["allocation"]["limits"]}
    assert limits["rule.nudge.volume"]["used"] == mine.height
    assert not growth.well("plan", "--date", world.next_date, "--json", *here).json["new"]

    (run,) = growth.well("rule", "runs", "nudge", "--json", *here).json
    assert (run["day"], run["assigned"]) == (world.next_date, mine.height)
    listed = {each["rule"]: each for each in growth.well("rule", "list", "--json", *here).json}
    assert listed["mondays"]["last"] is None
    assert listed["nudge"]["shares"] == {"plain": 0.5, "shiny": 0.5}

    read = growth.well("rule", "read", "nudge", "--as-of", "2023-10-31", "--json", *here).json
    assert read["users"] == read["mature"] == tried["users"]
    held = pl.read_parquet(folder / "intended.parquet").drop_nulls("why")["user"]
    reachable = sum(each["users"] for each in read["variants"])
    assert 0.6 * tried["users"] < reachable <= tried["users"] - held.is_in(dealt["user"].implode()).sum()
    assert read["cost"] == pytest.approx(mine["cost"].sum(), abs=0.5)
    assert "added outcomes" in growth.well("rule", "read", "nudge", "--as-of", "2023-10-31", *here).out

    (made,) = growth.well("rule", "tune", "nudge", "--as-of", "2023-10-31", "--json", *here).json
    assert sum(made["after"]["shares"].values()) == pytest.approx(1)
    assert all(0.4 - 1e-9 <= share <= 0.6 + 1e-9 for share in made["after"]["shares"].values())
    assert made["evidence"]["as_of"].startswith("2023-10-30T23:00")
    again = growth.well("rule", "tune", "nudge", "--as-of", "2023-10-31", "--json", *here).json
    assert again == []
    growth.well("rule", "undo", made["number"], *here)
    listed = {each["rule"]: each for each in growth.well("rule", "list", "--json", *here).json}
    assert listed["nudge"]["shares"] == {"plain": 0.5, "shiny": 0.5}
    assert "is undone" in growth("rule", "undo", made["number"], *here).err

    growth.well("rule", "off", "nudge", "--because", "enough", *here)
    growth.well("plan", "--date", world.next_date, *here)
    told = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    assert set(told["rules"]) == {"quiet_towns"}
    assert growth.well("rule", "runs", "nudge", "--json", *here).json == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"group: frequent": "group: nobodies"}, "group = 'nobodies'"),
        ({'"0 10 * * *"': '"0 25 * * *"'}, "cron"),
        ({"benefit: glossy}": "benefit: gold}"}, "variants.shiny.benefit"),
        ({"tuning: {least: 0.2": "tuning: {least: 0.6"}, "least"),
        ({"touchpoint: note": "touchpoint: fax"}, "touchpoint = 'fax'"),
    ],
)  # fmt: skip
def test_a_rule_that_does_not_fit_is_one_sentence(
    applied: Path, growth: Any, tmp_path: Path, changed: dict[str, str], said: str
) -> None:
    text = RULES
    for old, new in changed.items():
        assert old in text
        text = text.replace(old, new, 1)
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    ran = growth("apply", "-f", tmp_path / "bad.yaml", "--dir", applied)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


def test_what_no_rule_is(applied: Path, growth: Any) -> None:
    for words in (("runs", "no"), ("read", "no"), ("tune", "no"), ("off", "no"), ("undo", "99")):
        ran = growth("rule", *words, "--dir", applied)
        assert ran.code == 2, words
        assert "unknown" in ran.err
