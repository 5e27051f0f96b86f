"""A thousand limits: prices by Newton's method, and pairs of changes limit by limit."""

from __future__ import annotations

from benchmarks.campaigns import MANY, PER_USER
from benchmarks.case import Case, Line
from benchmarks.crowd import crowd
from conflict.reply import Here
from conflict.solve import Solution, solve

#: campaigns and seconds below a million candidates: as many as have enough candidates each
_FEW, _SHORT = 120, 0.5


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """The search for as long as it may take, and what it has after a fifth of that."""
    small = size < 1_000_000
    seconds = min(seconds, _SHORT if small else 60.0)
    problem, limits = crowd(max(size // PER_USER, 1), seed, many=_FEW if small else MANY)
    found, early = (
        solve(Here(problem=problem), seconds=each, gap=1e-6, seed=seed) for each in (seconds, seconds / 5)
    )
    who = f"ours, {len(limits.limits)} limits, after a fifth of the time"
    return [_line(size, "ours", found, found, seconds), _line(size, who, early, found, seconds / 5)]


def _line(size: int, who: str, found: Solution, ours: Solution, seconds: float) -> Line:
    known = found.chosen is not None
    return Line(
        size=size,
        who=who,
        ratio=found.objective / ours.objective if known else None,
        times=1.0 if found is ours else 0.2,
        seconds=seconds,
        notes={
            "gap": f"{(found.bound - found.objective) / max(abs(found.objective), 1e-9):.1e}"
            if known
            else "–",
            "prices after s": found.method.get("prices_seconds", "–"),
        },
    )


CASE = Case(
    about=(
        "Campaigns as in `allocation`, but 796 of them, which makes 1,001 limits, as 32-bit columns made in "
        "place; below a million candidates 120 campaigns and 156 limits."
    ),
    measure="objective",
    sizes=(1_000_000, 10_000_000),
    smoke=30_000,
    run=run,
    packages=("ortools", "numba", "numpy"),
)
