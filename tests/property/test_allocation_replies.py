"""One user's best reply where rules cross, against enumeration, with more candidates than elsewhere."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from conflict.problem import Problem
from conflict.reply import best_replies, flip_losses


def _one_user(rng: np.random.Generator) -> Problem:
    size, families = int(rng.integers(5, 9)), int(rng.integers(1, 4))
    caps, slots = [2**31 - 1], np.zeros((families, size), np.int32)
    for family in range(families):
        names = list(range(len(caps), len(caps) + int(rng.integers(1, 4))))
        caps += [int(each) for each in rng.integers(0, 3, len(names))]
        slots[family] = rng.choice([0, *names], size)
    least = int(rng.integers(0, 3))
    return Problem(
        rows=np.arange(size),
        value=np.round(rng.normal(0.4, 1.0, size), 1),
        starts=np.array([0, size]),
        pattern=np.zeros(size, np.int32),
        member=np.zeros((1, 0), np.bool_),
        amounts=np.ones((1, size)),
        summed=np.zeros(0, np.int64),
        at_most=np.zeros(0),
        at_least=np.zeros(0),
        slots=slots,
        caps=np.array(caps, np.int32),
        families=tuple(f"family{each}" for each in range(families)),
        max_tasks=least + int(rng.integers(1, 4)),
        min_tasks=least,
    )


def _best(problem: Problem, each: int = -1, inside: bool = False) -> float:
    """The most that a choice is worth, of those in which candidate `each` is, or is not."""
    best = -np.inf
    for count in range(problem.min_tasks, problem.max_tasks + 1):
        for choice in combinations(range(problem.size), count):
            at = list(choice)
            filled = [np.bincount(row[at], minlength=problem.caps.size) for row in problem.slots]
            if all((some[1:] <= problem.caps[1:]).all() for some in filled) and (
                each < 0 or (each in choice) is inside
            ):
                best = max(best, float(problem.value[at].sum()))
    return best


@pytest.mark.parametrize("seed", range(4))
def test_crossing_rules(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(100):
        problem = _one_user(rng)
        chosen, upper = best_replies(problem, problem.value)
        best = _best(problem)
        assert upper[0] == pytest.approx(best)
        if best == -np.inf:
            continue
        assert problem.value[chosen].sum() == pytest.approx(best)
        losses = flip_losses(problem, problem.value, chosen, upper)
        for each in range(problem.size):
            other = _best(problem, each, inside=not chosen[each])
            assert losses[each] == pytest.approx(best - other, abs=1e-12)
