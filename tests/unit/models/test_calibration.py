"""Calibration mends what is wrong, leaves what is right, and never turns an order around."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit, logit

from models.calibration import choose_calibrator
from models.evaluation import calibration_error

Floats = NDArray[np.float64]


def world(seed: int, rows: int = 2000) -> tuple[Floats, Floats]:
    """Probabilities and outcomes that follow them."""
    rng = np.random.default_rng(seed)
    p = expit(rng.normal(-1, 1.2, rows))
    return p, (rng.random(rows) < p).astype(float)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bent", ["shifted", "overconfident", "squashed"])
def test_a_miscalibrated_score_is_mended(seed: int, bent: str) -> None:
    p, y = world(seed)
    score = {
        "shifted": expit(logit(p) + 1.5),
        "overconfident": expit(3 * logit(p)),
        "squashed": p**4,
    }[bent]
    calibrator = choose_calibrator(score[:1000], y[:1000], seed)
    assert calibrator.method != "none"
    assert (
        calibration_error(y[1000:], calibrator(score[1000:])) < calibration_error(y[1000:], score[1000:]) / 2
    )


def test_a_calibrated_score_is_mostly_left_alone() -> None:
    methods = [choose_calibrator(*world(seed, 600), seed).method for seed in range(12)]
    assert methods.count("none") >= 8


def test_steps_are_mended_by_steps() -> None:
    rng = np.random.default_rng(0)
    score = rng.random(3000)
    y = (rng.random(3000) < np.where(score < 0.7, 0.05, 0.9)).astype(float)
    assert choose_calibrator(score, y, 0).method == "isotonic"


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([-2.0, 0.3, 1.0, 3.0]))
def test_the_order_is_never_inverted(seed: int, slope: float) -> None:
    p, y = world(seed, 300)
    calibrator = choose_calibrator(expit(slope * logit(p)), y, seed)
    grid = np.concatenate([[0.0, 1e-9], np.linspace(0.001, 0.999, 500), [1.0]])
    found = calibrator(grid)
    assert (np.diff(found) >= 0).all()
    assert ((found >= 0) & (found <= 1)).all()


def test_the_same_seed_chooses_the_same() -> None:
    p, y = world(4)
    one, two = (choose_calibrator(p**2, y, 7) for _ in range(2))
    assert one.method == two.method
    np.testing.assert_array_equal(one(p), two(p))
