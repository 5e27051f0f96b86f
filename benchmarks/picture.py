"""Gap against time, drawn: `python -m benchmarks.picture` makes `docs/allocation.png` in about a minute.

Ours runs here, on the days of campaigns that the `allocation` case has; what stock solvers did with the same
candidates is taken from the committed results.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.campaigns import PER_USER, campaigns
from benchmarks.case import RESULTS
from benchmarks.crowd import crowd
from conflict.api import allocate
from conflict.reply import Here
from conflict.solve import solve

OUT = Path(__file__).parents[1] / "docs" / "allocation.png"
#: candidates → seconds of the search
RUNS = {100_000: 14.0, 1_000_000: 10.0, 10_000_000: 9.0}
COLOURS = {100_000: "#c2571a", 1_000_000: "#2b6ca3", 10_000_000: "#2f7d4f"}
#: candidates above which no frame is made
_FRAME = 3_000_000
#: stock solvers, by what the results call them
PEERS = ("HiGHS", "PDLP", "CP-SAT", "GLOP")
#: heading of the results that holds a peer's gap
_GAP = "gap to the best bound"
_SEED = 1


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One search."""

    size: int
    #: seconds at which the prices were found
    priced: float
    #: seconds and relative gap after every improvement
    points: list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A stock solver on the whole model."""

    who: str
    size: int
    seconds: float
    gap: float


def searched(size: int, seconds: float) -> Curve:
    """Our search, from when the candidates are loaded."""
    if size <= _FRAME:
        found = allocate(*campaigns(size // PER_USER, _SEED), time_limit=seconds, gap=0.0, seed=_SEED)
        trace, method = found.trace, found.method
    else:
        problem, _ = crowd(size // PER_USER, _SEED)
        solution = solve(Here(problem=problem), seconds=seconds, gap=0.0, seed=_SEED)
        trace, method = solution.trace, solution.method
    points = [(at, (bound - objective) / abs(objective)) for at, objective, bound in trace if objective > 0]
    return Curve(size=size, priced=float(str(method["prices_seconds"])), points=points)


def peers(folder: Path = RESULTS) -> Iterator[Peer]:
    """Stock solvers that found a choice for the same candidates."""
    record = json.loads((folder / "allocation.json").read_text(encoding="utf-8"))
    for line in record["lines"]:
        gap = str(line["notes"].get(_GAP, "–"))
        if line["size"] in RUNS and line["who"].startswith(PEERS) and gap != "–":
            yield Peer(who=line["who"], size=line["size"], seconds=line["seconds"], gap=float(gap))


def draw(curves: list[Curve], others: list[Peer], out: Path) -> None:
    mpl.rcParams.update({"font.size": 10, "font.family": "DejaVu Sans"})
    figure = Figure(figsize=(8, 4.4), dpi=150)
    axes = figure.subplots()
    for curve in curves:
        _curve(axes, curve)
    for other in others:
        colour = COLOURS[other.size]
        axes.plot(other.seconds, other.gap, "X", color=colour, markersize=9, markeredgecolor="white")
        axes.annotate(other.who, (other.seconds, other.gap), (-8, 8), textcoords="offset points",
                      ha="right", color=colour, fontsize=9)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="seconds, candidates loaded", ylabel="proven gap, relative")
    ticks = (0.2, 0.5, 1, 2, 5, 10, 20, 60, 120)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlim(0.2, 160)
    axes.minorticks_off()
    axes.grid(visible=True, color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(out, metadata={"Software": None})


def _curve(axes: Axes, curve: Curve) -> None:
    colour, (seconds, gaps) = COLOURS[curve.size], zip(*curve.points, strict=True)
    end = max(RUNS[curve.size], seconds[-1])
    axes.step([*seconds, end], [*gaps, gaps[-1]], where="post", color=colour, linewidth=1.8)
    axes.axvline(curve.priced, ymax=0.04, color=colour, linewidth=2.5)
    axes.annotate(f"{curve.size:,} candidates: {gaps[-1]:.1e}", (end, gaps[-1]), (5, -3),
                  textcoords="offset points", color=colour, fontsize=9)  # fmt: skip


def main() -> None:
    # compiles the kernels, which no search shall pay
    searched(20_000, 1.0)
    curves = [searched(size, seconds) for size, seconds in RUNS.items()]
    for curve in curves:
        last, gap = curve.points[-1]
        print(f"{curve.size:,}: prices after {curve.priced:.2f} s, gap {gap:.2e} after {last:.1f} s")
    draw(curves, list(peers()), OUT)
    print(OUT)


if __name__ == "__main__":
    main()
