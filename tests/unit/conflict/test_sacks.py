"""Prices on users: a bound on every choice, and no better choice outside the candidates left open."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import polars as pl
import pytest

from conflict.allocate import allocate
from conflict.feasible import worth_of
from conflict.filling import Filling
from conflict.problem import Floats, Problem, compile_problem
from conflict.programs import Solver, solve
from conflict.rows import program_of
from kernel.choices import Limit, Limits, PerUser, Status

USERS, AGENTS = 6, 3


def _problem(seed: int, must: bool, idle: bool = False) -> Problem:
    """Jobs for agents; `must`: each needs one; `idle`: or a candidate that uses no limit."""
    rng = np.random.default_rng(seed)
    agents = AGENTS + int(idle)
    use = rng.integers(2, 9, (USERS, agents))
    value = rng.integers(-9, 4, (USERS, agents)) if must else rng.integers(1, 13, (USERS, agents))
    frame = pl.DataFrame(
        {
            "user": np.repeat(np.arange(USERS), agents),
            "task": np.tile(np.arange(agents), USERS),
            "value": value.ravel().astype(np.float64),
            "use": use.ravel(),
        }
    )
    limits = tuple(
        Limit(name=f"agent{agent}", sum="use", where={"task": agent}, at_most=11.0) for agent in range(AGENTS)
    )
    rules = PerUser(max_tasks=1, min_tasks=int(must))
    return compile_problem(frame, Limits(per_user=rules, limits=limits))[0]


def _all(problem: Problem) -> list[tuple[float, Floats]]:
    """Every choice that keeps everything, with its worth."""
    ways = []
    each = problem.size // USERS
    for picks in product(range(-1, each), repeat=USERS):
        chosen = np.zeros(problem.size, np.bool_)
        chosen[[user * each + pick for user, pick in enumerate(picks) if pick >= 0]] = True
        worth = worth_of(problem, chosen)
        if np.isfinite(worth):
            ways.append((worth, chosen))
    return ways


def _filling(problem: Problem) -> Filling:
    filling = Filling.of(problem, np.full(AGENTS, 0.5), 1)
    assert filling is not None
    return filling


def _later() -> float:
    return time.monotonic() + 1e6


@pytest.mark.parametrize("must", [False, True])
@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_bounds_what_enumeration_finds_more_tightly_than_the_linear_program(
    seed: int, idle: bool, must: bool
) -> None:
    problem = _problem(seed, must, idle)
    best = max(worth for worth, _ in _all(problem))
    bound = _filling(problem).bound(best, _later())
    linear = solve(program_of(problem, whole=False), Solver.GLOP, seconds=20.0).bound
    assert best - 1e-9 <= bound <= linear + 1e-6


@pytest.mark.parametrize("must", [False, True])
@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_no_better_choice_holds_a_candidate_that_is_closed(seed: int, idle: bool, must: bool) -> None:
    problem = _problem(seed, must, idle)
    ways = sorted(_all(problem), key=lambda way: -way[0])
    filling = _filling(problem)
    filling.bound(ways[0][0], _later())
    for below in (0.0, 1.0, 3.0):
        objective = ways[0][0] - below
        open_ = filling.open_for(filling.least(), objective, 1.0)
        better = [worth for worth, chosen in ways if worth >= objective + 1.0 and open_[chosen].all()]
        wanted = [worth for worth, _ in ways if worth >= objective + 1.0]
        # of candidates without a limit a user's best is enough
        assert max(better, default=None) == max(wanted, default=None)
        if not idle:
            assert len(better) == len(wanted)


def test_closes_most_where_little_is_left_to_gain() -> None:
    closed = 0
    for seed in range(4):
        problem = _problem(seed, must=True)
        best = max(worth for worth, _ in _all(problem))
        filling = _filling(problem)
        filling.bound(best, _later())
        open_ = filling.open_for(filling.least(), best, 1.0)
        closed += int((~open_).sum())
    assert closed > 0.5 * 4 * USERS * AGENTS


def test_assignments_with_opposed_costs_are_proven() -> None:
    """Type E of the generalised assignment, which the linear bound leaves open by a part in a hundred."""
    rng = np.random.default_rng(3)
    jobs, agents = 24, 4
    use = np.floor(1 - 10 * np.log(1 - rng.random((jobs, agents))))
    cost = np.floor(1000 / use - 10 * rng.random((jobs, agents)))
    frame = pl.DataFrame(
        {
            "user": np.repeat(np.arange(jobs), agents),
            "task": np.tile(np.arange(agents), jobs),
            "value": -cost.ravel(),
            "use": use.ravel(),
        }
    )
    most = np.floor(0.8 * use.sum(axis=0) / agents)
    limits = Limits(
        per_user=PerUser(max_tasks=1, min_tasks=1),
        limits=tuple(
            Limit(name=f"agent{agent}", sum="use", where={"task": agent}, at_most=float(most[agent]))
            for agent in range(agents)
        ),
    )
    found = allocate(frame, limits, time_limit=60.0, seed=1)
    assert found.status is Status.OPTIMAL
