"""Bred choices: they keep all limits, are worth what they say, differ, and reach the best of few."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import polars as pl
import pytest

from conflict.allocate import allocate
from conflict.feasible import worth_of
from conflict.pack import begin, breed
from conflict.packing import Packing
from conflict.problem import Floats, Ints, Mask, Problem, compile_problem
from kernel.choices import Limit, Limits, PerUser

ITEMS, SACKS = 12, 3


def _frame(seed: int, items: int = ITEMS, sacks: int = SACKS) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    use = rng.integers(0, 100, (sacks, items))
    return pl.DataFrame(
        {
            "user": np.arange(items),
            "task": np.zeros(items, np.int64),
            "value": np.floor(use.mean(axis=0) + 50 * rng.random(items)) + 1,
            **{f"use{sack}": use[sack] for sack in range(sacks)},
        }
    )


def _limits(frame: pl.DataFrame, **rules: int) -> Limits:
    sacks = [column for column in frame.columns if column[:3] == "use" and column != "user"]
    limits = tuple(
        Limit(name=column, sum=column, at_most=float(frame[column].sum() // 2)) for column in sacks
    )
    return Limits(per_user=PerUser(**rules), limits=limits)


def _problem(seed: int) -> Problem:
    frame = _frame(seed)
    return compile_problem(frame, _limits(frame))[0]


def _best(problem: Problem) -> float:
    ways = np.array(list(product([False, True], repeat=problem.size)))
    return max(worth_of(problem, way) for way in ways)


def _packing(problem: Problem, priced: float = 1e9) -> Packing:
    packing = Packing.of(problem, np.full(SACKS, 0.4), priced, 1)
    assert packing is not None
    return packing


def _bred(problem: Problem, children: int, seed: int = 1) -> tuple[Mask, Floats, int, int]:
    """Members, their worth, children born, and the worth of the best at the beginning."""
    use = np.array([problem.usage(sack) for sack in range(SACKS)]).T.copy()
    room = problem.rules.at_most
    order: Ints = np.argsort(-problem.value / use.sum(axis=1), kind="stable")
    members, worth = np.zeros((20, problem.size), np.bool_), np.zeros(20)
    begin(seed, problem.value, use, room, members, worth)
    first = int(worth.max())
    born = breed(children, 50 * children, seed, problem.value, use, room, order, members, worth)
    return members, worth, born, first


@pytest.mark.parametrize("children", [0, 1, 50, 400])
@pytest.mark.parametrize("seed", range(3))
def test_all_keep_their_limits_and_are_worth_what_they_say(seed: int, children: int) -> None:
    problem = _problem(seed)
    members, worth, born, first = _bred(problem, children)
    assert [worth_of(problem, member) for member in members] == list(worth)
    assert born <= children
    assert worth.max() >= first


def test_no_child_is_like_another_member() -> None:
    members, _, born, _ = _bred(_problem(1), 400)
    assert born > 50
    assert len({member.tobytes() for member in members}) == len(members)


def test_the_same_seed_breeds_the_same() -> None:
    one, two, other = (_bred(_problem(1), 30, seed)[0] for seed in (1, 1, 2))
    assert (one == two).all()
    assert not (one == other).all()


@pytest.mark.parametrize("seed", range(6))
def test_finds_the_best_of_few(seed: int) -> None:
    problem = _problem(seed)
    best, packing = _best(problem), _packing(problem)
    found = -np.inf
    for _ in range(3):
        chosen = packing.search(found, time.monotonic() + 1e6)
        if chosen is not None:
            assert worth_of(problem, chosen) > found
            found = worth_of(problem, chosen)
    assert found == best
    # where nothing better is to be had, nothing is told
    assert packing.search(best, time.monotonic() + 1e6) is None


@pytest.mark.parametrize("seed", range(6))
def test_settles_only_what_the_best_has_settled(seed: int) -> None:
    """At the prices of the linear program, with as much left to gain as there is."""
    problem = _problem(seed)
    best = _best(problem)
    prices = np.full(SACKS, 0.4)
    adjusted = problem.adjusted(prices)
    priced = float(np.maximum(adjusted, 0.0).sum() + prices @ problem.rules.at_most)
    packing = Packing.of(problem, prices, priced, 1)
    assert packing is not None
    chosen = None
    for _ in range(3):
        chosen = packing.search(best - 1.0, time.monotonic() + 1e6) if chosen is None else chosen
    assert chosen is not None
    assert worth_of(problem, chosen) == best


def test_other_problems_are_left_to_others() -> None:
    frame = _frame(1)
    plain = _limits(frame)
    prices = np.full(SACKS, 0.4)

    def of(rows: pl.DataFrame, limits: Limits) -> Packing | None:
        return Packing.of(compile_problem(rows, limits)[0], prices, 1e9, 1)

    assert of(frame, plain) is not None
    twice = pl.concat([frame, frame.head(1).with_columns(task=pl.lit(1, pl.Int64))])
    assert of(twice, plain) is None
    assert of(frame, _limits(frame, min_tasks=1)) is None
    assert of(frame.with_columns(use0=pl.col("use0") - 200), plain) is None
    for changed in ({"at_least": 1.0}, {"penalty": 3.0}):
        first = plain.limits[0].model_copy(update=changed)
        assert of(frame, plain.model_copy(update={"limits": (first, *plain.limits[1:])})) is None


def test_is_part_of_the_search() -> None:
    """A knapsack that branch and cut does not settle at once: what is found keeps all limits."""
    frame = _frame(5, items=120, sacks=10)
    limits = _limits(frame)
    found = allocate(frame, limits, time_limit=4.0, seed=1)
    assert found.objective == found.assignments["value"].sum()
    assert found.bound is not None
    assert found.objective is not None
    assert found.bound >= found.objective > 0.98 * found.bound
