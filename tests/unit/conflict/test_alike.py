"""Users alike, counted once: the same worth at every price, and what each of them is dealt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conflict.alike import dealt, gathered
from conflict.core import core_of
from conflict.feasible import keeps_rules
from conflict.problem import Ints, Problem, Rules
from conflict.reply import Box, worth

SEEDS = range(6)


def _crowd(rng: np.random.Generator, users: int = 120, times: bool = False) -> Problem:
    """Candidates on so coarse a grid that many users are alike."""
    counts = rng.integers(1, 3, users)
    size = int(counts.sum())
    rules = Rules(
        member=np.array([[True, True], [True, False]]), summed=np.array([0, 1]),
        at_most=np.array([users / 3, users / 4]), at_least=np.full(2, -np.inf), penalty=np.full(2, np.inf),
        slots=np.array([[1], [0]], np.int32), caps=np.array([9, 1], np.int32), families=("f",), nested=True,
        max_tasks=2, min_tasks=0,
    )  # fmt: skip
    return Problem(
        rules=rules,
        value=rng.integers(1, 3, size) / 2,
        amounts=rng.integers(0, 2, (1, size)).astype(np.float64),
        kind=rng.integers(0, 2, size).astype(np.uint16),
        starts=np.r_[0, np.cumsum(counts)].astype(np.int64),
        times=rng.integers(1, 4, users) if times else np.zeros(0, np.int64),
    )


def _own(problem: Problem, user: int) -> bytes:
    part = slice(problem.starts[user], problem.starts[user + 1])
    return b"|".join(
        each.tobytes() for each in (problem.value[part], problem.amounts[:, part], problem.kind[part])
    )


@pytest.mark.parametrize("times", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_sorts_are_the_different_users_and_their_counts(seed: int, times: bool) -> None:
    rng = np.random.default_rng(seed)
    problem = _crowd(rng, times=times)
    alike, sort = gathered(problem)
    assert alike.users == len({_own(problem, user) for user in range(problem.users)}) < 80
    for user in range(problem.users):
        assert _own(alike, sort[user]) == _own(problem, user)
    many = problem.times if times else np.ones(problem.users, np.int64)
    assert alike.times.tolist() == np.bincount(sort, weights=many).tolist()
    for _ in range(20):
        prices = rng.uniform(-0.5, 1, 2)
        whole, few = worth(problem, prices), worth(alike, prices)
        assert few.net == pytest.approx(whole.net)
        assert few.gross == pytest.approx(whole.gross)
        assert few.use == pytest.approx(whole.use)


def test_who_differs_in_anything_is_of_another_sort() -> None:
    problem = _crowd(np.random.default_rng(0), users=1)
    one, two = problem.value.size, np.arange(2)
    twice = replace(
        problem, value=np.tile(problem.value, 2), amounts=np.tile(problem.amounts, 2),
        kind=np.tile(problem.kind, 2), starts=np.array([0, one, 2 * one]),
    )  # fmt: skip
    assert gathered(twice)[0].users == 1
    for column in ("value", "kind"):
        other = np.array(getattr(twice, column))
        other[one] += 1
        changed = replace(twice, **{column: other})
        assert gathered(changed)[0] is changed
        assert gathered(changed)[1].tolist() == two.tolist()
    amounts = twice.amounts.copy()
    amounts[0, one] += 1
    assert gathered(replace(twice, amounts=amounts))[0].users == 2


def _taken(rng: np.random.Generator, owner: Ints, times: Ints, whole: bool) -> np.ndarray:
    """How many of each sort take each column, no more than there are."""
    taken = np.zeros(owner.size)
    for user in np.unique(owner):
        own = np.flatnonzero(owner == user)
        parts = rng.multinomial(times[user], np.full(own.size + 1, 1 / (own.size + 1)))[:-1]
        taken[own] = parts if whole else np.maximum(parts - rng.random(own.size), 0)
    return taken


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_dealt_adds_up(seed: int, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    problem = _crowd(rng)
    alike, sort = gathered(problem)
    prices = np.array([0.3, 0.2])
    core = core_of(alike, Box(at=prices, low=prices - 0.3, high=prices + 0.3), 0.5)
    assert core.owner.size > 10
    taken = _taken(rng, core.owner, alike.times, whole)
    chosen, sure = dealt(problem, sort, core, taken, seed)
    assert keeps_rules(problem, chosen)
    # whoever is not sure takes nothing yet
    assert not chosen[~sure[problem.user_of()]].any()
    takes = {_reply(problem, chosen, user): 0 for user in range(problem.users) if sure[user]}
    for user in np.flatnonzero(sure):
        takes[_reply(problem, chosen, int(user))] += 1
    assert sum(takes.values()) == sure.sum()
    if whole:
        assert sure.all()
        assert problem.used(chosen) == pytest.approx(core.used + core.use @ taken)
        base = np.repeat(alike.times, np.diff(alike.starts))[core.base] @ alike.value[core.base]
        assert problem.value[chosen].sum() == pytest.approx(base + core.value @ taken)
    else:
        assert 0 < (~sure).sum() <= 2 * core.owner.size
    # the seed draws who, not how many
    again, _ = dealt(problem, sort, core, taken, seed)
    other, _ = dealt(problem, sort, core, taken, seed + 1)
    assert (again == chosen).all()
    assert (other != chosen).any()
    assert problem.used(other) == pytest.approx(problem.used(chosen))


def _reply(problem: Problem, chosen: np.ndarray, user: int) -> bytes:
    part = slice(problem.starts[user], problem.starts[user + 1])
    return _own(problem, user) + chosen[part].tobytes()
