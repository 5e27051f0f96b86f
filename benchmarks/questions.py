"""What is asked of a solved problem: other bounds, and why some bounds cannot be."""

from __future__ import annotations

import time

import numpy as np
import polars as pl

from benchmarks.campaigns import CAMPAIGNS, PER_USER, campaigns
from benchmarks.case import Case, Line
from conflict.api import allocate, asked_again, verify
from conflict.whatif import changed_limits
from kernel.choices import Allocation, Limits

#: budgets that change, and by what part
_CHANGED, _PART = 5, 0.05
#: times a minimum volume that no budget allows is as large
_TOO_MUCH = 9.0


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """Five budgets moved by 5 %, answered from the prices at hand and anew; then a volume that cannot be."""
    # small ones go on for as long as they are let
    seconds = min(seconds, 0.5 if size < 100_000 else seconds)
    frame, limits = campaigns(max(size // PER_USER, 1), seed)
    first = allocate(frame, limits, time_limit=seconds, seed=seed)
    asked = asked_again(frame, limits, first, seed=seed)
    rng = np.random.default_rng(seed)
    bounds = {each.name: each for each in limits.limits}
    changes = {}
    for each in rng.choice(CAMPAIGNS, _CHANGED, replace=False):
        at_most = bounds[f"budget{each}"].at_most
        assert at_most is not None
        changes[f"budget{each}"] = {"at_most": at_most * (1 + _PART * rng.choice([-1, 1]))}
    began = time.perf_counter()
    ours = asked.changed(changes, time_limit=seconds)
    took = time.perf_counter() - began
    changed = changed_limits(limits, changes)
    began = time.perf_counter()
    anew = allocate(frame, changed, time_limit=seconds, seed=seed)
    again = time.perf_counter() - began
    assert ours.objective is not None
    assert anew.objective is not None
    assert verify(frame, changed, ours.assignments) == []
    volume = bounds["volume1"].at_least
    assert volume is not None
    broken = changed_limits(limits, {"volume1": {"at_least": _TOO_MUCH * volume}})
    return [
        _line(size, "ours", ours, took, took, 1.0),
        _line(size, "the same, solved anew", anew, again, took, anew.objective / ours.objective),
        _contradiction(size, frame, broken, seed, seconds, took),
    ]


def _line(size: int, who: str, found: Allocation, seconds: float, ours: float, ratio: float) -> Line:
    return Line(
        size=size, who=who, ratio=ratio, times=seconds / ours, seconds=seconds,
        notes={
            "status": str(found.status),
            "gap": f"{found.gap:.1e}",
            "prices after s": found.method.get("prices_seconds", "–"),
        },
    )  # fmt: skip


def _contradiction(
    size: int, frame: pl.DataFrame, limits: Limits, seed: int, seconds: float, ours: float
) -> Line:
    began = time.perf_counter()
    found = allocate(frame, limits, time_limit=seconds, seed=seed)
    took = time.perf_counter() - began
    return Line(
        size=size, who="limits that contradict each other", ratio=None, times=took / ours, seconds=took,
        notes={
            "status": str(found.status),
            "contradict": ", ".join(found.conflicting),
            "give way": ", ".join(f"{name} by {by:.0f}" for name, by in found.relaxation.items()),
        },
    )  # fmt: skip


CASE = Case(
    about=(
        "Campaigns as in `allocation`, solved once. Then five budgets move by 5 %, and the answer comes from "
        "the prices at hand; at last a minimum volume is asked for that its budget does not allow: seconds "
        "are those of the whole answer, with what would have to give way."
    ),
    measure="objective",
    sizes=(100_000, 1_000_000, 10_000_000),
    smoke=4_000,
    run=run,
    packages=("ortools", "numba", "numpy"),
)
