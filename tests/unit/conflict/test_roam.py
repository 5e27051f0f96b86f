"""Roaming: what it reports is what it found, it passes no hard limit, and it finds what is to be had."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from conflict.improve import Improver
from conflict.integers import Best
from conflict.problem import Floats, Ints, Problem, Rules
from conflict.reply import Box
from conflict.roam import roam

STEPS = 2_000


class Sacks:
    """Users with `each` columns, sharing limits; fines where they may be passed."""

    def __init__(self, seed: int, users: int = 5, each: int = 2, limits: int = 2) -> None:
        rng = np.random.default_rng(seed)
        count = users * each
        self.first = np.arange(0, count + 1, each)
        self.change = rng.integers(0, 8, (count, limits)).astype(np.float64)
        self.value = self.change.sum(axis=1) + rng.integers(1, 12, count)
        self.high = np.floor(0.4 * self.change.sum(axis=0) / each)
        self.low = np.full(limits, -1e100)
        self.fine = np.full(limits, np.inf)
        self.users = users

    def net(self, taken: Ints) -> float:
        columns = taken[taken >= 0]
        use = self.change[columns].sum(axis=0)
        over = np.maximum(use - self.high, 0.0) + np.maximum(self.low - use, 0.0)
        if over[np.isinf(self.fine)].any():
            return -np.inf
        soft = np.isfinite(self.fine)
        return float(self.value[columns].sum() - over[soft] @ self.fine[soft])

    def best(self) -> float:
        ways = [[-1, *range(self.first[user], self.first[user + 1])] for user in range(self.users)]
        return max(self.net(np.array(way)) for way in product(*ways))

    def roam(self, close: Ints, least: float, seed: int, taken: Ints | None = None) -> float:
        some = self.change != 0
        price = np.full(self.high.size, 1.0)
        losses = np.maximum(self.change @ price - self.value + 12, 0.0)
        worth = roam(
            self.first, np.r_[0, np.cumsum(some.sum(axis=1))], np.nonzero(some)[1], self.change[some],
            self.value, losses, np.full(self.users, -1) if taken is None else taken, np.zeros(self.high.size),
            self.low, self.high, self.fine, price, 0.2 * price, 0.0 * price, least, close,
            STEPS, 5, 1.02, 0.998, seed,
        )  # fmt: skip
        return float(worth)


@pytest.mark.parametrize("seed", range(8))
def test_finds_the_best_of_few(seed: int) -> None:
    sacks = Sacks(seed)
    close = np.full(sacks.users, -1)
    worth = max(sacks.roam(close, -np.inf, again) for again in range(4))
    assert worth == pytest.approx(sacks.best())


@pytest.mark.parametrize("seed", range(4))
def test_what_it_reports_is_what_it_found(seed: int) -> None:
    sacks = Sacks(seed, users=12, each=3, limits=4)
    close = np.full(sacks.users, -1)
    worth = sacks.roam(close, -np.inf, 1)
    assert sacks.net(close) == pytest.approx(worth)
    again = np.full(sacks.users, -1)
    assert sacks.roam(again, -np.inf, 1) == worth
    assert (again == close).all()


@pytest.mark.parametrize("seed", range(4))
def test_limits_with_a_fine_may_be_passed_for_it(seed: int) -> None:
    sacks = Sacks(seed)
    hard = sacks.best()
    sacks.fine[:] = 1.5
    close = np.full(sacks.users, -1)
    worth = max(sacks.roam(close, -np.inf, again) for again in range(4))
    assert worth == pytest.approx(sacks.net(close)) or worth < sacks.best()
    assert hard <= worth <= sacks.best() + 1e-9


def test_floors_are_kept() -> None:
    sacks = Sacks(3, users=6)
    sacks.low[:] = sacks.high - 3
    close = np.full(sacks.users, -1)
    worth = sacks.roam(close, -np.inf, 0)
    assert worth > -np.inf
    assert sacks.net(close) == pytest.approx(worth)


def test_nothing_better_leaves_what_is_known() -> None:
    sacks = Sacks(1)
    worth = sacks.best()
    assert sacks.roam(np.full(sacks.users, -1), worth, 0) == worth


def _knapsack(values: Floats, uses: Floats, capacity: float) -> Problem:
    """A user with one candidate for each item."""
    size = values.size
    rules = Rules(
        member=np.ones((1, 1), np.bool_), summed=np.ones(1, np.int64), at_most=np.array([capacity]),
        at_least=np.full(1, -np.inf), penalty=np.full(1, np.inf), slots=np.zeros((1, 0), np.int32),
        caps=np.ones(1, np.int32), families=(), nested=True, max_tasks=1, min_tasks=0,
    )  # fmt: skip
    return Problem(
        rules=rules, value=values, amounts=uses[None, :], kind=np.zeros(size, np.uint16),
        starts=np.arange(size + 1),
    )  # fmt: skip


def test_an_improver_roams_to_a_better_choice_that_keeps_the_limit() -> None:
    from conflict.core import core_of

    rng = np.random.default_rng(4)
    uses = rng.integers(10, 60, 40).astype(np.float64)
    problem = _knapsack(uses + rng.integers(0, 20, 40), uses, 500.0)
    price = np.array([1.3])
    best = Best(problem=problem, complete=True)
    improver = Improver(core_of(problem, Box(at=price, low=price, high=price), 1e9), price, price, seed=0)
    improver.start(np.zeros(0, np.int64))
    best.offer(improver.choice())
    before = best.objective
    improver.roam()
    best.offer(improver.choice())
    assert best.objective >= before > -np.inf
    # the best of forty items by dynamic programming
    table = np.zeros(501)
    for use, value in zip(uses.astype(int), problem.value, strict=True):
        table[use:] = np.maximum(table[use:], table[: 501 - use] + value)
    assert best.objective == table[500]


def test_a_bound_on_whole_values_is_whole() -> None:
    problem = _knapsack(np.array([4.0, 6.0]), np.ones(2), 1.0)
    best = Best(problem=problem, complete=True)
    best.limit(7.9)
    assert best.bound == 6.0
    part = Best(problem=problem, complete=False)
    part.limit(7.9)
    assert part.bound == 7.9
    fractions = Best(problem=_knapsack(np.array([4.1, 6.123456789]), np.ones(2), 1.0), complete=True)
    fractions.limit(7.9)
    assert fractions.bound == 7.9
