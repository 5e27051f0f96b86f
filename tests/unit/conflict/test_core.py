"""The core: replies as columns, against the choices that they stand for and against enumeration."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from conflict.core import Core, bound_of_core, columns_of, core_of, relax, whole_program
from conflict.feasible import worth_of
from conflict.prices import bound_of
from conflict.problem import Floats, Mask, Problem, Rules
from conflict.programs import Answer, Program, Solved, Solver, solve
from conflict.reply import Box, worth

SEEDS = range(6)


def _some(rng: np.random.Generator, users: int = 4) -> Problem:
    """At most 12 candidates, two limits that bind, one task or two a user."""
    counts = rng.integers(1, 4, users)
    size = int(counts.sum())
    rules = Rules(
        member=np.array([[True, True], [True, False]]),
        summed=np.array([0, 1]),
        at_most=np.array([float(rng.integers(1, 4)), float(rng.integers(2, 5))]),
        at_least=np.array([float(rng.integers(0, 2)), -np.inf]),
        penalty=np.array([np.inf, rng.choice([np.inf, 0.5])]),
        slots=np.array([[1], [0]], np.int32),
        caps=np.array([99, 1], np.int32),
        families=("per_user.max_by.channel",),
        nested=True,
        max_tasks=int(rng.integers(1, 3)),
        min_tasks=0,
    )
    return Problem(
        rules=rules,
        value=rng.integers(-4, 12, size) / 4,
        amounts=rng.integers(0, 5, (1, size)) / 2,
        kind=rng.integers(0, 2, size).astype(np.uint16),
        starts=np.r_[0, np.cumsum(counts)].astype(np.int64),
    )


def _point(*prices: float) -> Box:
    at = np.array(prices)
    return Box(at=at, low=at, high=at)


def _choices(problem: Problem) -> list[Mask]:
    return [np.array(each) for each in product([False, True], repeat=problem.size)]


def _combinations(core: Core) -> list[list[int]]:
    """Every way to take at most one column a user."""
    own = [[-1, *np.flatnonzero(core.owner == user)] for user in np.unique(core.owner)]
    return [[int(each) for each in choice if each >= 0] for choice in product(*own)]


@pytest.mark.parametrize("seed", SEEDS)
def test_columns_add_up_to_the_choice_they_stand_for(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(10):
        problem = _some(rng)
        core = core_of(problem, _point(0.3, 0.2), 0.8)
        for columns in _combinations(core)[:60]:
            chosen = core.choice(np.array(columns, np.int64))
            assert problem.used(chosen) == pytest.approx(core.used + core.use[:, columns].sum(axis=1))
            worth_ = problem.value[core.base].sum() + core.value[columns].sum()
            assert problem.value[chosen].sum() == pytest.approx(worth_)
        adjusted = problem.adjusted(np.array([0.3, 0.2]))
        for column in range(core.value.size):
            chosen = core.choice(np.array([column]))
            lost = adjusted[core.base].sum() - adjusted[chosen].sum()
            assert core.losses[column] == pytest.approx(lost, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_program_over_all_replies_finds_the_optimum(seed: int) -> None:
    rng = np.random.default_rng(20 + seed)
    found = 0
    for _ in range(8):
        problem = replace(_some(rng), elsewhere=3.0)
        best = max(worth_of(problem, each) for each in _choices(problem))
        core = core_of(problem, _point(0.2, 0.4), 1e6)
        assert core.rivals.cut == 0
        solved = solve(whole_program(core), Solver.HIGHS, seconds=10)
        bound = bound_of_core(core, solved)
        if best == -np.inf:
            assert bound == -np.inf
            continue
        found += 1
        columns = columns_of(core, solved)
        assert columns is not None
        assert worth_of(problem, core.choice(columns)) == pytest.approx(best)
        assert bound == pytest.approx(best)
    assert found > 4


@pytest.mark.parametrize("seed", SEEDS)
def test_replies_that_lose_no_more_than_the_gap_hold_every_better_choice(seed: int) -> None:
    rng = np.random.default_rng(40 + seed)
    for _ in range(10):
        problem = _some(rng)
        prices = np.array([rng.uniform(0.1, 1), min(rng.uniform(0.1, 1), problem.rules.penalty[1])])
        bound = bound_of(problem.rules, prices, worth(problem, prices))
        scores = [worth_of(problem, each) for each in _choices(problem)]
        some = float(np.median([each for each in scores if each > -np.inf] or [0.0]))
        core = core_of(problem, _point(*prices), bound - some + 1e-9)
        kept = max(
            (worth_of(problem, core.choice(np.array(each, np.int64))) for each in _combinations(core)),
            default=-np.inf,
        )
        assert kept == pytest.approx(max(scores)) or max(scores) < some


def test_a_base_of_ones_own_is_kept_where_it_is_a_reply() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        problem = _some(rng)
        best = core_of(problem, _point(0.3, 0.2), 0.8)
        columns = np.array(
            [each[0] for each in [np.flatnonzero(best.owner == u) for u in range(4)] if each.size], np.int64
        )
        base = best.choice(columns)
        core = core_of(problem, _point(0.3, 0.2), 0.8, base)
        assert (core.base == base).all()
        assert core.used == pytest.approx(problem.used(base))
        assert core.value.size == best.value.size
        for column in range(core.value.size):
            chosen = core.choice(np.array([column]))
            assert problem.value[chosen].sum() == pytest.approx(
                problem.value[base].sum() + core.value[column]
            )
            assert problem.used(chosen) == pytest.approx(core.used + core.use[:, column])
        # who stands outside the replies that compete has none to change to
        outside = np.zeros(problem.size, np.bool_)
        outside[problem.value.argmin()] = True
        odd = core_of(problem, _point(0.3, 0.2), 0.0, outside)
        assert (odd.choice(np.zeros(0, np.int64)) == outside).all()


def test_the_nearest_columns_and_the_same_ones_elsewhere() -> None:
    problem = _some(np.random.default_rng(8), users=6)
    core = core_of(problem, _point(0.3, 0.2), 5.0)
    few = core.nearest(4)
    assert few.value.size == 4
    assert few.losses.max() <= np.sort(core.losses)[3]
    assert core.nearest(10_000) is core
    places = core.like(few, np.arange(4))
    assert core.owner[places].tolist() == few.owner.tolist()
    assert core.value[places] == pytest.approx(few.value)
    assert few.like(core, places).tolist() == [0, 1, 2, 3]


def _least(problem: Problem, box: Box, prices: Floats) -> float:
    return bound_of(problem.rules, prices, worth(problem, prices), problem.elsewhere)


@pytest.mark.parametrize("seed", SEEDS)
def test_relaxed_prices_bound_least_of_all_in_the_box(seed: int) -> None:
    rng = np.random.default_rng(60 + seed)
    for _ in range(15):
        problem = _some(rng, users=5)
        low, wide = rng.uniform(-0.3, 0.5, 2), rng.uniform(0.1, 1.0, 2)
        low = np.where(problem.rules.at_least == -np.inf, np.maximum(low, 0.0), low)
        box = Box(at=low + wide / 2, low=low, high=low + wide)
        prices, _, taken = relax(core_of(problem, box), box)
        assert ((prices >= box.low) & (prices <= box.high)).all()
        assert taken.min(initial=0.0) >= -1e-9
        least = _least(problem, box, prices)
        for part in rng.random((40, 2)):
            assert least <= _least(problem, box, box.low + part * wide) + 1e-9


def test_a_box_that_the_best_prices_leave_says_at_which_edge() -> None:
    # one unit among three: the price is 2 to 3
    problem = replace(
        _some(np.random.default_rng(0), users=3),
        value=np.array([4.0, 3.0, 2.0]), amounts=np.zeros((1, 3)), kind=np.zeros(3, np.uint16),
        starts=np.arange(4),
    )  # fmt: skip
    bounds = np.array([2.0, np.inf]), np.array([-np.inf, -np.inf])
    problem = problem.bounded(*bounds)
    box = Box(at=np.array([1.0, 0]), low=np.array([0.5, 0]), high=np.array([1.5, 0]))
    prices, stuck, _ = relax(core_of(problem, box), box)
    assert (prices[0], stuck.tolist()) == (1.5, [True, False])
    box = Box(at=np.array([4.0, 0]), low=np.array([3.5, 0]), high=np.array([4.5, 0]))
    prices, stuck, _ = relax(core_of(problem, box), box)
    assert (prices[0], stuck.tolist()) == (3.5, [True, False])
    box = Box(at=np.array([2.5, 0]), low=np.array([1.0, 0]), high=np.array([4.0, 0]))
    prices, stuck, taken = relax(core_of(problem, box), box)
    assert 2.0 <= prices[0] <= 3.0
    assert not stuck.any()
    assert taken == pytest.approx(np.round(taken))


def test_bounds_of_nothing() -> None:
    problem = _some(np.random.default_rng(1))
    core = core_of(problem, _point(0.1, 0.1), 0.5)
    none = Solved(answer=Answer.INFEASIBLE, x=None, objective=-np.inf, bound=np.inf, prices=None)
    assert bound_of_core(core, none) == -np.inf
    assert columns_of(core, none) is None
    program: Program = whole_program(core.only(np.zeros(0, np.int64)))
    assert program.value.size == 2 * problem.rules.limits
