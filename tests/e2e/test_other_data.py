"""The whole loop by the command line on another data set: other tables, other columns, text ids."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from conflict.api import load_limits, verify

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("kernel", "insight", "models", "planner", "conflict", "touchpoint", "realtime", "storage")
PROMISED = ("tasks.parquet", "assignments.parquet", "touches.parquet", "plan.json", "report.html",
            "allocation.json", "candidates.parquet", "limits.yaml")  # fmt: skip
GROUP = """\
kind: group
name: kiel_regulars
entity: user
where:
  all:
    - {field: user.town, op: eq, value: Kiel}
    - {event: visit, agg: count, within: 90d, op: ge, value: 3}
"""


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def plan_of(folder: Path) -> Any:
    return json.loads((folder / "plan.json").read_text(encoding="utf-8"))


def test_doctor_finds_what_is_well_and_what_is_not_done_yet(growth: Any, applied: Path) -> None:
    ran = growth("doctor", "--dir", applied, "--json")
    well = {each["what"]: each["well"] for each in ran.json}
    assert (ran.code, well) == (
        1,
        {
            "settings": True,
            "catalog": True,
            "database": True,
            "definitions": True,
            "models": False,
            "forgetting": True,
            "monitoring": True,
            "journals": True,
        },
    )
    said = {each["what"]: each["said"] for each in ran.json}
    assert "growth train" in said["models"]


def test_doctor_is_content_with_a_workspace_that_has_planned(growth: Any, planned: Path) -> None:
    assert all(line.startswith("ok ") for line in growth.well("doctor", "--dir", planned).out.splitlines())


def test_applied_again_changes_nothing_nor_does_what_was_exported(
    growth: Any, applied: Path, tmp_path: Path
) -> None:
    for path in (applied / "definitions", tmp_path / "out"):
        found = growth.well("apply", "-f", path, "--dir", applied, "--json").json
        assert {each["outcome"] for each in found} == {"unchanged"}
        assert len(found) == 20
        growth.well("export", "--out", tmp_path / "out", "--dir", applied)
    assert (tmp_path / "out" / "goal" / "grow.yaml").is_file()


def test_an_estimate_counts_the_same_by_name_and_by_file(
    growth: Any, applied: Path, world: Any, tmp_path: Path
) -> None:
    file = tmp_path / "group.yaml"
    file.write_text(GROUP, encoding="utf-8")
    at = ("--as-of", world.plan_date, "--dir", applied, "--json")
    by_file = growth.well("estimate", "-f", file, *at).json
    assert set(by_file) == {"count", "low", "high", "method", "ms"}
    assert 0 < by_file["low"] <= by_file["count"] <= by_file["high"] < 320
    growth.well("select", "frequent", "--out", tmp_path / "f.csv", *at)
    by_name = growth.well("estimate", "frequent", *at).json
    assert by_name["count"] == pl.read_csv(tmp_path / "f.csv").height


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_selected_audience_is_in_the_users_own_ids(
    growth: Any, applied: Path, world: Any, tmp_path: Path, ending: str
) -> None:
    out = tmp_path / f"frequent.{ending}"
    growth.well("select", "frequent", "--out", out, "--as-of", world.plan_date, "--dir", applied)
    frame = pl.read_csv(out) if ending == "csv" else pl.read_parquet(out)
    assert frame.columns[0] == "card"
    assert frame["card"].str.contains(r"^c-\d{4}$").all()
    assert frame["card"].is_unique().all()
    manifest = json.loads((tmp_path / "frequent.manifest.json").read_text(encoding="utf-8"))
    assert manifest["count"] == frame.height > 0
    assert manifest["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()


def test_training_again_learns_nothing_new(growth: Any, planned: Path, world: Any) -> None:
    found = growth.well("train", "--as-of", world.plan_date, "--dir", planned, "--json").json
    assert [(each["name"], each["version"], each["new"]) for each in found] == [
        ("turnover", 1, False),
        ("leaving", 1, False),
        ("answers", 1, False),
    ]
    answers = found[-1]
    assert answers["alias"] == "champion", "who visits often answers often: that must be found"
    assert answers["metrics"]["auc_low"] > 0.6


def test_planning_again_changes_no_byte(growth: Any, planned: Path, world: Any) -> None:
    before = hashes(planned / "plans" / world.plan_date)
    assert set(PROMISED) <= set(before)
    out = growth.well("plan", "--date", world.plan_date, "--dir", planned).out
    assert "unchanged: " in out
    assert hashes(planned / "plans" / world.plan_date) == before


def test_the_plan_made_from_nothing_again_is_the_same(
    planned: Path, make_plan: Any, world: Any, tmp_path: Path
) -> None:
    one = planned / "plans" / world.plan_date
    two = make_plan(tmp_path / "club") / "plans" / world.plan_date
    for name in ("tasks", "candidates", "assignments", "touches", "cells"):
        assert_frame_equal(pl.read_parquet(one / f"{name}.parquet"), pl.read_parquet(two / f"{name}.parquet"))
    first, second = plan_of(one), plan_of(two)
    assert first["inputs"] == second["inputs"]
    assert first["totals"] == second["totals"]


def test_the_plan_keeps_its_own_limits_and_adds_up(planned: Path, world: Any) -> None:
    folder = planned / "plans" / world.plan_date
    candidates, chosen, touches = (
        pl.read_parquet(folder / f"{name}.parquet") for name in ("candidates", "assignments", "touches")
    )
    assert verify(candidates, load_limits(folder / "limits.yaml"), chosen) == []
    totals = plan_of(folder)["totals"]
    assert totals["assigned"] == chosen.height > 20
    assert totals["touches"] == touches.height > 0
    assert totals["touches"] + totals["refused"] == totals["assigned"]
    for name in ("cost", "gain", "value"):
        assert totals[name] == pytest.approx(chosen[name].sum(), rel=1e-9)
    assert chosen.filter(goal="back").height >= 5
    assert chosen["cost"].sum() <= 25 + 1e-6
    assert set(chosen["user"]) <= set(pl.read_parquet(folder / "cells.parquet")["user"])


def test_nobody_is_touched_without_consent(planned: Path, world: Any) -> None:
    with duckdb.connect(str(planned / "club.duckdb"), read_only=True) as database:
        refused = {
            card for (card,) in database.sql("FROM members SELECT card WHERE NOT newsletter").fetchall()
        }
    folder = planned / "plans" / world.plan_date
    assert refused & set(pl.read_parquet(folder / "assignments.parquet")["user"]), "else nothing is tested"
    assert not refused & set(pl.read_parquet(folder / "touches.parquet")["user"])


def test_allocate_reproduces_the_plan_from_its_files(
    growth: Any, planned: Path, world: Any, tmp_path: Path
) -> None:
    folder = planned / "plans" / world.plan_date
    files = (folder / "candidates.parquet", folder / "limits.yaml")
    found = growth.well("allocate", *files, "--out", tmp_path / "again", "--seed", 11, "--json").json
    told = json.loads((folder / "allocation.json").read_text(encoding="utf-8"))
    assert found["status"] == told["status"] == "OPTIMAL"
    assert found["objective"] == pytest.approx(told["objective"], rel=1e-6)
    again = pl.read_parquet(tmp_path / "again" / "assignments.parquet")
    assert verify(pl.read_parquet(files[0]), load_limits(files[1]), again) == []
    assert again["value"].sum() == pytest.approx(told["objective"], rel=1e-6)


def test_the_next_day_is_planned_around_the_first(growth: Any, planned: Path, world: Any) -> None:
    growth.well("plan", "--date", world.next_date, "--dir", planned)
    one, two = (
        pl.read_parquet(planned / "plans" / day / "touches.parquet")
        for day in (world.plan_date, world.next_date)
    )
    assert not set(one["user"]) & set(two["user"]), "one touch a week: nobody is reached on both days"


def test_the_next_day_keeps_the_clusters_and_tells_what_moved(growth: Any, planned: Path, world: Any) -> None:
    growth.well("plan", "--date", world.next_date, "--dir", planned)
    one, two = (
        json.loads((planned / "plans" / day / "plan.json").read_text())
        for day in (world.plan_date, world.next_date)
    )
    assert one["cell_drift"] is None
    moved = two["cell_drift"]
    assert moved["since"] == world.plan_date
    assert set(moved["psi"]) == {"stage", "cluster", "tier", "cell"}
    # one more day of shopping moves a few people, not the centres
    assert 0 < max(moved["psi"].values()) < 0.1
    assert moved["new"] == moved["gone"] == []
    assert max(moved["shift"].values()) < 0.5
    assert (
        f"Since the plan of {world.plan_date}"
        in (planned / "plans" / world.next_date / "report.html").read_text()
    )
    kept = planned / "plans" / world.plan_date / "clusters.json"
    whole = kept.read_text()
    kept.write_text("{")
    try:
        refused = growth("plan", "--date", world.next_date, "--dir", planned)
        assert refused.code == 2
        assert f"{kept}: clusters" in refused.err
    finally:
        kept.write_text(whole)
    assert "unchanged" in growth.well("plan", "--date", world.next_date, "--dir", planned).out


def test_no_room_knows_the_demo() -> None:
    known = re.compile(r"journey|household_|campaign_|basket_id|coupon_upc|sales_value", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if known.search(line)
    ]
    assert found == []
