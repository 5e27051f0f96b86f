"""The 0-1 multidimensional knapsack of Chu and Beasley: items, each whole or not at all, many resources.

P. C. Chu, J. E. Beasley, "A genetic algorithm for the multidimensional knapsack problem", Journal of
Heuristics 4 (1998) 63–86, after A. Fréville, G. Plateau (1994): uses uniform in 0..1000, capacity the
tightness times the sum of uses, value the mean use of the item plus 500 times a uniform number. Their genetic
algorithm is a peer; beside instances drawn by the recipe stand the first two of their class 10.250, as the
OR-Library has them (J. E. Beasley, J. Operational Research Society 41 (1990) 1069–1072).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.case import Case, Line
from benchmarks.genetic import evolve
from benchmarks.knapsacks import Instance, contest, lines, rows_and_columns
from conflict.programs import Floats, Ints
from kernel.choices import Limit, Limits

TIGHTNESS = (0.25, 0.5, 0.75)
#: resources, items → how far below the linear bound, in percent, the genetic algorithm of 1998 ended, at
#: each tightness: means of ten instances, from the values and linear bounds in the OR-Library's `mkcbres`
PUBLISHED = {
    (5, 100): (0.989, 0.451, 0.318),
    (5, 250): (0.227, 0.116, 0.079),
    (5, 500): (0.084, 0.042, 0.026),
    (10, 100): (1.562, 0.795, 0.482),
    (10, 250): (0.500, 0.252, 0.152),
    (10, 500): (0.227, 0.105, 0.073),
    (30, 100): (2.914, 1.341, 0.829),
    (30, 250): (1.178, 0.519, 0.305),
    (30, 500): (0.612, 0.264, 0.166),
}
#: the instances of the OR-Library that stand in `mknapcb5.txt`, with the best value known of each
LIBRARY = {"10.250-00": 59_187, "10.250-01": 58_781}


def draw(resources: int, items: int, tightness: float, seed: int) -> Instance:
    """One instance by the recipe."""
    rng = np.random.default_rng([seed, resources, items, round(100 * tightness)])
    usage = rng.integers(0, 1001, (resources, items))
    capacity = np.floor(tightness * usage.sum(axis=1)).astype(np.int64)
    value = np.floor(usage.mean(axis=0) + 500 * rng.random(items))
    means = dict(zip(TIGHTNESS, PUBLISHED.get((resources, items), ()), strict=False))
    published: dict[str, object] = {"the 1998 mean of ten, %": means.get(tightness, "–")}
    return _instance(f"{resources}×{items}, {tightness}", value, usage, capacity, published)


def library() -> list[Instance]:
    """Those of the OR-Library. Its files hold items, resources, best value; values; uses; capacities."""
    numbers = np.array((Path(__file__).parent / "mknapcb5.txt").read_text(encoding="utf-8").split(), np.int64)
    found = []
    for name, best in LIBRARY.items():
        items, resources, then = (int(each) for each in numbers[:3])
        ends = np.cumsum([3, items, resources * items, resources])
        _, value, usage, capacity, numbers = np.split(numbers, ends)
        published: dict[str, object] = {"the value of 1998": then, "the best known": best}
        usage = usage.reshape(resources, items)
        found.append(_instance(name, value.astype(np.float64), usage, capacity, published))
    return found


def _instance(
    name: str, value: Floats, usage: Ints, capacity: Ints, published: dict[str, object]
) -> Instance:
    """An item is a user with one candidate."""
    resources, items = usage.shape
    frame = pl.DataFrame(
        {
            "user": np.arange(items),
            "task": np.zeros(items, np.int64),
            "value": value,
            **{f"use{row}": usage[row] for row in range(resources)},
        }
    )
    limits = tuple(
        Limit(name=f"resource{row}", sum=f"use{row}", at_most=float(capacity[row]))
        for row in range(resources)
    )
    return Instance(
        name=name,
        frame=frame,
        limits=Limits(limits=limits),
        usage=usage,
        capacity=capacity,
        must=False,
        cost=False,
        published=published,
    )


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """Each tightness with size // 1000 resources and size % 1000 items; and what the library has of it."""
    resources, items = rows_and_columns(size)
    instances = [draw(resources, items, each, seed) for each in TIGHTNESS]
    instances += [each for each in library() if each.usage.shape == (resources, items)]
    peers = {"the genetic algorithm of 1998": evolve}
    return lines([contest(each, seed, seconds, peers) for each in instances], size)


CASE = Case(
    about=(
        "Multidimensional knapsack by the recipe of Chu and Beasley, one instance at each tightness; size "
        "10250 is 10 resources × 250 items; other classes (5, 10, 30 × 100, 250, 500) by `--size`, other "
        "instances by `--seed`. The genetic algorithm of 1998 takes part as published, until a million "
        "children or the end of the time; beside it stands how far below the linear bound it ended then on "
        "ten instances of the class. 10.250-00 and 10.250-01 are the OR-Library's. All data are whole "
        "numbers, so bounds are rounded down. Each contestant has the same time; HiGHS and the genetic "
        "algorithm run on one core, CP-SAT on two."
    ),
    measure="objective",
    sizes=(5_100, 10_250, 30_500),
    smoke=2_012,
    run=run,
    packages=("ortools", "numba", "numpy"),
)
