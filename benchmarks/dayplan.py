"""A whole `growth plan`: every step of a day of a shop with a hundred events a user and fifty tasks."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.case import Case, Line
from benchmarks.dayplan_world import PLAN_DATE, lay_out

#: users whose events the models learn from: they know no more from more of the same
_LEARNS = 10_000
#: part of the money by which the what-if asks for more
_MORE = 1.1
#: users up to which all is done in one process, for the tests
_TOGETHER = 1_000
#: a 5 written here sets the mark of most memory back
_MARK = Path("/proc/self/clear_refs")


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size` users: laid out, learned from, planned, asked; each in a process of its own."""
    root = Path(tempfile.mkdtemp(prefix="growth-day-")) / "shop"
    try:
        began = time.perf_counter()
        events = lay_out(root, size, seed)
        laid = time.perf_counter() - began
        apart = size > _TOGETHER
        learned, planned, asked = (_child(each, root, apart) for each in ("learn", "plan", "ask"))
    finally:
        shutil.rmtree(root.parent)
    whole = sum(each["seconds"] for each in planned["steps"])
    notes: dict[str, object] = {
        "rows": f"{events:,} events",
        "peak GiB": f"{max(each['peak'] for each in planned['steps']):.1f}",
        "CPU s": f"{sum(each['cpu'] for each in planned['steps']):.0f}",
        "µs a user": f"{1e6 * whole / size:.0f}",
        "tasks": planned["tasks"],
        "candidates": f"{planned['candidates']:,} of {planned['considered']:,}",
        "assigned": f"{planned['assigned']:,}",
        "allocation": f"{planned['status']}, gap {planned['gap']:.1e}",
        "behind all candidates at most": planned["behind"],
        "made in s": f"{laid:.0f}",
        "learned in s": f"{learned['seconds']:.0f}, from {learned['users']:,} users",
        "what-if s": f"{asked['seconds']:.1f}, gap {asked['gap']:.1e}; first {asked['first']:.1f}",
    }
    lines = [Line(size=size, who="ours", ratio=1.0, times=1.0, seconds=whole, notes=notes)]
    for each in planned["steps"]:
        told: dict[str, object] = {"rows": f"{each['rows']:,}" if each["rows"] is not None else "–"}
        lines.append(
            Line(
                size=size, who=f"of it {each['step']}", ratio=None, times=each["seconds"] / max(whole, 1e-9),
                seconds=each["seconds"], notes={**told, "peak GiB": f"{each['peak']:.1f}",
                       "CPU s": f"{each['cpu']:.1f}"},
            )
        )  # fmt: skip
    return lines


def _child(what: str, root: Path, apart: bool) -> Any:
    if not apart:
        return _DOES[what](root)
    words = [sys.executable, "-m", "benchmarks.dayplan", what, str(root)]
    ran = subprocess.run(words, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(ran.stderr)
    return json.loads(ran.stdout.splitlines()[-1])


def _learn(root: Path) -> dict[str, Any]:
    """As `growth train`, from the events of some of the users."""
    from engine.day import train_models
    from engine.usecases import apply
    from engine.wiring import open_workspace
    from engine.world import plan_instant, read_history

    space = open_workspace(root)
    apply(space, root / "definitions", by="benchmark")
    as_of = plan_instant(space, PLAN_DATE)
    history = read_history(space, as_of)
    some = history.purchases["user"].unique().sort().head(_LEARNS)

    def part(frame: pl.DataFrame | None) -> pl.DataFrame | None:
        return None if frame is None else frame.filter(pl.col("user") <= some[-1])

    purchases = part(history.purchases)
    assert purchases is not None
    fewer = replace(
        history, purchases=purchases, treatments=part(history.treatments), responses=part(history.responses)
    )
    began = time.perf_counter()
    train_models(space, as_of, fewer, lambda _: None)
    return {"seconds": time.perf_counter() - began, "users": len(some)}


def _plan(root: Path) -> dict[str, Any]:
    from engine.planning import plan_recorded
    from engine.wiring import open_workspace

    space = open_workspace(root)
    peaks = _Peaks()
    made = plan_recorded(space, PLAN_DATE, None, peaks, "benchmark")
    peaks("end")
    rows = {each["step"]: each.get("rows") for each in space.plan_runs.newest(PLAN_DATE)[0]["steps"]}
    told = made.summary
    pruning = told.get("pruning") or {}
    behind = pruning.get("lost_at_most")
    return {
        "steps": [{**each, "rows": rows.get(each["step"])} for each in peaks.steps],
        "tasks": pl.scan_parquet(made.folder / "tasks.parquet").select(pl.len()).collect().item(),
        "candidates": told["totals"]["candidates"],
        "considered": pruning.get("considered", told["totals"]["candidates"]),
        "behind": "none left out" if not pruning else "–" if behind is None else f"{behind:.4%}",
        "assigned": told["totals"]["assigned"],
        "status": told["allocation"]["status"],
        "gap": told["allocation"]["gap"],
    }


def _ask(root: Path) -> dict[str, Any]:
    """What a tenth more money would bring: asked of a plan not asked before, and again."""
    from engine.plan_questions import PlanQuestions
    from engine.publish import read_plan
    from engine.wiring import open_workspace

    questions = PlanQuestions(open_workspace(root))
    limits = read_plan(questions.folder(PLAN_DATE))["allocation"]["limits"]
    money = next(each for each in limits if each["name"] == "money")
    took = []
    for more in (_MORE, 2 - _MORE):
        began = time.perf_counter()
        found = questions.what_if(PLAN_DATE, {"money": {"at_most": money["at_most"] * more}})
        took.append(time.perf_counter() - began)
    return {"first": took[0], "seconds": took[1], "gap": found["gap"]}


class _Peaks:
    """Progress of a plan that looks at the clock and at the most memory since it last looked."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self._now, self._began, self._spent = "opening", time.perf_counter(), _spent()

    def __call__(self, step: str) -> None:
        seconds, cpu = time.perf_counter() - self._began, _spent() - self._spent
        self.steps.append({"step": self._now, "seconds": seconds, "cpu": cpu, "peak": self._peak()})
        self._now, self._began, self._spent = step, time.perf_counter(), _spent()

    def _peak(self) -> float:
        """GiB; the kernel's mark is set back."""
        status = Path("/proc/self/status").read_text(encoding="ascii")
        line = next(each for each in status.splitlines() if each.startswith("VmHWM"))
        _MARK.write_text("5", encoding="ascii")
        return int(line.split()[1]) / 2**20


def _spent() -> float:
    """Seconds of all cores, of this process and those it ended: others who run beside cost none."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


_DOES: dict[str, Callable[[Path], dict[str, Any]]] = {"learn": _learn, "plan": _plan, "ask": _ask}

CASE = Case(
    about=(
        "One day's plan from Parquet files, a hundred events a user (visits, orders, offers, responses), "
        "some fifty tasks, two rules, a holdout, caps, quiet hours, consent, zones; each step with seconds "
        "and most memory. Making the files and learning the models are told apart; the what-if asks for a "
        "tenth less money of the plan as it was published, when it was asked once before."
    ),
    measure="–",
    sizes=(250_000, 500_000, 1_000_000),
    smoke=600,
    run=run,
    packages=("polars", "duckdb", "lightgbm", "ortools"),
)


if __name__ == "__main__":
    print(json.dumps(_DOES[sys.argv[1]](Path(sys.argv[2]))))
