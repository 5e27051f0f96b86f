from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from kernel.errors import BadInput
from kernel.learning import Action
from kernel.randomness import derive_seed
from realtime.policy import draw
from realtime.ridge import Columns, Ridge
from realtime.ridge_fit import Sums

ACTIONS = tuple(Action(id=f"a{number}", cost=0.05 * number) for number in range(3))


def sums_of(rows: Any, y: Any, groups: list[int]) -> Sums:
    sums = Sums(np.array(groups))
    for row, one in zip(rows, y, strict=True):
        places = np.flatnonzero(row)
        sums.add(places, row[places], float(one))
    return sums


def test_weights_solve_the_regression_and_the_evidence_is_that_of_gauss() -> None:
    rng = np.random.default_rng(1)
    rows = np.hstack([np.ones((60, 1)), rng.integers(0, 2, (60, 4)).astype(float)])
    y = rows @ np.array([0.5, 1.0, 0.0, -1.0, 0.2]) + 0.3 * rng.normal(size=60)
    sums = sums_of(rows, y, [0, 1, 1, 2, 2])
    prior = np.diag([1e-3, 16.0, 16.0, 1.0, 1.0])
    theta, low = sums.fit((2, 0, 0))
    assert theta == pytest.approx(np.linalg.solve(rows.T @ rows + prior, rows.T @ y), rel=1e-9)

    def dense(prior: Any) -> float:
        """log N(y; 0, s² C) with the best s², but for a constant; C = I + Φ Λ⁻¹ Φ'."""
        spread = np.eye(60) + rows @ np.linalg.inv(prior) @ rows.T
        return float(-30 * np.log(y @ np.linalg.solve(spread, y)) - 0.5 * np.linalg.slogdet(spread)[1])

    high = sums.fit((0, 0, 0))[1]
    assert high - low == pytest.approx(dense(np.diag([1e-3, 1.0, 1.0, 1.0, 1.0])) - dense(prior), rel=1e-6)


@pytest.mark.parametrize("together", [True, False])
def test_strengths_follow_what_was_seen(together: bool) -> None:
    """Pairs that foretell nothing are drawn to zero harder and harder; those that do are let go."""
    rng = np.random.default_rng(2)
    labels, noise = rng.integers(0, 6, 800), rng.normal(size=800)
    rows = np.zeros((800, 19))
    rows[:, 0] = 1
    rows[np.arange(800), 1 + labels] = 1
    rows[np.arange(800), 7 + labels + 6 * (np.arange(800) % 2)] = 1
    shown = np.where(together, np.where(np.arange(800) % 2, 1.0, -1.0) * (labels % 2), labels % 2)
    sums = sums_of(rows, shown + 0.5 * noise, [0] + [1] * 6 + [2] * 12)
    exponents: tuple[int, ...] = (2, 2)
    for _ in range(10):
        exponents = sums.better(exponents)
    assert (exponents[1] <= 2) is together, exponents
    assert (exponents[1] == 5) is not together, exponents
    assert sums.better(exponents) == exponents


def test_the_unit_of_a_number_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    rows = np.hstack([np.ones((200, 1)), rng.normal(4, 1, (200, 1))])
    y = rows[:, 1] + rng.normal(size=200)
    for unit in (1.0, 1000.0):
        theta, _ = sums_of(rows * [1, unit], y, [0, 1]).fit((2,))
        assert theta[1] * unit == pytest.approx(0.95, abs=0.1)


def test_columns_are_given_out_in_turn_and_shared_when_they_are_gone() -> None:
    columns = Columns(10, 3)
    assert columns.find(np.array([5, 7], dtype=np.uint64), 99).tolist() == [99, 99]
    assert columns.take(np.array([7, 5, 7], dtype=np.uint64)).tolist() == [10, 11, 10]
    assert columns.take(np.array([9, 100], dtype=np.uint64)).tolist() == [12, 10 + 100 % 3]
    assert columns.find(np.array([200, 9], dtype=np.uint64), 99).tolist() == [10 + 200 % 3, 12]
    other = Columns(10, 3)
    other.restore(list(columns.known))
    assert other.known == columns.known


#: P(a reward) by segment and action, and what that is worth after the action's cost
CHANCES = np.array([[0.3, 0.2, 0.6], [0.2, 0.6, 0.3], [0.6, 0.3, 0.2], [0.5, 0.1, 0.1]])
NET = CHANCES - np.array([each.cost for each in ACTIONS])


def test_it_finds_the_best_action_of_each_segment_on_its_own_decisions() -> None:
    earned = [acted(seed) for seed in range(5)]
    assert np.mean(earned) > NET.max(axis=1).mean() - 0.03
    assert min(earned) > NET.mean(axis=0).max() + 0.02


def acted(seed: int) -> float:
    """Mean worth of the last quarter of 2,000 decisions of its own."""
    rng = np.random.default_rng(derive_seed(seed, "world"))
    policy = Ridge()
    earned = []
    for turn in range(2000):
        segment = int(rng.integers(4))
        context = {"segment": f"s{segment}", "noise": float(rng.normal())}
        distribution = policy.distribution(context, ACTIONS)
        chosen = draw(distribution, seed, str(turn))
        reward = float(rng.random() < CHANCES[segment, chosen]) - ACTIONS[chosen].cost
        policy.learn(context, ACTIONS, chosen, distribution[chosen], reward)
        earned.append(NET[segment, chosen])
    return float(np.mean(earned[-500:]))


def test_with_a_memory_it_follows_a_world_that_turns() -> None:
    rng = np.random.default_rng(4)
    kept, fading = Ridge(), Ridge(memory=200)
    for turn in range(2000):
        chosen = int(rng.integers(3))
        reward = float(rng.random() < (0.7 if (chosen == 0) == (turn < 1500) else 0.2)) - ACTIONS[chosen].cost
        for policy in (kept, fading):
            policy.learn({}, ACTIONS, chosen, 1 / 3, reward)
    assert kept.distribution({}, ACTIONS)[0] > 0.9
    assert fading.distribution({}, ACTIONS)[0] < 0.1


def test_cost_and_price_are_subtracted_and_not_learned() -> None:
    policy = Ridge()
    for turn in range(300):
        policy.learn({}, ACTIONS, turn % 3, 1 / 3, 1.0 - ACTIONS[turn % 3].cost)
    assert policy.distribution({}, ACTIONS)[0] > 0.9
    dear = [each.model_copy(update={"cost": 2.0 - each.cost}) for each in ACTIONS]
    assert policy.distribution({}, dear)[2] > 0.9


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_currency_does_not_matter(scale: float) -> None:
    rng = np.random.default_rng(5)
    policy = Ridge()
    for _ in range(300):
        chosen = int(rng.integers(3))
        gain = float(rng.random() < 0.2 + 0.3 * (chosen == 1))
        policy.learn({}, ACTIONS[:1] * 3, 0, 1.0, 0.0)
        policy.learn({"x": 1}, _free(), chosen, 1 / 3, scale * gain)
    assert policy.distribution({"x": 1}, _free())[1] == pytest.approx(0.99, abs=0.02)


def _free() -> list[Action]:
    return [Action(id=f"f{number}") for number in range(3)]


@pytest.mark.parametrize(
    ("field", "value"), [("epsilon", 0.0), ("gamma_scale", math.nan), ("dimensions", 8), ("memory", 0)]
)
def test_bad_parameters_are_refused(field: str, value: float) -> None:
    given: dict[str, Any] = {field: value}
    with pytest.raises(BadInput) as caught:
        Ridge(**given)
    assert caught.value.field == field
