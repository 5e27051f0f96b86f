"""The multiple-choice multidimensional knapsack, classes I01 to I13: one item of each class, many resources.

Sizes: S. Khan, K. F. Li, E. G. Manning, M. M. Akbar, "Solving the knapsack problem for adaptive multimedia
systems", Studia Informatica Universalis 2 (2002). Neither their files nor their text on how they drew them
is at hand, so the recipe is ours, of the correlated kind: uses uniform in 0..9, one price a resource uniform
in 0..9, value the use at these prices plus uniform in 0..19, capacity 5 a class of each resource. On average
the linear bound of I07 is that of the published I07, 24608, of which 24592 (0.065 % less) has been reached.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from benchmarks.case import Case, Line
from benchmarks.knapsacks import Instance, contest, lines
from kernel.choices import Limit, Limits, PerUser
from kernel.errors import NotFound

#: number of the instance → classes, items of each, resources
SIZES = {
    1: (5, 5, 5),
    2: (10, 5, 5),
    3: (15, 10, 10),
    4: (20, 10, 10),
    5: (25, 10, 10),
    6: (30, 10, 10),
    7: (100, 10, 10),
    8: (150, 10, 10),
    9: (200, 10, 10),
    10: (250, 10, 10),
    11: (300, 10, 10),
    12: (350, 10, 10),
    13: (400, 10, 10),
}


def draw(number: int, seed: int) -> Instance:
    """An instance of the size of I01 to I13; a class is a user, an item a task."""
    if number not in SIZES:
        raise NotFound("instance", number, SIZES)
    classes, items, resources = SIZES[number]
    rng = np.random.default_rng([seed, number])
    usage = rng.integers(0, 10, (resources, classes * items))
    price = rng.integers(0, 10, resources)
    value = price @ usage + rng.integers(0, 20, classes * items)
    capacity = np.full(resources, 5 * classes)
    frame = pl.DataFrame(
        {
            "user": np.repeat(np.arange(classes), items),
            "task": np.tile(np.arange(items), classes),
            "value": value.astype(np.float64),
            **{f"use{row}": usage[row] for row in range(resources)},
        }
    )
    limits = tuple(
        Limit(name=f"resource{row}", sum=f"use{row}", at_most=float(capacity[row]))
        for row in range(resources)
    )
    return Instance(
        name=f"I{number:02d}",
        frame=frame,
        limits=Limits(per_user=PerUser(max_tasks=1, min_tasks=1), limits=limits),
        usage=usage,
        capacity=capacity,
        must=True,
        cost=False,
        published={},
    )


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """The instance with number `size`, 1 to 13."""
    return lines([contest(draw(size, seed), seed, seconds)], size)


CASE = Case(
    about=(
        "Multiple-choice multidimensional knapsack in the sizes of Khan's I07, I10 and I13 (others of I01 to "
        "I13 by `--size`), drawn by our own recipe, so that published best values do not apply; size is the "
        "number of the instance. All data are whole numbers, so bounds are rounded down. Each contestant has "
        "the same time; HiGHS runs on one core, CP-SAT on two."
    ),
    measure="objective",
    sizes=(7, 10, 13),
    smoke=1,
    run=run,
    packages=("ortools", "numba", "numpy"),
)
