"""Attribution on 10,000 real paths, or drawn ones: every rule, beside the same totals in plain Python.

The paths are those that the package channelattribution ships (GPL; not among our dependencies, and its file
is not here). To have them: `pip download --no-deps --no-binary :all: channelattribution==2.2.5`, unpack it,
and say where its `src/cypack/data/Data.csv` is in `GROWTH_PATHS`.
"""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.case import Case, Line
from touchpoint.attribution import RULES, attribute
from touchpoint.paths import PATHS, read_paths

#: where the real paths lie
VARIABLE = "GROWTH_PATHS"
OURS = "ours"
Credits = dict[str, float]
Row = tuple[list[str], int, float, int]


def paths(size: int, seed: int) -> tuple[pl.DataFrame, str]:
    """The first `size` real paths where they are, else as many that are drawn; and which they are."""
    told = os.environ.get(VARIABLE)
    if told:
        return read_paths(Path(told)).head(size), "real"
    rng = np.random.default_rng(seed)
    odds = rng.dirichlet(np.full(12, 0.7))
    rows = []
    for _ in range(size):
        path = rng.choice([f"channel {place}" for place in range(12)], size=1 + rng.poisson(3.5), p=odds)
        won = int(rng.poisson(0.8))
        rows.append((path.tolist(), won, round(float(rng.gamma(2.0)) * won, 3), int(rng.poisson(6)), None))
    return pl.DataFrame(rows, schema=PATHS, orient="row"), "drawn"


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """Each rule by itself, then the same in plain Python over every path; the chains of orders 1 to 3."""
    known, which = paths(size, seed)
    rows = list(known.select("path", "conversions", "value", "nulls").iter_rows())
    total = int(known["conversions"].sum())
    ours: dict[str, Credits] = {}
    took: dict[str, float] = {}
    for rule in RULES:
        begun = time.perf_counter()
        found = attribute(known, [rule], half_life=1.0)
        took[rule] = time.perf_counter() - begun
        ours[rule] = dict(zip(found["channel"], found["conversions"], strict=True))
        assert math.fsum(found["conversions"]) == total
    lines = [_line(size, OURS, which, sum(took.values()), sum(took.values()), 0.0, ours["markov"])]
    for rule, plain in PLAIN.items():
        begun = time.perf_counter()
        same = plain(rows)
        spent = time.perf_counter() - begun
        lines.append(
            _line(size, f"{rule}, in plain Python", which, took[rule], spent, apart(ours[rule], same), same)
        )
    begun = time.perf_counter()
    same = chain(rows)
    spent = time.perf_counter() - begun
    far = apart(ours["markov"], same)
    lines.append(_line(size, "markov, by repeated multiplication", which, took["markov"], spent, far, same))
    for order in (2, 3):
        begun = time.perf_counter()
        found = attribute(known, ["markov"], order=order)
        spent = time.perf_counter() - begun
        higher = dict(zip(found["channel"], found["conversions"], strict=True))
        far = apart(ours["markov"], higher)
        lines.append(_line(size, f"ours, chain of order {order}", which, took["markov"], spent, far, higher))
    return lines


def _line(size: int, who: str, which: str, ours: float, spent: float, far: float, credits: Credits) -> Line:
    best = sorted(credits.items(), key=lambda each: -each[1])[:4]
    return Line(
        size=size,
        who=who,
        ratio=1.0 if who == OURS else 1.0 - far,
        times=spent / ours,
        seconds=spent,
        notes={
            "paths": which,
            "conversions": f"{math.fsum(credits.values()):,.6f}",
            "most": ", ".join(f"{name} {many:,.1f}" for name, many in best),
        },
    )


def apart(one: Credits, other: Credits) -> float:
    """Share of the outcomes that the two give to different channels."""
    names = set(one) | set(other)
    moved = sum(abs(one.get(name, 0.0) - other.get(name, 0.0)) for name in names) / 2
    return moved / max(sum(one.values()), 1e-12)


def _weighed(weigh: Callable[[int], list[float]]) -> Callable[[list[Row]], Credits]:
    def plain(rows: list[Row]) -> Credits:
        found: Credits = defaultdict(float)
        for path, won, _, _ in rows:
            weights = weigh(len(path))
            for channel, weight in zip(path, weights, strict=True):
                found[channel] += won * weight / sum(weights)
        return dict(found)

    return plain


def _ends(length: int) -> list[float]:
    if length <= 2:
        return [1.0] * length
    return [0.4, *[0.2 / (length - 2)] * (length - 2), 0.4]


PLAIN: dict[str, Callable[[list[Row]], Credits]] = {
    "last": _weighed(lambda length: [0.0] * (length - 1) + [1.0]),
    "first": _weighed(lambda length: [1.0] + [0.0] * (length - 1)),
    "linear": _weighed(lambda length: [1.0] * length),
    "position": _weighed(_ends),
    "decay": _weighed(lambda length: [0.5 ** (length - 1 - place) for place in range(length)]),
}


def chain(rows: list[Row], steps: int = 400) -> Credits:
    """The first-order chain as a dense matrix, followed step by step until next to nobody is on the way."""
    names = sorted({channel for path, _, _, _ in rows for channel in path})
    place = {name: number + 1 for number, name in enumerate(names)}
    end = len(names) + 1
    many = np.zeros((end + 2, end + 2))
    helped = set()
    total = 0
    for path, won, _, lost in rows:
        at = 0
        for channel in path:
            many[at, place[channel]] += won + lost
            at = place[channel]
        many[at, end] += won
        many[at, end + 1] += lost
        total += won
        helped |= set(path) if won else set()
    moves = many / np.maximum(many.sum(axis=1, keepdims=True), 1)
    moves[end, end] = moves[end + 1, end + 1] = 1.0

    def arrives(without: int | None) -> float:
        kept = moves.copy()
        if without is not None:
            kept[:, end + 1] += kept[:, without]
            kept[:, without] = 0.0
        where = np.zeros(end + 2)
        where[0] = 1.0
        for _ in range(steps):
            where = where @ kept
        return float(where[end])

    whole = arrives(None)
    effects = {name: 1 - arrives(place[name]) / whole if name in helped else 0.0 for name in names}
    return {name: total * effect / sum(effects.values()) for name, effect in effects.items()}


CASE = Case(
    about=(
        "Credit for the outcomes of paths: the 10,000 that the package channelattribution ships, or drawn "
        f"ones where {VARIABLE} does not say where they lie. The first line is all six rules; each other "
        "line compares one of them with a reckoning that shares nothing with it, path by path. The measure "
        "is the share of outcomes that both give to the same channel; orders 2 and 3 are compared with 1."
    ),
    measure="agreement",
    sizes=(10_000,),
    smoke=300,
    run=run,
    packages=("polars", "scipy"),
)
