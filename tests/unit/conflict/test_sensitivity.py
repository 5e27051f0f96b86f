"""Ranges of bounds, against the prices of linear programs on either side of their ends."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from conflict.api import allocate
from conflict.problem import Problem, compile_problem
from conflict.sensitivity import sensitivity
from conflict.whole import linear_prices
from kernel.choices import Limits


def _problem(seed: int, users: int = 40, *, soft: bool = False) -> Problem:
    rng = np.random.default_rng(seed)
    task = np.tile(np.arange(4), users)
    frame = pl.DataFrame(
        {
            "user": np.repeat(np.arange(users), 4),
            "task": task,
            "value": rng.lognormal(0, 0.6, task.size),
            "cost": rng.uniform(0.5, 2.0, task.size),
        }
    )
    limits = Limits.model_validate(
        {
            "per_user": {"max_tasks": 2},
            "limits": [
                {
                    "name": "money",
                    "sum": "cost",
                    "at_most": 0.6 * users,
                    **({"penalty": 0.3} if soft else {}),
                },
                {"name": "first", "where": {"task": 0}, "at_most": 0.2 * users + 0.5},
                {"name": "slack", "where": {"task": 1}, "at_most": 3.0 * users},
                {"name": "volume", "sum": "cost", "where": {"task": 2}, "at_least": 0.45 * users},
            ],
        }
    )
    return compile_problem(frame, limits)[0]


def _price(problem: Problem, limit: int, bound: float) -> float:
    rules = problem.rules
    at_most, at_least = rules.at_most.copy(), rules.at_least.copy()
    side = at_most if np.isfinite(at_most[limit]) else at_least
    side[limit] = bound
    return float(linear_prices(problem.bounded(at_most, at_least), seconds=10.0)[0][limit])


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_price_is_the_same_inside_the_range_and_another_outside(seed: int, soft: bool) -> None:
    problem = _problem(seed, soft=soft)
    prices = linear_prices(problem, seconds=10.0)[0]
    ranges = sensitivity(problem, prices)
    checked = 0
    for limit, ends in enumerate(ranges):
        assert ends is not None
        bound = max(problem.rules.at_most[limit], -np.inf)
        bound = problem.rules.at_least[limit] if np.isinf(bound) else bound
        low, high = ends
        assert (-np.inf if low is None else low) - 1e-6 <= bound <= (np.inf if high is None else high) + 1e-6
        for end, out in ((low, -1.0), (high, 1.0)):
            if end is None:
                assert _price(problem, limit, bound + out * 0.3 * abs(bound)) == pytest.approx(prices[limit])
                continue
            step = 2e-3
            if abs(end - bound) > step:
                assert _price(problem, limit, end - out * step) == pytest.approx(prices[limit], abs=1e-7)
            assert _price(problem, limit, end + out * step) != pytest.approx(prices[limit], abs=1e-7)
            checked += 1
    assert checked >= 4


def test_a_bound_that_does_not_bind_may_rise_for_ever_and_fall_to_its_use() -> None:
    frame = pl.DataFrame({"user": [1, 2, 3], "task": ["a"] * 3, "value": [3.0, 2.0, 1.0]})
    limits = Limits.model_validate({"limits": [{"name": "few", "at_most": 7}]})
    (use,) = allocate(frame, limits).limits
    assert (use.price, use.range) == (0.0, (3.0, None))


def test_prices_that_are_not_of_the_best_bound_have_no_ranges() -> None:
    problem = _problem(0)
    prices = linear_prices(problem, seconds=10.0)[0]
    assert sensitivity(problem, prices + 0.01) == (None,) * 4
