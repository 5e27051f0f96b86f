"""The arrow against the same ridge solved whole."""

from __future__ import annotations

import numpy as np

from realtime.reward_model import _LOOSE, Floats, Integers, fit

RIDGE, ACTIONS = 5.0, 4


def data(seed: int = 1, rows: int = 60) -> tuple[Floats, Integers, Floats]:
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, ACTIONS - 1, rows)  # the last action is never shown
    contexts = rng.normal(size=(rows, 2))
    return contexts, chosen, rng.normal(size=rows) + chosen + contexts[:, 0]


def whole(contexts: Floats, chosen: Integers) -> tuple[Floats, Floats]:
    """The design of all columns, and its penalised Gram matrix."""
    design = np.column_stack([np.ones(len(contexts)), contexts])
    width = design.shape[1]
    blocks = [design, *(design * (chosen == action)[:, None] for action in range(ACTIONS))]
    wide = np.concatenate(blocks, axis=1)
    penalty = np.concatenate([np.full(width, _LOOSE), np.full(width * ACTIONS, RIDGE)])
    return wide, wide.T @ wide + np.diag(penalty)


def test_predictions_are_those_of_the_whole_system() -> None:
    contexts, chosen, rewards = data()
    wide, gram = whole(contexts, chosen)
    theta = np.linalg.solve(gram, wide.T @ rewards)
    model = fit(contexts, chosen, rewards, ACTIONS, RIDGE)
    for action in range(ACTIONS):
        asked, _ = whole(contexts, np.full(len(chosen), action))
        np.testing.assert_allclose(model.predict(contexts)[:, action], asked @ theta, atol=1e-9)


def test_influence_is_the_derivative_by_each_reward() -> None:
    contexts, chosen, rewards = data()
    rng = np.random.default_rng(2)
    target = rng.normal(size=(len(rewards), ACTIONS))

    def total(of: Floats) -> float:
        return float((target * fit(contexts, chosen, of, ACTIONS, RIDGE).predict(contexts)).sum())

    model = fit(contexts, chosen, rewards, ACTIONS, RIDGE)
    expected = [total(rewards + np.eye(len(rewards))[row]) - total(rewards) for row in range(len(rewards))]
    np.testing.assert_allclose(model.influence(contexts, chosen, target), expected, atol=1e-8)


def test_an_action_hardly_shown_is_taken_for_the_average_one() -> None:
    contexts, chosen, rewards = data(rows=600)
    model = fit(contexts, chosen, rewards + 10, ACTIONS, RIDGE)
    shown = model.predict(contexts)[:, : ACTIONS - 1].mean()
    assert abs(model.predict(contexts)[:, ACTIONS - 1].mean() - shown) < 0.2
