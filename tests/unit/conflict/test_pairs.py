"""Pairs of changes: never worse, no pair left that is better, and the same again by the same seed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import pytest

from conflict.core import core_of
from conflict.feasible import worth_of
from conflict.improve import Improver
from conflict.pairs import descend, kick
from conflict.prices import bound_of, find_prices, units_of
from conflict.problem import Floats, Ints, Problem, Rules
from conflict.reply import Box, Here
from conflict.reply import worth as at_prices


@dataclass(frozen=True, kw_only=True)
class Moves:
    change: Floats
    value: Floats
    owner: Ints
    used: Floats
    low: Floats
    high: Floats
    dear: Floats

    def score(self, taken: Ints) -> float:
        columns = taken[taken >= 0]
        use = self.used + self.change[columns].sum(axis=0)
        over = np.maximum(use - self.high, 0) + np.maximum(self.low - use, 0)
        return float(self.value[columns].sum() - over @ self.dear)

    def descend(self, taken: Ints, steps: int) -> float:
        gain, cost = descend(
            self.change, self.value, self.owner, taken, self.used, self.low, self.high, self.dear, steps
        )
        return float(gain - cost)

    def kick(self, taken: Ints, rounds: int, seed: int) -> float:
        gain, cost = kick(
            self.change,
            self.value,
            self.owner,
            taken,
            self.used,
            self.low,
            self.high,
            self.dear,
            20,
            rounds,
            seed,
        )
        return float(gain - cost)

    def turned(self, taken: Ints, columns: tuple[int, ...]) -> Ints:
        other = taken.copy()
        for each in columns:
            user = self.owner[each]
            other[user] = -1 if other[user] == each else each
        return other


def _some(rng: np.random.Generator, users: int = 6, limits: int = 3) -> tuple[Moves, Ints]:
    counts = rng.integers(1, 4, users)
    size = int(counts.sum())
    owner = np.repeat(np.arange(users), counts)
    used = rng.integers(3, 8, limits).astype(np.float64)
    moves = Moves(
        change=rng.integers(-3, 4, (size, limits)) / 2,
        value=rng.normal(0, 1, size),
        owner=owner,
        used=used,
        low=np.where(rng.random(limits) < 0.4, used - rng.random(limits), -np.inf),
        high=used + rng.random(limits) - 0.3,
        dear=rng.choice([0.4, 5.0], limits),
    )
    taken = np.array([rng.choice([-1, *np.flatnonzero(owner == user)]) for user in range(users)])
    return moves, taken


@pytest.mark.parametrize("limits", [1, 3, 12])
def test_a_descent_is_never_worse_and_ends_where_no_pair_is_better(limits: int) -> None:
    rng = np.random.default_rng(limits)
    for _ in range(60):
        moves, taken = _some(rng, limits=limits)
        before = moves.score(taken)
        for steps in (0, 1, 2, 100):
            after = moves.descend(taken, steps)
            assert after == pytest.approx(moves.score(taken))
            assert after >= before - 1e-9
            before = after
        size = moves.value.size
        near: list[tuple[int, ...]] = [(each,) for each in range(size)]
        near += [
            pair for pair in combinations(range(size), 2) if moves.owner[pair[0]] != moves.owner[pair[1]]
        ]
        for columns in near:
            assert moves.score(moves.turned(taken, columns)) <= before + 1e-7
        # each user has one column at most, its own
        users = np.flatnonzero(taken >= 0)
        assert (moves.owner[taken[users]] == users).all()


def test_one_step_takes_the_best_pair() -> None:
    rng = np.random.default_rng(9)
    for _ in range(40):
        moves, taken = _some(rng, users=4)
        size = moves.value.size
        near: list[tuple[int, ...]] = [(each,) for each in range(size)]
        near += [
            pair for pair in combinations(range(size), 2) if moves.owner[pair[0]] != moves.owner[pair[1]]
        ]
        best = max(moves.score(moves.turned(taken, columns)) for columns in near)
        before = moves.score(taken)
        assert moves.descend(taken, 1) == pytest.approx(max(best, before))


def test_kicks_are_never_worse_and_the_same_by_the_same_seed() -> None:
    rng = np.random.default_rng(4)
    better = different = 0
    for seed in range(40):
        moves, start = _some(rng, users=12)
        first, again, other = start.copy(), start.copy(), start.copy()
        before = moves.descend(first, 100)
        again[:], other[:] = first, first
        after = moves.kick(first, 30, seed)
        assert moves.kick(again, 30, seed) == after
        assert (first == again).all()
        assert after >= before - 1e-12
        assert after == pytest.approx(moves.score(first))
        better += after > before + 1e-9
        different += moves.kick(other, 1, seed + 1) != moves.kick(start, 1, seed)
    assert better > 5
    assert different > 0


def _crowd(rng: np.random.Generator) -> Problem:
    size = 600
    rules = Rules(
        member=np.array([[True, True], [True, False]]), summed=np.array([1, 0]),
        at_most=np.array([60.0, 40.0]), at_least=np.array([-np.inf, 39.0]), penalty=np.full(2, np.inf),
        slots=np.zeros((2, 0), np.int32), caps=np.array([9], np.int32), families=(), nested=True,
        max_tasks=1, min_tasks=0,
    )  # fmt: skip
    return Problem(
        rules=rules, value=rng.lognormal(0, 0.5, size), amounts=rng.uniform(0.5, 2, (1, size)),
        kind=rng.integers(0, 2, size).astype(np.uint16), starts=np.arange(0, size + 1, 4),
    )  # fmt: skip


def test_an_improver_only_gets_better_and_keeps_what_holds() -> None:
    problem = _crowd(np.random.default_rng(2))
    prices = find_prices(Here(problem=problem), seed=0, end=np.inf).values
    core = core_of(problem, Box(at=prices, low=prices, high=prices), 0.3)
    improver = Improver(core, prices, np.maximum(units_of(problem), np.abs(prices)), seed=1)
    improver.start(np.zeros(0, np.int64))
    worth = [worth_of(problem, improver.choice())]
    for _ in range(3):
        improver.kick()
        worth.append(worth_of(problem, improver.choice()))
        improver.look_around()
        worth.append(worth_of(problem, improver.choice()))
    assert worth[0] > -np.inf
    assert all(after >= before for before, after in pairwise(worth))
    bound = bound_of(problem.rules, prices, at_prices(problem, prices))
    assert bound >= worth[-1] > 0.999 * bound


def test_one_kick_is_drawn_by_its_seed_alone() -> None:
    rng = np.random.default_rng(5)
    ends = set()
    for _ in range(10):
        moves, start = _some(rng, users=40, limits=2)
        for seed in (1, 2):
            first, again = start.copy(), start.copy()
            moves.kick(first, 1, seed)
            moves.kick(again, 1, seed)
            assert (first == again).all()
            ends.add(first.tobytes())
    assert len(ends) > 10
