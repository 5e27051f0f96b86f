"""The genetic algorithm of 1998 for the multidimensional knapsack, as published, for a peer in the same run.

P. C. Chu, J. E. Beasley, "A genetic algorithm for the multidimensional knapsack problem", Journal of
Heuristics 4 (1998) 63–86: 100 choices; of each two parents the better of two drawn; each item from either
parent; two items flipped; then items of the least value for their use at the prices of the linear
relaxation are dropped until all resources suffice, and those of the most added while they do. A child unlike
all takes the place of the worst. It ends after a million of them. The kernels are those of `conflict.pack`;
here they see all items, once, with prices by GLOP.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.knapsacks import Instance, whole_program
from conflict.pack import begin, breed
from conflict.problem import Mask
from conflict.programs import Solver, solve

POPULATION, CHILDREN = 100, 1_000_000
#: children between two looks at the clock
_SOME = 5_000
#: children in vain for each one wanted, after which there is nothing new to be had
_VAIN = 50


def evolve(instance: Instance, seed: int, seconds: float) -> tuple[Mask, str]:
    """The best choice [n] of a million children, or as many as the time allows, and how many there were."""
    end = time.monotonic() + seconds
    relaxed = solve(whole_program(instance, whole=False), Solver.GLOP, seconds=seconds)
    prices = np.zeros(instance.capacity.size) if relaxed.prices is None else relaxed.prices
    value = instance.frame["value"].to_numpy().astype(np.float64)
    use, room = (
        np.ascontiguousarray(instance.usage.T.astype(np.float64)),
        instance.capacity.astype(np.float64),
    )
    toll = use @ np.maximum(prices[: instance.capacity.size], 0.0)
    order = np.argsort(-value / np.maximum(toll, 1e-9), kind="stable")
    members = np.zeros((POPULATION, value.size), np.bool_)
    worth = np.zeros(POPULATION)
    begin(seed, value, use, room, members, worth)
    made = 0
    while made < CHILDREN and time.monotonic() < end:
        seed += 1
        some = min(_SOME, CHILDREN - made)
        born = breed(some, _VAIN * some, seed, value, use, room, order, members, worth)
        made += born
        if born < some:
            break
    return members[int(worth.argmax())], f"{made:,} children"
