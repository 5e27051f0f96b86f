"""Up to four changes at a limit: against enumeration of all of them, and what they must keep."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from conflict import fours

SEEDS = range(8)


class _Core:
    """Some users with one or two columns each; limit 0 is touched by all, limits 1 and 2 by some."""

    def __init__(self, seed: int, users: int = 7) -> None:
        rng = np.random.default_rng(seed)
        counts = rng.integers(1, 3, users)
        size = int(counts.sum())
        self.owner = np.repeat(np.arange(users), counts)
        self.dense = np.zeros((size, 3))
        self.dense[:, 0] = rng.uniform(0.5, 1.5, size) * rng.choice([-1, 1], size)
        self.dense[:, 1:] = rng.integers(-1, 2, (size, 2))
        self.value = self.dense[:, 0] + rng.normal(0, 0.1, size)
        self.high = np.array([rng.uniform(0.2, 1.0), 1.0, 2.0])
        self.low = np.array([-np.inf, -1.0, -np.inf])
        self.near = np.concatenate([np.flatnonzero(self.dense[:, row]) for row in range(3)])
        self.firsts = np.r_[0, np.cumsum((self.dense != 0).sum(axis=0))]
        self.starts = np.r_[0, np.cumsum((self.dense != 0).sum(axis=1))]
        self.rows = np.nonzero(self.dense)[1]
        self.amounts = self.dense[self.dense != 0]
        self.taken = np.full(users, -1)
        self.use = np.zeros(3)

    def arguments(self) -> tuple[Any, ...]:
        return (
            self.firsts, self.near, self.starts, self.rows, self.amounts, self.value, self.owner,
            self.taken, self.use, self.low, self.high,
        )  # fmt: skip

    def holds(self, use: np.ndarray[Any, Any]) -> bool:
        return bool((use <= self.high + 1e-9).all() and (use >= self.low - 1e-9).all())

    def worth(self) -> float:
        return float(self.value[self.taken[self.taken >= 0]].sum())

    def check(self) -> None:
        columns = self.taken[self.taken >= 0]
        assert (self.owner[columns] == np.flatnonzero(self.taken >= 0)).all()
        assert self.use == pytest.approx(self.dense[columns].sum(axis=0))
        assert self.holds(self.use)

    def two_at_most(self, columns: tuple[int, ...]) -> bool:
        use = self.dense[list(columns)].sum(axis=0)[1:]
        return self.holds(np.r_[0.0, use])

    def best(self) -> float:
        """Of up to four columns that are two pairs which each pass no other limit, and all hold together."""
        best = 0.0
        for many in range(1, 5):
            for columns in combinations(range(self.owner.size), many):
                if np.unique(self.owner[list(columns)]).size < many:
                    continue
                paired = [
                    (one, tuple(each for each in columns if each not in one))
                    for size in (1, 2)
                    for one in combinations(columns, size)
                    if many - size <= 2
                ]
                if not any(
                    self.two_at_most(one) and (not other or self.two_at_most(other)) for one, other in paired
                ):
                    continue
                if self.holds(self.dense[list(columns)].sum(axis=0)):
                    best = max(best, float(self.value[list(columns)].sum()))
        return best


@pytest.mark.parametrize("seed", SEEDS)
def test_one_call_finds_nearly_the_best_four(seed: int) -> None:
    core = _Core(seed)
    gain = fours.fill(np.array([0]), np.ones(3), 50, *core.arguments())
    core.check()
    assert core.worth() == pytest.approx(gain)
    # three runners-up are looked at where changes clash, which is nearly always enough
    assert 0.8 * core.best() <= gain <= core.best() + 1e-9


def test_where_nothing_clashes_it_is_the_best() -> None:
    gains = []
    for seed in range(20):
        core = _Core(seed)
        gains.append(fours.fill(np.array([0]), np.ones(3), 50, *core.arguments()) / max(core.best(), 1e-9))
    assert np.mean(np.array(gains) > 1 - 1e-9) >= 0.8


@pytest.mark.parametrize("seed", SEEDS)
def test_forced_changes_only_gain(seed: int) -> None:
    core = _Core(seed, users=25)
    fours.fill(np.array([0]), np.ones(3), 50, *core.arguments())
    before = core.worth()
    gain = fours.force(np.array([0, 1]), np.ones(3), 60, seed, 50, *core.arguments())
    core.check()
    assert gain >= 0
    assert core.worth() == pytest.approx(before + gain)


def test_forced_changes_leave_a_best_of_four_behind() -> None:
    gains = []
    for seed in range(10):
        core = _Core(seed, users=25)
        for _ in range(5):
            fours.fill(np.array([0]), np.ones(3), 50, *core.arguments())
        gains.append(fours.force(np.array([0, 1]), np.ones(3), 200, seed, 50, *core.arguments()))
    assert np.mean(np.array(gains) > 0) >= 0.3


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_limit_that_is_passed_is_mended(side: float) -> None:
    core = _Core(3, users=12)
    core.low[1], core.high[1:] = -np.inf, np.inf
    if side > 0:
        core.high[0], core.low[0] = -1.0, -np.inf
    else:
        core.high[0], core.low[0] = np.inf, 1.0
    fours.fill(np.array([0]), np.array([side, 1.0, 1.0]), 50, *core.arguments())
    core.check()
