"""Learners keep the signs that they are told, split money in two parts, and explain what they say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kernel.errors import BadInput
from models.learners import (
    PLAIN,
    Parameters,
    Setting,
    TwoPart,
    fit_amount,
    fit_median,
    fit_probability,
    fit_two_part,
)
from models.survival import fit_hazard

Floats = NDArray[np.float64]
QUICK = Parameters(bags=1, rounds=30)
NAMES = ("up", "down", "noise")


def world(seed: int, rows: int = 400) -> tuple[Floats, Floats]:
    """What is told to rise and fall does the opposite in part: a free model would follow the data."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3))
    x[rng.random(rows) < 0.1, 0] = np.nan
    rise = np.nan_to_num(x[:, 0])
    score = np.where(rise < 0, -1.5 * rise, rise) + np.sin(3 * x[:, 1]) + rng.normal(size=rows)
    return x, score


def moved(model: object, x: Floats, feature: int) -> Floats:
    """Predictions as one feature rises over a grid: grid × rows."""
    told = []
    for value in np.linspace(-3, 3, 9):
        changed = x.copy()
        changed[:, feature] = value
        told.append(model.predict(changed))  # type: ignore[attr-defined]
    return np.array(told)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("learn", [fit_probability, fit_amount, fit_two_part, fit_hazard])
def test_the_prediction_moves_only_as_told(learn: object, seed: int) -> None:
    x, score = world(seed)
    money = np.maximum(score, 0) * 10
    y = (score > 1).astype(float) if learn is fit_probability else money
    if learn is fit_hazard:
        y = np.minimum(1 + money, 20.0)
    free = learn(x, y, NAMES, seed, Setting(parameters=QUICK))  # type: ignore[operator]
    held = learn(x, y, NAMES, seed, Setting(parameters=QUICK, signs=(1, -1, 0)))  # type: ignore[operator]
    few = x[:25]
    assert (np.diff(moved(held, few, 0), axis=0) >= -1e-9).all()
    assert (np.diff(moved(held, few, 1), axis=0) <= 1e-9).all()
    assert (np.diff(moved(free, few, 0), axis=0) < -1e-6).any()


def test_the_middle_is_not_held_to_signs() -> None:
    x, score = world(1)
    with pytest.raises(BadInput, match="learner median: monotone: cannot be held to signs"):
        fit_median(x, np.maximum(score, 0), NAMES, 1, Setting(parameters=QUICK, signs=(1, 0, 0)))


def test_money_in_two_parts_is_the_product() -> None:
    x, score = world(3)
    y = np.maximum(score, 0) * 10
    model = fit_two_part(x, y, NAMES, 1, Setting(parameters=QUICK))
    assert isinstance(model, TwoPart)
    np.testing.assert_allclose(model.predict(x), model.some.predict(x) * model.amount.predict(x))
    assert model.explain(x).shape == x.shape
    # where nobody is without, there is one part
    assert not isinstance(fit_two_part(x, y + 1, NAMES, 1, Setting(parameters=QUICK)), TwoPart)


def test_contributions_add_up_to_the_raw_score() -> None:
    x, score = world(4)
    model = fit_probability(x, (score > 0.5).astype(float), NAMES, 1, Setting(parameters=QUICK))
    rest = model.raw(x) - model.explain(x).sum(axis=1)
    assert rest.std() < 1e-6


def test_fewer_boosters_never_become_more() -> None:
    assert PLAIN.fewer().parameters.bags == 1
    assert PLAIN.fewer(9).parameters.bags == PLAIN.parameters.bags
