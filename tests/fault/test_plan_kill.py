"""A day's plan killed as each of its steps ends, and in the middle of going out: it comes out the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def killing(folder: Path, kills: int) -> dict[str, Any]:
    words = ["-m", "benchmarks.plan_killing", folder, 30, kills, 1, 3, 300]
    ran = subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def test_a_plan_killed_at_each_step_comes_out_as_if_it_never_was(tmp_path: Path) -> None:
    found = killing(tmp_path, 0)
    names = [each["step"] for each in found["steps"]]
    assert {"snapshot", "scores", "cells", "groups", "candidates", "allocation", "touches"} < set(names)
    assert found["died"] == [
        *([name, "done"] for name in names[:-1]), ["publication", "running"], ["publication", "done"]
    ]  # fmt: skip
    assert found["differs"] == []
    last, *earlier = found["runs"]
    assert last["state"] == "done"
    assert {each["why"] for each in earlier} == {"it was interrupted"}
    kept = [each["step"] for each in last["steps"] if each["state"] == "kept"]
    assert kept == [name for name in names if name not in ("snapshot", "publication")]
    assert all(each["rows"] >= 0 and each["seconds"] >= 0 for each in last["steps"])
