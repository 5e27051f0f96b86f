"""Ties in scores: nobody's order in the file may decide a figure."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation import calibration_error, gini, reliability


def test_a_constant_score_ranks_nothing() -> None:
    y = np.array([3.0, 2, 1, 0])
    assert gini(y, np.zeros(4)) == pytest.approx(0)
    assert gini(y[::-1], np.zeros(4)) == pytest.approx(0)


def test_a_constant_rate_that_is_right_is_calibrated() -> None:
    y = np.repeat([0.0, 1.0], 50)
    assert calibration_error(y, np.full(100, 0.5)) == pytest.approx(0)
    assert all(found == pytest.approx(0.5) for _, found, _ in reliability(y, np.full(100, 0.5)))


def test_gini_of_no_money_is_unknown_without_a_warning() -> None:
    assert np.isnan(gini(np.zeros(3), np.arange(3.0)))
