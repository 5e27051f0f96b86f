"""Filling limits one after the other: what it reports holds, and it finds what enumeration finds."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from conflict.core import core_of
from conflict.feasible import worth_of
from conflict.fill import beam
from conflict.filling import Filling
from conflict.integers import _taken
from conflict.problem import Floats, Ints, Mask, Problem, Rules
from conflict.reply import Box
from conflict.whole import linear_prices, solve_whole

USERS, LIMITS = 6, 3


class Jobs:
    """Users of whom each costs and uses something at each limit, or costs something without any."""

    def __init__(self, seed: int, *, must: bool) -> None:
        rng = np.random.default_rng(seed)
        self.use = rng.integers(2, 12, (USERS, LIMITS)).astype(np.float64)
        self.cost = 20.0 - self.use + rng.integers(-4, 5, (USERS, LIMITS))
        self.cost[rng.random((USERS, LIMITS)) < 0.1] = np.inf
        self.none = np.full(USERS, np.inf) if must else rng.integers(14, 30, USERS).astype(np.float64)
        self.room = np.floor(self.use.sum(axis=0) * (0.45 if must else 0.3))
        self.where = np.full(USERS, -1, np.int16)
        self.open = np.ones(LIMITS, np.bool_)

    def worth(self, where: Ints) -> float:
        """Cost of the users that are not settled; inf where it passes a limit."""
        free = np.flatnonzero(self.where < 0)
        some = free[where[free] >= 0]
        for limit in range(LIMITS):
            if self.use[some[where[some] == limit], limit].sum() > self.room[limit]:
                return np.inf
        if not self.open[where[some]].all():
            return np.inf
        idle = free[where[free] < 0]
        return float(self.cost[some, where[some]].sum() + self.none[idle].sum())

    def best(self) -> float:
        ways = [
            range(-1, LIMITS) if self.where[user] < 0 else [int(self.where[user])] for user in range(USERS)
        ]
        return min(self.worth(np.array(way)) for way in product(*ways))

    def fill(self, where: Ints, least: float = np.inf, seed: int = 0) -> float:
        found = beam(
            self.cost, self.use, self.none, self.room, np.full(LIMITS, 1.0), where, self.open, 20, 4, 20,
            0.3 + seed, 30.0, 15, 0.1, seed, least,
        )  # fmt: skip
        return float(found)


@pytest.mark.parametrize("must", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_finds_what_enumeration_finds(seed: int, must: bool) -> None:
    jobs = Jobs(seed, must=must)
    least = np.inf
    for again in range(6):
        where = jobs.where.copy()
        found = jobs.fill(where, seed=again)
        assert found == pytest.approx(jobs.worth(where)) or found == np.inf
        least = min(least, found)
    assert least == pytest.approx(jobs.best())


def test_users_that_are_settled_stay_and_closed_limits_stay_as_they_are() -> None:
    jobs = Jobs(2, must=False)
    jobs.where[:2], jobs.open[0] = 0, False
    where = jobs.where.copy()
    assert jobs.fill(where) == pytest.approx(jobs.best())
    assert (where[:2] == 0).all()
    assert (where[2:] != 0).all()


def test_what_is_no_better_changes_nothing() -> None:
    jobs = Jobs(1, must=False)
    best, where = jobs.best(), jobs.where.copy()
    assert jobs.fill(where, least=best) == best
    assert (where == -1).all()
    assert jobs.fill(where, least=best + 0.5) == pytest.approx(best)


def test_nobody_who_must_is_left_without_a_limit() -> None:
    jobs = Jobs(0, must=True)
    jobs.room[:] = 1.0
    where = jobs.where.copy()
    assert jobs.fill(where) == np.inf
    assert (where == -1).all()


def test_the_same_seed_does_the_same() -> None:
    jobs = Jobs(3, must=True)
    one, other = jobs.where.copy(), jobs.where.copy()
    assert jobs.fill(one, seed=5) == jobs.fill(other, seed=5)
    assert (one == other).all()


def _assignment(seed: int, users: int = 16, limits: int = 4, *, grid: float = 0.5) -> Problem:
    """One candidate of each user at each limit; everybody must have one."""
    rng = np.random.default_rng(seed)
    use = rng.integers(5, 40, (users, limits))
    value = use - 50.0 + rng.integers(-4, 5, use.shape)
    rules = Rules(
        member=np.eye(limits, dtype=np.bool_), summed=np.ones(limits, np.int64),
        at_most=np.floor(0.85 * grid * use.sum(axis=0) / limits), at_least=np.full(limits, -np.inf),
        penalty=np.full(limits, np.inf), slots=np.zeros((limits, 0), np.int32), caps=np.ones(1, np.int32),
        families=(), nested=True, max_tasks=1, min_tasks=1,
    )  # fmt: skip
    return Problem(
        rules=rules, value=value.ravel(), amounts=grid * use.ravel()[None, :].astype(np.float64),
        kind=np.tile(np.arange(limits), users).astype(np.uint16), starts=np.arange(users + 1) * limits,
    )  # fmt: skip


def _filled(problem: Problem, prices: Floats, times: int) -> tuple[Mask, float]:
    filling = Filling.of(problem, prices, seed=1)
    assert filling is not None
    chosen: Mask | None = None
    worth = -np.inf
    for _ in range(times):
        found = filling.search(chosen, 0.0, time.monotonic() + 0.2)
        if found is not None:
            # what it answers is better and keeps everything
            assert worth_of(problem, found) > worth
            chosen, worth = found, worth_of(problem, found)
    assert chosen is not None
    return chosen, worth


@pytest.mark.parametrize("seed", range(3))
def test_a_problem_is_filled_nearly_to_its_optimum(seed: int) -> None:
    problem = _assignment(seed)
    prices, bound, _ = linear_prices(problem, seconds=10)
    _, worth = _filled(problem, prices, 20)
    assert worth <= bound + 1e-6
    best = solve_whole(problem, seconds=30, gap=0.0, seed=0).chosen
    assert best is not None
    assert 1.01 * worth_of(problem, best) <= worth <= worth_of(problem, best) + 1e-6


def test_who_need_not_takes_nothing_or_what_uses_nothing() -> None:
    problem = _assignment(4)
    free = replace(
        problem,
        # costs turned to gains, and the first limit has room for all, so that it is none
        value=problem.value + 45.0,
        rules=replace(problem.rules, min_tasks=0, at_most=np.r_[1e9, problem.rules.at_most[1:] / 2]),
    )
    chosen, worth = _filled(free, np.r_[0.0, np.full(3, 1.0)], 30)
    assert worth > 0
    taken = np.add.reduceat(chosen, free.starts[:-1])
    assert taken.max() == 1
    # only who gains by it takes what uses nothing
    assert (free.value[chosen & (free.kind == 0)] > 0).all()


def test_other_problems_are_not_filled() -> None:
    problem = _assignment(0)
    rules, price = problem.rules, np.ones(4)

    def refused(**changed: object) -> bool:
        return Filling.of(replace(problem, rules=replace(rules, **changed)), price, 0) is None

    assert Filling.of(problem, price, 0) is not None
    assert refused(max_tasks=2)
    assert refused(at_least=np.full(4, 1.0))
    assert refused(penalty=np.full(4, 2.0))
    # every candidate uses two limits, or those of a user the same one
    assert refused(member=np.ones((4, 4), np.bool_))
    assert refused(member=np.eye(4, dtype=np.bool_)[[0, 0, 1, 2]])
    # nothing that use could be counted in, too many steps, less than nothing, and nothing to pay for
    assert Filling.of(replace(problem, amounts=problem.amounts * np.pi), price, 0) is None
    assert Filling.of(replace(problem, amounts=problem.amounts * 101 + 0.5), price * 0, 0) is None
    assert Filling.of(replace(problem, amounts=-problem.amounts), price, 0) is None
    assert Filling.of(problem, 0 * price, 0) is None
    assert Filling.of(replace(problem, elsewhere=1.0), price, 0) is None


def test_what_was_filled_is_found_among_the_columns_of_a_core() -> None:
    problem = _assignment(0)
    prices, _, _ = linear_prices(problem, seconds=10)
    chosen, _ = _filled(problem, prices, 6)
    core = core_of(problem, Box(at=prices, low=prices, high=prices), 1e9)
    assert (core.choice(_taken(core, chosen)) == chosen).all()
    assert _taken(core, core.base).size == 0
