"""A world whose best actions change at noon: a policy that lets lessons fade recovers, its twin does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kernel.learning import Action
from kernel.randomness import derive_seed
from realtime.policy import Learner, draw
from realtime.thompson import Thompson
from realtime.vw import SquareCB

SEGMENTS = 4
ACTIONS = tuple(Action(id=f"a{number}") for number in range(SEGMENTS))
#: P(reward): in the morning each segment has its own best action; after noon it has the next one
CHANCES = np.where(np.eye(SEGMENTS, dtype=bool), 0.7, 0.2)
NOON, AFTER, LOOK = 3000, 2500, 1000

TWINS: dict[str, tuple[Callable[[], Learner], Callable[[], Learner]]] = {
    "squarecb": (lambda: SquareCB(bits=14), lambda: SquareCB(bits=14, memory=1000, rate=0.1)),
    "thompson": (lambda: Thompson(dimensions=64), lambda: Thompson(dimensions=64, memory=1000)),
}


def day(policy: Learner, seed: int) -> tuple[float, float]:
    """Mean expected reward of the last rounds of the morning, and of those of the day."""
    rng = np.random.default_rng(derive_seed(seed, "noon"))
    expected = []
    for turn in range(NOON + AFTER):
        segment = int(rng.integers(SEGMENTS))
        context = {"segment": f"s{segment}", "noise": float(rng.normal())}
        distribution = policy.distribution(context, ACTIONS)
        chosen = draw(distribution, seed, str(turn))
        best = segment if turn < NOON else (segment + 1) % SEGMENTS
        chance = CHANCES[best, chosen]
        policy.learn(context, ACTIONS, chosen, distribution[chosen], float(rng.random() < chance))
        expected.append(chance)
    return float(np.mean(expected[NOON - LOOK : NOON])), float(np.mean(expected[-LOOK:]))


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("seed", range(3))
def test_what_forgets_recovers_after_noon_and_loses_little_before(name: str, seed: int) -> None:
    keeps, forgets = TWINS[name]
    morning_kept, day_kept = day(keeps(), seed)
    morning, recovered = day(forgets(), seed)
    assert morning > morning_kept - 0.06
    assert recovered > 0.55  # of 0.7; 0.325 is chance
    assert recovered > day_kept + 0.08
