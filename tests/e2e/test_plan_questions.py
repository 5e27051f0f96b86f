"""What one asks of a plan, by the command: why, what if, at which cost, since when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest


def plan_of(root: Path, day: str) -> Any:
    return json.loads((root / "plans" / day / "plan.json").read_text(encoding="utf-8"))


def test_what_other_limits_would_bring(planned: Path, growth: Any, world: Any) -> None:
    here = ("--dir", planned, "--json")
    before = plan_of(planned, world.plan_date)
    money = next(each for each in before["allocation"]["limits"] if each["name"] == "money")
    more = money["at_most"] * 1.2
    found = growth.well("plans", "what-if", world.plan_date, "--limit", f"money={more}", *here).json
    # within 0.01 % of the best, proven; on a busy machine 0.1 % will do after two seconds
    assert found["status"] in ("OPTIMAL", "FEASIBLE")
    assert 0 <= found["gap"] <= 1e-3
    slack = found["gap"] * found["totals"]["value"]
    assert found["before"]["value"] == pytest.approx(before["totals"]["value"], abs=1e-4)
    # a price is what one more unit brings, so it bounds what many bring
    gained = found["difference"]["value"]
    assert 0 < gained <= money["price"] * (more - money["at_most"]) + slack + 1e-6
    assert plan_of(planned, world.plan_date) == before
    points = growth.well(
        "plans", "curve", world.plan_date, "--limit", f"money={money['at_most']}:{more}:3", *here
    ).json
    assert points[0]["objective"] == pytest.approx(before["totals"]["value"], rel=1e-3)
    assert points[-1]["objective"] == pytest.approx(found["totals"]["value"], rel=2e-3)
    for words, said in (
        (("--limit", "gold=3"), "unknown limit"),
        (("--limit", "money"), "is not LIMIT=NUMBER"),
        (("--limit", "money=-1"), "money"),
        (("--limit", "back_volume.at_least=100000"), "cannot hold together"),
    ):
        ran = growth("plans", "what-if", world.plan_date, *words, "--dir", planned)
        assert (ran.code, ran.out) == (2, ""), words
        assert said in ran.err
    ran = growth("plans", "what-if", "2023-01-01", "--limit", "money=3", "--dir", planned)
    assert ran.code == 2
    assert "unknown plan" in ran.err


def test_why_she_got_this(planned: Path, growth: Any, world: Any) -> None:
    folder = planned / "plans" / world.plan_date
    given = pl.read_parquet(folder / "assignments.parquet")
    candidates = pl.read_parquet(folder / "candidates.parquet")
    prices = {
        each["name"]: each["price"] for each in plan_of(planned, world.plan_date)["allocation"]["limits"]
    }
    lucky = given.row(0, named=True)
    found = growth.well("plans", "explain", world.plan_date, lucky["user"], "--dir", planned, "--json").json
    assert found["given"] == [lucky["task"]]
    assert len(found["candidates"]) == candidates.filter(pl.col("user") == lucky["user"]).height
    best = next(each for each in found["candidates"] if each["chosen"])
    assert best["adjusted"] == pytest.approx(best["value"] - sum(best["pays"].values()))
    assert best["pays"].get("money", 0.0) == pytest.approx(prices["money"] * best["cost"])
    others = candidates.join(given, on="user", how="anti")["user"].unique().sort()
    unlucky = growth.well("plans", "explain", world.plan_date, others[0], "--dir", planned, "--json").json
    assert unlucky["given"] == []
    assert all(not each["chosen"] and each["why"] for each in unlucky["candidates"])
    assert "gets nothing" in growth.well("plans", "explain", world.plan_date, others[0], "--dir", planned).out
    ran = growth("plans", "explain", world.plan_date, "nobody", "--dir", planned)
    assert ran.code == 2
    assert "unknown user" in ran.err


def test_what_goals_cost_each_other_and_what_changed(planned_copy: Path, growth: Any, world: Any) -> None:
    here = ("--dir", planned_copy, "--json")
    found = {each["goal"]: each for each in growth.well("plans", "goals", world.plan_date, *here).json}
    assert set(found) == {"back", "grow"}
    total = plan_of(planned_copy, world.plan_date)["totals"]["value"]
    for each in found.values():
        assert each["value"] + each["others_with"] == pytest.approx(total, abs=1e-3)
        assert each["costs_others"] >= -1e-3
    growth.well("plan", "--date", world.next_date, "--dir", planned_copy)
    listed = growth.well("plans", "list", *here).json
    assert {each["date"] for each in listed} == {world.plan_date, world.next_date}
    changed = growth.well("plans", "diff", world.plan_date, world.next_date, *here).json
    was, now = (plan_of(planned_copy, day) for day in (world.plan_date, world.next_date))
    assert changed["totals"]["assigned"]["after"] == now["totals"]["assigned"]
    assert changed["totals"]["assigned"]["before"] == was["totals"]["assigned"]
    both = changed["users"]["both"] + changed["users"]["only_after"]
    assert (
        both
        == pl.read_parquet(planned_copy / "plans" / world.next_date / "assignments.parquet")[
            "user"
        ].n_unique()
    )
