"""The closed loop against simpler policies: 60 days in five worlds, profit at an equal budget.

Worlds of one seed share every draw of chance, so differences are of the policies alone. `size`: users.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.case import Case, Line
from engine.demo.households import baskets
from engine.simulate.households import households_of
from engine.simulate.nature import Nature
from engine.simulate.run import ENGINE, NOBODY, ORACLE, POLICIES, RULES, Setting, usual_means
from engine.simulate.session import simulate

#: up to so many users it is a trial: one world, one day, without those who learn for themselves
_TRIAL = 1000
_DAYS, _WORLDS = 60, 5
_SOME = (ENGINE, RULES, NOBODY, ORACLE)


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """All policies, day by day; `seconds` has no say: a day takes what it takes."""
    days, worlds, names = (1, 1, _SOME) if size <= _TRIAL else (_DAYS, _WORLDS, POLICIES)
    setting = Setting(
        users=size, days=days, homes=households_of(baskets()), means=usual_means(size), nature=Nature()
    )
    # finished worlds are kept, so that a long run that was interrupted goes on
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) if size <= _TRIAL else Path(tempfile.gettempdir()) / f"growth-simulate-{size}"
        seeds = range(seed, seed + worlds)
        found = simulate(setting, seeds, out, lambda _: None, whose="real households", names=names)
    ours = next(each for each in found["policies"] if each["policy"] == ENGINE)
    ahead = {each["policy"]: each["by"] for each in found["ahead"]}
    lines = []
    for each in sorted(found["policies"], key=lambda each: each["policy"] != ENGINE):
        by = ahead.get(each["policy"])
        notes: dict[str, object] = {
            "days": found["days"],
            "worlds": len(found["seeds"]),
            "added profit": _span(each["added"]),
            "engine ahead by": "–" if by is None else _span(by),
            "spent": f"{each['spent']:,.0f}",
            "touches": f"{each['touches']:,.0f}",
            "opt-outs": f"{each['opt_outs']:,.0f}",
        }
        lines.append(
            Line(
                size=size,
                who="ours" if each is ours else each["policy"],
                ratio=_ratio(each["added"]["mean"], ours["added"]["mean"]),
                times=each["seconds"] / ours["seconds"],
                seconds=each["seconds"],
                notes=notes,
            )
        )
    return lines


def _ratio(theirs: float, ours: float) -> float | None:
    """Of a loss no part can be told."""
    return 1.0 if theirs == ours else theirs / ours if ours > 0 else None


def _span(told: dict[str, float | None]) -> str:
    low, high = told["low"], told["high"]
    ends = "" if low is None or high is None else f" [{low:,.0f}, {high:,.0f}]"
    return f"{told['mean']:,.0f}{ends}"


CASE = Case(
    about="Profit that a policy adds in simulated days, beside nobody touched: habits of real households, "
    "planted answers that differ by user, fatigue, a drift in the middle, users who come and go.",
    measure="added profit",
    sizes=(10_000,),
    smoke=600,
    run=run,
    packages=("lightgbm", "ortools", "polars"),
)
