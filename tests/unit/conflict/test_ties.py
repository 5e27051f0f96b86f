"""Prices where values stand on a grid and costs in tiers, so that hardly any user is without ties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.crowd import crowd
from conflict.grid import on_grid
from conflict.prices import Prices, bound_of, find_prices, settle, units_of
from conflict.problem import Floats, Problem
from conflict.reply import Here, worth
from conflict.whole import linear_prices

END = 1e12


def _problem(users: int, seed: int) -> Problem:
    """20 campaigns under 31 limits; float rounding makes some of the ties a little less than exact."""
    return on_grid(crowd(users, seed, tied=True)[0])


def _bound(problem: Problem, prices: Floats) -> float:
    return bound_of(problem.rules, prices, worth(problem, prices), problem.elsewhere)


@pytest.fixture
def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conflict.prices._OPEN", 1_500)
    monkeypatch.setattr("conflict.prices._LARGEST_TIED", 4_000)


@pytest.mark.usefixtures("small_samples")
@pytest.mark.parametrize("seed", [1, 2])
def test_known_ties_lead_to_the_least_bound(seed: int) -> None:
    problem = _problem(5_000, seed)
    units = units_of(problem.people(np.arange(400)))
    fresh = find_prices(Here(problem=problem), seed=seed, end=END)
    assert fresh.exact
    # from a neighbour's prices, told that there are ties, and from prices quite wrong
    near = Prices(values=fresh.values * 1.002, spread=0.01 * units, exact=True, alike=9.0)
    wrong = replace(near, values=fresh.values * 1.05, spread=0.001 * units)
    for start in (near, wrong):
        found = settle(Here(problem=problem), start, units, 1e5, seed=seed, end=END)
        assert found.exact
        assert found.alike > 1
        assert _bound(problem, found.values) == pytest.approx(_bound(problem, fresh.values), rel=1e-9)
        # the box with room, and the one of the program
        assert len(found.levels) >= 2
        assert found.taken is not None


@pytest.mark.usefixtures("small_samples")
def test_prices_among_ties_are_those_of_the_whole_program() -> None:
    problem = _problem(400, 3)
    units = units_of(problem)
    start = Prices(values=np.zeros(units.size), spread=2.0 * units, exact=True, alike=9.0)
    found = settle(Here(problem=problem), start, units, 1e5, seed=3, end=END)
    _, least, _ = linear_prices(problem, seconds=20.0)
    assert found.exact
    assert _bound(problem, found.values) == pytest.approx(least, rel=1e-7)


def test_samples_tell_of_ties() -> None:
    tied, apart = (
        find_prices(Here(problem=on_grid(crowd(20_000, 1, tied=each)[0])), seed=1, end=END)
        for each in (True, False)
    )
    assert tied.exact
    assert apart.exact
    assert apart.alike < 1.1 < 1.3 < tied.alike
