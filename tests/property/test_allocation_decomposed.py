"""The parts that large problems are solved by, on tiny problems where enumeration knows the answer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conflict.api import allocate, verify
from conflict.bundle import contradicts, descend
from conflict.greedy import greedy
from conflict.part import feasible
from conflict.prices import find_prices
from conflict.problem import Problem, compile_problem
from conflict.reply import best_replies, flip_losses
from kernel.choices import Limit, Limits, PerUser, Status

QUICK = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
LABELS = ("a", "b", "c")


@st.composite
def problems(draw: st.DrawFn) -> tuple[pl.DataFrame, Limits]:
    users = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    rows = [(user, task) for user, tasks in enumerate(users) for task in range(tasks)]
    numbers = st.integers(-8, 16).map(lambda each: each / 4)
    column = lambda of: [draw(of) for _ in rows]  # noqa: E731 - one line reads better here
    frame = pl.DataFrame(
        {
            "user": [user for user, _ in rows],
            "task": [task for _, task in rows],
            "value": column(numbers),
            "cost": column(st.integers(0, 4)),
            "first": column(st.sampled_from(LABELS)),
            "second": column(st.sampled_from(LABELS)),
        }
    )
    most = draw(st.integers(1, 3))
    rules = PerUser(
        max_tasks=most,
        min_tasks=draw(st.sampled_from([0, 0, 1])),
        max_by={
            c: {frame[c][0]: draw(st.integers(0, 2))}
            for c in draw(st.sets(st.sampled_from(["first", "second"])))
        },
        never_together=((0, 1),) if max(users) > 1 and draw(st.booleans()) else (),
    )
    limits = (
        Limit(name="budget", sum="cost", at_most=draw(st.integers(0, 12))),
        Limit(name="label", where={"first": frame["first"][0]}, at_most=draw(st.integers(1, 3)), at_least=1)
        if draw(st.booleans())
        else Limit(name="volume", where={"task": 0}, at_least=draw(st.integers(0, 2))),
    )
    return frame, Limits(per_user=rules, limits=limits)


def _subsets(problem: Problem, first: int, last: int) -> Iterator[list[int]]:
    for count in range(problem.min_tasks, problem.max_tasks + 1):
        for subset in combinations(range(first, last), count):
            filled = [np.bincount(row[list(subset)], minlength=problem.caps.size) for row in problem.slots]
            if all((each[1:] <= problem.caps[1:]).all() for each in filled):
                yield list(subset)


@QUICK
@given(problems(), st.lists(st.integers(-2, 8), min_size=2, max_size=2))
def test_replies_and_flip_losses_are_those_of_enumeration(
    made: tuple[pl.DataFrame, Limits], prices: list[int]
) -> None:
    problem = compile_problem(*made)
    adjusted = problem.adjusted(np.array(prices) / 4)
    chosen, upper = best_replies(problem, adjusted)
    losses = flip_losses(problem, adjusted, chosen, upper)
    for user in range(problem.users):
        first, last = problem.starts[user], problem.starts[user + 1]
        subsets = list(_subsets(problem, first, last))
        best = max((adjusted[each].sum() for each in subsets), default=-np.inf)
        assert upper[user] == pytest.approx(best)
        if not subsets:
            continue
        assert adjusted[first:last][chosen[first:last]].sum() == pytest.approx(best)
        for each in range(first, last):
            other = [s for s in subsets if (each in s) != chosen[each]]
            worth = max((adjusted[s].sum() for s in other), default=-np.inf)
            assert losses[each] == pytest.approx(best - worth)


def _optimum(problem: Problem) -> float:
    best = -np.inf
    for bits in range(2**problem.size):
        chosen = np.array([bool(bits >> each & 1) for each in range(problem.size)])
        if feasible(problem, chosen):
            best = max(best, float(problem.value[chosen].sum()))
    return best


@QUICK
@given(problems())
def test_descent_bounds_the_optimum_as_tightly_as_the_linear_program(
    made: tuple[pl.DataFrame, Limits],
) -> None:
    problem = compile_problem(*made)
    best = _optimum(problem)
    linear = find_prices(problem, seconds=10.0)
    if contradicts(problem, seconds=10.0):
        assert best == -np.inf
        return
    if linear.infeasible:
        return
    _, bound = descend(problem, np.zeros(2), 1.0, seconds=10.0)
    assert bound >= best - 1e-9
    # users' own rules are kept whole here, and only in fractions by the linear program
    assert bound <= linear.bound + 1e-5 * max(1.0, abs(linear.bound))


@QUICK
@given(problems())
def test_greedy_passes_no_ceiling_and_no_cap(made: tuple[pl.DataFrame, Limits]) -> None:
    frame, limits = made
    problem = compile_problem(frame, limits)
    chosen = greedy(problem, problem.value, np.zeros(problem.size, np.bool_))
    for broken in verify(frame, limits, frame[problem.rows[chosen]]):
        assert broken.found < broken.allowed, broken


@QUICK
@given(problems())
def test_the_way_of_the_large_finds_the_optimum_of_the_small(made: tuple[pl.DataFrame, Limits]) -> None:
    frame, limits = made
    best = _optimum(compile_problem(frame, limits))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("conflict.allocate._SMALL", 0)
        patch.setattr("conflict.allocate._CORE", 2)
        patch.setattr("conflict.prices.LINEAR", 0)
        answer = allocate(frame, limits)
    if best == -np.inf:
        assert answer.status is Status.INFEASIBLE
        return
    assert answer.status is Status.OPTIMAL
    assert answer.objective == pytest.approx(best, rel=1e-6, abs=1e-6)
    assert verify(frame, limits, answer.assignments) == []
