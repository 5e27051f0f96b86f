"""Prices under very many limits, and pairs of changes that share one, against the ways of few limits."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.crowd import crowd
from conflict import swaps
from conflict.newton import Newton
from conflict.prices import bound_of, ends, find_prices, units_of
from conflict.problem import Floats
from conflict.reply import Here, worth

USERS = 3_000


def _never(_: Floats) -> bool:
    return False


def test_newton_comes_to_the_bound_of_exact_prices() -> None:
    problem, _ = crowd(USERS, 3, many=40)
    units = units_of(problem)
    typical = float(np.mean(problem.value))
    least, most = ends(problem.rules, 100 * units)
    search = Newton(
        crowd=Here(problem=problem), units=units, typical=typical, least=least, most=most, seed=3,
        values=np.zeros(units.size), width=typical,
    )  # fmt: skip
    search.samples(np.inf, _never)
    search.everybody(np.inf)
    found = bound_of(problem.rules, search.values, worth(problem, search.values))
    exact = find_prices(Here(problem=problem), seed=3, end=np.inf)
    assert exact.exact
    best = bound_of(problem.rules, exact.values, worth(problem, exact.values))
    assert best - 1e-9 <= found <= best * (1 + 1e-4)
    box = search.box()
    assert (box.low <= search.values).all()
    assert (search.values <= box.high).all()


def _state(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """12 columns of 8 users, each touching two of 6 limits."""
    columns, limits = 12, 6
    rows = np.array([np.sort(rng.choice(limits, 2, replace=False)) for _ in range(columns)])
    amounts = rng.uniform(0.2, 1.0, (columns, 2))
    owner = np.sort(np.r_[np.arange(8), rng.integers(0, 8, columns - 8)])
    value, dear = rng.uniform(-0.2, 0.5, columns), np.full(limits, 9.0)
    taken, use = np.full(8, -1), np.zeros(limits)
    low, high = np.full(limits, -np.inf), rng.uniform(0.5, 1.2, limits)
    starts = 2 * np.arange(columns + 1)
    return starts, rows.ravel(), amounts.ravel(), value, owner, taken, use, low, high, dear


@pytest.mark.parametrize("seed", range(8))
def test_a_sweep_gains_what_it_says_and_leaves_no_pair_at_a_limit(seed: int) -> None:
    state = _state(np.random.default_rng(seed))
    starts, rows, amounts, value, owner, taken, use, _, high, dear = state
    members = np.argsort(rows, kind="stable") // 2
    firsts = np.searchsorted(np.sort(rows), np.arange(7))
    gained = 0.0
    while more := swaps.sweep(np.arange(6), firsts, members, 99, *state):
        gained += more
    columns = taken[taken >= 0]
    again = np.zeros(6)
    for each in columns:
        np.add.at(again, rows[starts[each] : starts[each + 1]], amounts[starts[each] : starts[each + 1]])
    assert use == pytest.approx(again)
    net = value[columns].sum() - (dear * np.maximum(use - high, 0.0)).sum()
    assert gained == pytest.approx(net)
    assert (owner[columns] == np.flatnonzero(taken >= 0)).all()

    def worth_(some: np.ndarray) -> float:
        here = np.zeros(6)
        for each in some[some >= 0]:
            np.add.at(here, rows[starts[each] : starts[each + 1]], amounts[starts[each] : starts[each + 1]])
        return float(value[some[some >= 0]].sum() - (dear * np.maximum(here - high, 0.0)).sum())

    for one in range(value.size):
        for other in range(value.size):
            both = np.intersect1d(rows[2 * one : 2 * one + 2], rows[2 * other : 2 * other + 2])
            if owner[one] != owner[other] and both.size:
                trial = taken.copy()
                for each in (one, other):
                    trial[owner[each]] = -1 if trial[owner[each]] == each else each
                assert worth_(trial) <= net + 1e-8


def test_shaking_never_loses() -> None:
    state = _state(np.random.default_rng(1))
    rows = state[1]
    members, firsts = np.argsort(rows, kind="stable") // 2, np.searchsorted(np.sort(rows), np.arange(7))
    gained = swaps.shake(50, 7, firsts, members, 9, *state)
    taken, use, high, dear, value = state[5], state[6], state[8], state[9], state[3]
    net = value[taken[taken >= 0]].sum() - (dear * np.maximum(use - high, 0.0)).sum()
    assert gained == pytest.approx(net)
    assert net > 0


def test_very_many_limits_go_by_newton() -> None:
    problem, _ = crowd(5_000, 1, many=160)
    assert problem.rules.limits > 200
    told: list[str] = []
    found = find_prices(Here(problem=problem), seed=1, end=np.inf, say=told.append)
    assert any("replies open" in each for each in told)
    best = bound_of(problem.rules, found.values, worth(problem, found.values))
    few = bound_of(problem.rules, found.values * 0.9, worth(problem, found.values * 0.9))
    assert best < few
    assert found.levels
