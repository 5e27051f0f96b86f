"""`growth demo`: the whole loop on the real data set, once, and once more."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
import yaml

from conflict.api import load_limits, verify
from kernel.contact import Cap, QuietHours
from kernel.definitions import parse
from kernel.work import Touchpoint
from touchpoint.api import verify_touches

#: one worker makes the demo once


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, growth: Any) -> Path:
    root = Path(tmp_path_factory.mktemp("demo"))
    ran = growth.alone("demo", "--dir", root)
    assert ran.code == 0, ran.err
    assert "written: " in ran.out
    return root


@pytest.fixture(scope="module")
def folder(demo: Path) -> Path:
    (found,) = (demo / "plans").iterdir()
    return Path(found)


def plan_of(folder: Path) -> Any:
    return json.loads((folder / "plan.json").read_text(encoding="utf-8"))


def frame(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(folder / f"{name}.parquet")


def mlflow(root: Path, query: str) -> list[tuple[Any, ...]]:
    """What MLflow's database holds, asked without MLflow."""
    with sqlite3.connect(root / "var" / "mlflow.db") as database:
        return database.execute(query).fetchall()


def definitions(root: Path, kind: str) -> list[dict[str, Any]]:
    files = sorted((root / "definitions").glob("*.yaml"))
    found = [each for file in files for each in yaml.safe_load_all(file.read_text(encoding="utf-8"))]
    return [each for each in found if each["kind"] == kind]


def state(root: Path) -> tuple[dict[str, str], int, int]:
    """Every file of the plans, and how many runs and versions there are."""
    plans = sorted(path for path in (root / "plans").rglob("*") if path.is_file())
    runs = mlflow(root, "SELECT count(*) FROM runs")[0][0]
    versions = mlflow(root, "SELECT count(*) FROM model_versions")[0][0]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in plans}, runs, versions


def test_once_more_changes_nothing(growth: Any, demo: Path) -> None:
    before = state(demo)
    assert before[1:] == (5, 3), "three models, the back-test and what is watched"
    ran = growth.alone("demo", "--dir", demo)
    assert ran.code == 0, ran.err
    assert "unchanged: " in ran.out
    assert state(demo) == before


def test_the_allocation_is_proven_and_keeps_every_limit(folder: Path) -> None:
    told = json.loads((folder / "allocation.json").read_text(encoding="utf-8"))
    assert told["status"] in ("OPTIMAL", "FEASIBLE")
    assert told["gap"] < 1e-4
    assert told["bound"] >= told["objective"] * (1 - 1e-9)
    chosen = frame(folder, "assignments")
    assert told["objective"] == pytest.approx(chosen["value"].sum(), rel=1e-9)
    assert verify(frame(folder, "candidates"), load_limits(folder / "limits.yaml"), chosen) == []


def test_the_touches_keep_every_promise(demo: Path, folder: Path) -> None:
    touches = frame(folder, "touches")
    broken = verify_touches(
        touches,
        [parse(Touchpoint, each, "test") for each in definitions(demo, "touchpoint")],
        [parse(Cap, each, "test") for each in definitions(demo, "cap")],
        [parse(QuietHours, each, "test") for each in definitions(demo, "quiet_hours")],
        None,
        None,
        ZoneInfo("America/New_York"),
        None,
    )
    assert broken == []
    assert set(touches["user"]) <= set(frame(folder, "assignments")["user"])


def test_the_totals_are_those_of_the_files(folder: Path) -> None:
    totals, chosen = plan_of(folder)["totals"], frame(folder, "assignments")
    assert totals["assigned"] == chosen.height > 100
    assert totals["candidates"] == frame(folder, "candidates").height
    assert totals["touches"] == frame(folder, "touches").height
    assert totals["refused"] == frame(folder, "refusals").height
    assert totals["touches"] + totals["refused"] == totals["assigned"]
    for total, column in (("cost", "cost"), ("gain", "gain"), ("value", "value"), ("responses", "response")):
        assert totals[total] == pytest.approx(chosen[column].sum(), rel=1e-9)
    assert totals["value"] == pytest.approx(totals["gain"] - totals["cost"], rel=1e-9)
    tasks, goals = frame(folder, "tasks"), plan_of(folder)["goals"]
    assert sum(goal["assigned"] for goal in goals) == tasks["assigned"].sum() == chosen.height


def test_everyone_is_in_exactly_one_cell(demo: Path, folder: Path) -> None:
    cells, profiles = frame(folder, "cells"), frame(folder, "profiles")
    assert cells["user"].is_unique().all()
    assert cells.height == plan_of(folder)["totals"]["users"] == profiles["size"].sum()
    assert set(cells["cell"]) == set(profiles["cell"])
    known = pl.read_parquet(demo / "journey" / "transactions.parquet", columns=["household_id"])
    assert set(cells["user"]) <= set(known["household_id"])


def test_the_models_are_champions_in_mlflow(demo: Path, folder: Path) -> None:
    champions = mlflow(demo, "SELECT name, version FROM registered_model_aliases WHERE alias = 'champion'")
    assert {name for name, _ in champions} == {"response", "spend", "churn"}
    used = {(each["name"], each["version"]) for each in plan_of(folder)["models"]}
    assert used == {(name, int(version)) for name, version in champions}


def test_the_model_beats_rfm_in_the_back_test(demo: Path, folder: Path) -> None:
    figures = dict(
        mlflow(
            demo,
            "SELECT m.key, m.value FROM latest_metrics m JOIN runs r ON r.run_uuid = m.run_uuid"
            " WHERE r.name = 'back-test'",
        )
    )
    assert figures["lift_model_low"] > figures["lift_rfm"] > 1.0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert re.search("back-?test", page, re.IGNORECASE)
    assert f"{figures['lift_model']:.2f}" in page
    assert f"{figures['lift_rfm']:.2f}" in page


def test_the_touches_are_delivered_receipted_and_fed_back(growth: Any, demo: Path, folder: Path) -> None:
    told = json.loads((folder / "delivery.json").read_text(encoding="utf-8"))
    touches = frame(folder, "touches")
    sent = {each["channel"]: each["states"] for each in told["channels"]}
    planned = dict(touches.group_by("channel").len().iter_rows())
    assert {channel: sum(states.values()) for channel, states in sent.items()} == planned
    assert all(set(states) <= {"accepted", "refused"} for states in sent.values())
    letters = [
        row
        for path in (demo / "var" / "outbox" / "printers" / "2017-10-16").glob("*.mail.*.csv")
        for row in pl.read_csv(path).iter_rows(named=True)
    ]
    assert len(letters) == sent["mail"]["accepted"]
    assert all("{" not in row["text"] for row in letters)
    phones = (demo / "var" / "outbox" / "phones" / "push.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(phones) == sent["push"]["accepted"]
    with sqlite3.connect(demo / "var" / "growth.db") as database:
        events = dict(database.execute("SELECT name, count(*) FROM fresh_events GROUP BY name").fetchall())
        reasons = [reason for (reason,) in database.execute("SELECT reason FROM suppressions")]
    receipts: dict[str, int] = {}
    for each in told["channels"]:
        for kind, count in each["receipts"].items():
            receipts[f"touch_{kind}"] = receipts.get(f"touch_{kind}", 0) + count
    assert events == receipts
    assert reasons.count("unsubscribed") == receipts["touch_unsubscribed"]
    assert "What became of the touches" in (folder / "report.html").read_text(encoding="utf-8")
    assert growth.well("outbox", "--json", "--dir", demo).json["receipts"] == {
        each["channel"]: each["receipts"] for each in told["channels"]
    }
