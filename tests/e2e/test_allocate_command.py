"""`growth allocate` as it is installed: curves, stop rules, soft limits, contradictions, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from conflict.api import load_limits, verify

COMMAND = [sys.executable, "-c", "from engine.cli.main import main; main()"]


def _lay_out(folder: Path, users: int, limits: str) -> tuple[Path, Path]:
    rng = np.random.default_rng(2)
    task = np.tile(np.arange(8), users)
    frame = pl.DataFrame(
        {
            "user": np.repeat(np.arange(users), 8),
            "task": task,
            "value": rng.lognormal(0, 0.7, task.size),
            "cost": rng.uniform(0.5, 2.0, task.size),
        }
    )
    frame.write_parquet(folder / "c.parquet")
    (folder / "l.yaml").write_text(limits, encoding="utf-8")
    return folder / "c.parquet", folder / "l.yaml"


SMALL = """\
limits:
  - {name: money, sum: cost, at_most: 30}
  - {name: some, where: {task: 3}, at_least: 5, at_most: 20}
"""


def test_a_curve_on_the_terminal_in_json_and_in_files(growth: Any, tmp_path: Path) -> None:
    files = _lay_out(tmp_path, 60, SMALL)
    out = tmp_path / "out"
    words = ("allocate", *files, "--sweep", "money=10:60:3", "--sweep", "at_least:some=5:15:2", "--out", out)
    found = growth.well(*words, "--json").json
    rows = found["sweep"]
    assert [(row["limit"], row["at"]) for row in rows] == [
        ("money", 10.0), ("money", 35.0), ("money", 60.0), ("some", 5.0), ("some", 15.0),
    ]  # fmt: skip
    money = [row["objective"] for row in rows if row["limit"] == "money"]
    assert money == sorted(money)
    assert rows[0]["objective"] < found["objective"] < rows[2]["objective"]
    assert rows[3]["objective"] == pytest.approx(found["objective"])
    assert rows[4]["objective"] <= rows[3]["objective"]
    written = json.loads((out / "sweep.json").read_text(encoding="utf-8"))
    assert [row["objective"] for row in written] == [row["objective"] for row in rows]
    assert pl.read_parquet(out / "sweep.parquet")["at"].to_list() == [row["at"] for row in rows]
    told = growth.well(*words).out
    assert "money at most" in told
    assert "some at least" in told
    assert "OPTIMAL" in told


def test_a_point_that_cannot_be_says_so_and_the_curve_goes_on(growth: Any, tmp_path: Path) -> None:
    files = _lay_out(tmp_path, 60, SMALL)
    rows = growth.well("allocate", *files, "--sweep", "money=2:30:2", "--json").json["sweep"]
    assert [row["status"] for row in rows] == ["INFEASIBLE", "OPTIMAL"]
    assert rows[0]["objective"] is rows[0]["price"] is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--sweep", "money=10:60"), ("--sweep", "'money=10:60'", "NAME=FROM:TO:POINTS")),
        (("--sweep", "mony=10:60:3"), ("--sweep", "'mony'", "did you mean 'money'")),
        (("--sweep", "some=1:9:3"), ("--sweep", "at_most:some")),
        (("--rounds", "0"), ("Rounds", "0")),
        (("--stall", "-1"), ("Stalled", "-1")),
    ],
)
def test_options_that_make_no_sense(
    growth: Any, tmp_path: Path, words: tuple[str, ...], told: tuple[str, ...]
) -> None:
    files = _lay_out(tmp_path, 20, SMALL)
    ran = growth("allocate", *files, *words, "--out", tmp_path / "out")
    assert ran.code == 2
    assert "Traceback" not in ran.err
    assert all(word in ran.err for word in told), ran.err
    assert not (tmp_path / "out").exists()


def test_a_contradiction_names_its_least_relaxation(growth: Any, tmp_path: Path) -> None:
    limits = "limits:\n  - {name: money, sum: cost, at_most: 2}\n  - {name: many, at_least: 9}\n"
    files = _lay_out(tmp_path, 20, limits)
    out = tmp_path / "out"
    ran = growth("allocate", *files, "--out", out)
    assert ran.code == 2
    assert "these cannot hold together: money, many; loosen " in ran.err
    found = json.loads((out / "allocation.json").read_text(encoding="utf-8"))
    assert found["status"] == "INFEASIBLE"
    assert set(found["conflicting"]) == {"money", "many"}
    assert found["relaxation"]
    assert all(f"loosen {name} by" in ran.err for name in found["relaxation"])


def test_a_soft_limit_tells_what_passing_it_costs(growth: Any, tmp_path: Path) -> None:
    limits = "limits:\n  - {name: calls, where: {task: 1}, at_most: 2, penalty: 0.25}\n"
    files = _lay_out(tmp_path, 40, limits)
    found = growth.well("allocate", *files, "--json").json
    (use,) = found["limits"]
    assert use["passed"] == use["used"] - 2 > 0
    chosen = growth.well("allocate", *files, "--out", tmp_path / "out", "--json")
    value = pl.read_parquet(tmp_path / "out" / "assignments.parquet")["value"].sum()
    assert chosen.json["objective"] == pytest.approx(value - 0.25 * use["passed"])
    told = growth.well("allocate", *files).out
    assert "passed by" in told
    assert f"{0.25 * use['passed']:,.6g}" in told


HARD = """\
per_user: {max_tasks: 3}
limits:
""" + "".join(
    f"  - {{name: budget{task}, sum: cost, where: {{task: {task}}}, at_most: {300 + 37 * task}.37}}\n"
    for task in range(8)
)


def _children(process: int) -> list[int]:
    """Processes begun by one, and theirs."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ProcessLookupError):
                continue
            if parent == process:
                found += [int(entry.name), *_children(int(entry.name))]
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are counted by /proc")
def test_ctrl_c_ends_with_the_best_so_far(tmp_path: Path) -> None:
    files = _lay_out(tmp_path, 4_000, HARD)
    out = tmp_path / "out"
    words = [*COMMAND, "allocate", *map(str, files), "--out", str(out), "--json",
             "--gap", "0", "--time-limit", "300"]  # fmt: skip
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        # the solver's process starts when there is a choice to better
        end = time.monotonic() + 120
        while not _children(running.pid) and running.poll() is None and time.monotonic() < end:
            time.sleep(0.2)
        children = _children(running.pid)
        assert children
        time.sleep(1.0)
        running.send_signal(signal.SIGINT)
        told, complained = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 0, complained
    assert "Traceback" not in complained
    found = json.loads(told)
    assert found["status"] == "FEASIBLE"
    assert found["method"]["interrupted"] is True
    assert found["gap"] >= 0
    assert json.loads((out / "allocation.json").read_text(encoding="utf-8"))["status"] == "FEASIBLE"
    frame, limits = pl.read_parquet(files[0]), load_limits(files[1])
    assert verify(frame, limits, pl.read_parquet(out / "assignments.parquet")) == []
    assert not [child for child in children if _runs(child)]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are counted by /proc")
def test_a_second_ctrl_c_aborts_and_leaves_no_solver_behind(tmp_path: Path) -> None:
    files = _lay_out(tmp_path, 4_000, HARD)
    words = [*COMMAND, "allocate", *map(str, files), "--gap", "0", "--time-limit", "300"]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 120
        while not _children(running.pid) and running.poll() is None and time.monotonic() < end:
            time.sleep(0.2)
        children = _children(running.pid)
        assert children
        running.send_signal(signal.SIGINT)
        time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        _, complained = running.communicate(timeout=60)
    finally:
        running.kill()
    # 0 where all was done before the second one came; by the signal where Python was about to end
    assert running.returncode in {0, 130, -signal.SIGINT}
    assert "Traceback" not in complained
    end = time.monotonic() + 10
    while any(_runs(child) for child in children) and time.monotonic() < end:
        time.sleep(0.2)
    assert not [child for child in children if _runs(child)]


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
