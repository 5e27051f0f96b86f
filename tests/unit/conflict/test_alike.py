"""Users alike, counted once: the same best prices, and what each of them is dealt."""

from __future__ import annotations

import numpy as np
import pytest

from conflict.alike import dealt, sorts_of
from conflict.core import Core, core_of, relax
from conflict.feasible import keeps_rules
from conflict.prices import bound_of
from conflict.problem import Floats, Problem, Rules
from conflict.reply import Box, worth

SEEDS = range(6)


def _crowd(rng: np.random.Generator, users: int = 120) -> Problem:
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
    )


def _core(rng: np.random.Generator) -> tuple[Problem, Core, Box]:
    problem = _crowd(rng)
    prices = np.array([0.3, 0.2])
    box = Box(at=prices, low=np.zeros(2), high=prices + 0.6)
    return problem, core_of(problem, box), box


def _own(core: Core, user: int) -> tuple[tuple[float, ...], ...]:
    """What a user can change, in any order."""
    mine = np.flatnonzero(core.owner == user)
    return tuple(sorted((core.value[each], *core.use[:, each].tolist()) for each in mine))


@pytest.mark.parametrize("seed", SEEDS)
def test_sorts_are_what_users_can_choose_between(seed: int) -> None:
    _, core, _ = _core(np.random.default_rng(seed))
    sorts = sorts_of(core)
    users = np.unique(core.owner)
    wanted: dict[tuple[tuple[float, ...], ...], int] = {}
    for user in users:
        wanted[_own(core, user)] = wanted.get(_own(core, user), 0) + 1
    assert len(wanted) == sorts.firsts.size - 1 < users.size / 2
    assert sorts.core.times is not None
    for sort in range(len(wanted)):
        mine = slice(sorts.firsts[sort], sorts.firsts[sort + 1])
        assert set(sorts.core.times[mine]) == {wanted[_own(sorts.core, sort)]}
        for user in np.flatnonzero(sorts.sort == sort):
            columns = sorts.order[sorts.starts[user] : sorts.starts[user + 1]]
            # place by place, whoever is dealt one
            assert core.value[columns] == pytest.approx(sorts.core.value[mine])
            assert core.use[:, columns] == pytest.approx(sorts.core.use[:, mine])


@pytest.mark.parametrize("seed", SEEDS)
def test_prices_of_sorts_bound_as_tightly_as_those_of_all(seed: int) -> None:
    problem, core, box = _core(np.random.default_rng(20 + seed))
    all_, _, _ = relax(core, box)
    few, _, taken = relax(sorts_of(core).core, box)
    one, two = (bound_of(problem.rules, each, worth(problem, each)) for each in (all_, few))
    assert two == pytest.approx(one, rel=1e-9)
    assert taken.max() > 1, "a sort stands for many"


def _taken(rng: np.random.Generator, core: Core, whole: bool) -> Floats:
    """How many of each sort take each column, no more than there are."""
    assert core.times is not None
    taken = np.zeros(core.owner.size)
    for sort in np.unique(core.owner):
        own = np.flatnonzero(core.owner == sort)
        parts = rng.multinomial(core.times[own[0]], np.full(own.size + 1, 1 / (own.size + 1)))[:-1]
        taken[own] = parts if whole else np.maximum(parts - rng.random(own.size), 0)
    return taken


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_dealt_adds_up(seed: int, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    problem, core, _ = _core(rng)
    sorts = sorts_of(core)
    taken = _taken(rng, sorts.core, whole)
    chosen, sure = dealt(core, sorts, taken, seed)
    assert keeps_rules(problem, chosen)
    if whole:
        assert sure.all()
        assert problem.used(chosen) == pytest.approx(core.used + sorts.core.use @ taken)
        base = problem.value[core.base].sum()
        assert problem.value[chosen].sum() == pytest.approx(base + sorts.core.value @ taken)
    else:
        assert 0 < (~sure).sum() <= 2 * sorts.core.owner.size
        # who is not sure has the base's reply for now
        for user in np.flatnonzero(~sure):
            own = slice(problem.starts[user], problem.starts[user + 1])
            assert (chosen[own] == core.base[own]).all()
    # the seed draws who, not how many
    again, _ = dealt(core, sorts, taken, seed)
    other, _ = dealt(core, sorts, taken, seed + 1)
    assert (again == chosen).all()
    assert (other != chosen).any()
    assert problem.used(other) == pytest.approx(problem.used(chosen))
