"""A holdout in the daily plan: who is left out, what is kept of it, how it is read, and what watches."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest

MEASURING = """
kind: holdout
name: untouched
share: 0.3
---
kind: uplift
name: autumn_effect
goal: grow
benefit: autumn
within: 7d
history: [14d, 56d]
"""


@pytest.fixture(scope="module")
def measured(planned: Path, growth: Any, world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workspace with its plan, and the next day's with a holdout."""
    root = tmp_path_factory.mktemp("measured") / "club"
    subprocess.run(["cp", "-a", "--sparse=always", planned, root], check=True)
    (root / "measuring.yaml").write_text(MEASURING, encoding="utf-8")
    growth.well("apply", "-f", root / "measuring.yaml", "--dir", root)
    growth.well("plan", "--date", world.next_date, "--dir", root)
    return root


def test_the_held_out_get_nothing_and_what_was_meant_for_them_is_kept(
    measured: Path, growth: Any, world: Any
) -> None:
    before = json.loads((measured / "plans" / world.plan_date / "plan.json").read_text(encoding="utf-8"))
    assert not {"held_out", "valued"} & set(before)
    folder = measured / "plans" / world.next_date
    told = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    (held,) = told["held_out"]
    assert held["why"] == "holdout untouched"
    meant = pl.read_parquet(folder / "intended.parquet")
    kept = set(meant.drop_nulls("why")["user"])
    assert len(kept) == held["users"] > 20
    for name in ("candidates", "assignments", "touches"):
        assert not kept & set(pl.read_parquet(folder / f"{name}.parquet")["user"])
    assert meant["user"].is_unique().all()
    assert (meant["worth"] > 0).all()
    assert {each["by"] for each in told["valued"]} == {"assumption"}
    # of the assigned, those whom no minimum volume forced in got what was meant for them
    pairs = pl.read_parquet(folder / "assignments.parquet").join(meant, on="user", suffix="_meant")
    assert (pairs["task"] == pairs["task_meant"]).mean() > 0.7
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "holdout untouched" in report
    assert "has not been learned by then" in report

    again = growth.well("plan", "--date", world.next_date, "--json", "--dir", measured).json
    assert not again["new"]


def test_plans_are_read_against_the_holdout(measured: Path, growth: Any, world: Any) -> None:
    days = f"{world.next_date}..{world.next_date}"
    read = ("experiment", "read", "--plan", days, "--within", "7d", "--before", "28d", "--dir", measured)
    told = growth.well(*read, "--json", "--out", measured / "read.parquet").json
    assert told["plans"] == 1
    whole = told["subjects"][0]
    assert whole["experiment"] == "all_plans"
    profit, spend, _ = whole["lines"]
    assert [each["metric"] for each in whole["lines"]] == ["profit", "spend", "bought"]
    assert profit["decides"]
    folder = measured / "plans" / world.next_date
    meant = pl.read_parquet(folder / "intended.parquet")
    assert (spend["users"], spend["users_holdout"]) == (
        meant["why"].null_count(),
        meant.height - meant["why"].null_count(),
    )
    # by hand: what was spent in the week after, by those who were meant to get something
    names = {each["experiment"] for each in told["subjects"]}
    assert {"grow", "grow_autumn"} & names
    assert pl.read_parquet(measured / "read.parquet")["subject"].n_unique() == len(told["subjects"])
    assert "against held_out" in growth.well(*read).out

    for words, said in (
        (("experiment", "read", "--dir", measured), "give one of the NAME"),
        (("experiment", "read", "--plan", "2023-10-17..2023-10-16", "--dir", measured), "ends before"),
        (("experiment", "read", "--plan", world.plan_date, "--dir", measured), "no plan that held anybody"),
        (("experiment", "read", "--plan", "tuesday", "--dir", measured), "--plan = 'tuesday'"),
        (
            ("experiment", "read", "--plan", days, "--outcomes", "x.csv", "--dir", measured),
            "does not go with --plan",
        ),
    ):
        ran = growth(*words)
        assert (ran.code, ran.out) == (2, "")
        assert said in ran.err


def test_what_cannot_be_learned_yet_is_said_and_the_rest_is_learned(
    measured: Path, growth: Any, world: Any
) -> None:
    ran = growth.well("train", "--as-of", world.next_date, "--dir", measured)
    assert "autumn_effect is not learned" in ran.err
    assert "turnover" in ran.out


def test_the_day_is_watched_and_told(measured: Path, growth: Any, world: Any) -> None:
    kept = measured / "var" / "monitoring"
    assert [path.stem for path in kept.glob("*.json")] == [world.plan_date, world.next_date]
    told = growth.well("monitor", "--as-of", "2023-10-30", "--json", "--dir", measured).json
    assert json.loads((kept / "2023-10-30.json").read_text(encoding="utf-8")) == told
    assert {each["model"] for each in told["models"]} >= {"answers", "turnover", "leaving"}
    assert all(each["looks"] > 5 for each in told["models"])
    assert told["alarm"] == bool(told["alarms"])
    shown = growth.well("monitor", "--as-of", "2023-10-30", "--dir", measured).out
    assert ("nothing has moved" in shown) == (not told["alarms"])
    doctor = growth("doctor", "--dir", measured)
    assert "monitoring" in doctor.out
    assert "2023-10-30" in doctor.out
    ran = growth("monitor", "--as-of", "2031-01-01", "--dir", measured)
    assert ran.code == 2
    assert "--as-of" in ran.err
