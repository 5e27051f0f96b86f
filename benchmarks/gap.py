"""The generalised assignment problem, types A to E: each job to one agent, at the least cost.

Recipes: P. C. Chu, J. E. Beasley, "A genetic algorithm for the generalised assignment problem", Computers &
Operations Research 24 (1997) 17–23 (A to D); M. Laguna, J. P. Kelly, J. L. González-Velarde, F. Glover,
"Tabu search for the multilevel generalized assignment problem", European Journal of Operational Research 82
(1995) 176–189 (E). Sizes: those, and of M. Yagiura, T. Ibaraki, F. Glover, "A path relinking approach with
ejection chains for the generalized assignment problem", same journal 169 (2006) 548–569; types A and B
were published up to 20 agents × 200 jobs, and are drawn here at any size.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from benchmarks.case import Case, Line
from benchmarks.knapsacks import Instance, contest, lines, rows_and_columns
from conflict.programs import Ints
from kernel.choices import Limit, Limits, PerUser

TYPES = "ABCDE"


def instance(name: str, cost: Ints, use: Ints, capacity: Ints) -> Instance:
    """From cost and use, agent × job, and capacity, agent."""
    agents, jobs = cost.shape
    frame = pl.DataFrame(
        {
            "user": np.repeat(np.arange(jobs), agents),
            "task": np.tile(np.arange(agents), jobs),
            "value": -cost.T.ravel().astype(np.float64),
            "use": use.T.ravel(),
        }
    )
    limits = tuple(
        Limit(name=f"agent{agent}", sum="use", where={"task": agent}, at_most=float(capacity[agent]))
        for agent in range(agents)
    )
    at = np.arange(agents * jobs)
    usage = np.zeros((agents, at.size), np.int64)
    usage[at % agents, at] = use.T.ravel()
    return Instance(
        name=name,
        frame=frame,
        limits=Limits(per_user=PerUser(max_tasks=1, min_tasks=1), limits=limits),
        usage=usage,
        capacity=capacity,
        must=True,
        cost=True,
        published={},
    )


def draw(kind: str, agents: int, jobs: int, seed: int) -> Instance:
    """An instance of type A to E. Use and cost are independent in A to C, opposed in D and E."""
    rng = np.random.default_rng([seed, agents, jobs, TYPES.index(kind)])
    shape = (agents, jobs)
    if kind == "D":
        use = rng.integers(1, 101, shape)
        cost = 111 - use + rng.integers(-10, 11, shape)
    elif kind == "E":
        use = np.floor(1 - 10 * np.log(1 - rng.random(shape))).astype(np.int64)
        cost = np.floor(1000 / use - 10 * rng.random(shape)).astype(np.int64)
    else:
        use = rng.integers(5, 26, shape)
        cost = rng.integers(10, 51, shape)
    return instance(f"{kind} {agents}×{jobs}", cost, use, _capacity(kind, cost, use))


def _capacity(kind: str, cost: Ints, use: Ints) -> Ints:
    agents, jobs = cost.shape
    if kind in "AB":
        # what the busiest agent would need if each job went where it is cheapest
        cheapest = cost.argmin(axis=0)
        busiest = float(np.bincount(cheapest, use[cheapest, np.arange(jobs)], agents).max())
        each = 0.6 * 15 * jobs / agents + 0.4 * busiest
        return np.full(agents, int(each if kind == "A" else 0.7 * each))
    even: Ints = (0.8 * use.sum(axis=1) / agents).astype(np.int64)
    if kind == "E":
        np.maximum(even, use.max(axis=1), out=even)
    return even


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """Types A to E with size // 1000 agents and size % 1000 jobs."""
    agents, jobs = rows_and_columns(size)
    return lines([contest(draw(kind, agents, jobs, seed), seed, seconds) for kind in TYPES], size)


CASE = Case(
    about=(
        "Generalised assignment, types A to E by their published recipes; size 40400 is 40 agents × 400 "
        "jobs, the largest; others (5100, 5200, 10200, 20100, 10400, 20400) by `--size`. "
        "Costs, so lower is better and bounds lie below. All data are whole numbers, so bounds are rounded "
        "up. Each contestant has the same time; HiGHS runs on one core, CP-SAT on two."
    ),
    measure="cost, ours divided by theirs",
    sizes=(10_100, 20_200, 40_400),
    smoke=3_012,
    run=run,
    packages=("ortools", "numba", "numpy"),
)
