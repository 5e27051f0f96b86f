"""Held-out figures against values made by hand, and what ties do to them."""

from __future__ import annotations

import numpy as np
import pytest

from kernel.learning import Interval
from models.evaluation import MONEY, PROBABILITY, calibration_error, gini, lift, readout, reliability


def test_lift_by_hand() -> None:
    y = np.array([1.0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    score = np.arange(10, 0, -1.0)
    assert lift(y, score) == pytest.approx(5)  # both responders in the best fifth
    assert lift(y, -score) == 0
    assert lift(y, score, share=0.5) == pytest.approx(2)
    assert lift(y, score, share=1.0) == pytest.approx(1)


def test_lift_shares_the_edge_among_ties() -> None:
    y = np.array([1.0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    assert lift(y, np.zeros(10)) == pytest.approx(1)
    # one seat is sure; the other is a quarter of each of four, one of whom responded
    score = np.array([9.0, 5, 5, 5, 1, 1, 1, 1, 1, 5])
    assert lift(y, score) == pytest.approx((1 + 1 / 4) / 2 / 0.2)


def test_lift_of_nobody_is_unknown() -> None:
    assert np.isnan(lift(np.zeros(5), np.arange(5.0)))


def test_ties_do_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(3)
    y, score = (rng.random(40) < 0.3).astype(float), rng.integers(0, 3, 40).astype(float)
    shuffled = rng.permutation(40)
    assert lift(y, score) == pytest.approx(lift(y[shuffled], score[shuffled]))


def test_calibration_error_by_hand() -> None:
    p = np.array([0.1, 0.2, 0.8, 0.9])
    y = np.array([0.0, 0, 1, 1])
    # two bins: |0 − 0.15| and |1 − 0.85|
    assert calibration_error(y, p, bins=2) == pytest.approx(0.15)
    assert calibration_error(y, y) == 0
    # more bins than rows: each row is a bin of its own
    assert calibration_error(y, p, bins=10) == pytest.approx((0.1 + 0.2 + 0.2 + 0.1) / 4)


def test_calibration_error_finds_a_constant_shift() -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(0.2, 0.6, 20_000)
    y = (rng.random(20_000) < p).astype(float)
    assert calibration_error(y, p) < 0.02
    assert calibration_error(y, p + 0.2) == pytest.approx(0.2, abs=0.02)


def test_gini_by_hand() -> None:
    y = np.array([0.0, 1, 3])
    assert gini(y, y) == 1
    assert gini(y, -y) == -1
    # order 1, 3, 0 cumulates 1 + 4 + 4 = 9; the truth 3 + 4 + 4 = 11; half 8
    assert gini(y, np.array([0.0, 2, 1])) == pytest.approx((9 - 8) / (11 - 8))


def test_reliability_has_every_row_once() -> None:
    rng = np.random.default_rng(2)
    p, y = rng.random(25), (rng.random(25) < 0.5).astype(float)
    found = reliability(y, p)
    assert sum(count for _, _, count in found) == 25
    assert [mean for mean, _, _ in found] == sorted(mean for mean, _, _ in found)
    assert sum(mean * count for _, mean, count in found) == pytest.approx(y.sum())


def test_money_figures_by_hand() -> None:
    y, p = np.array([0.0, 10, 20]), np.array([2.0, 10, 14])
    assert MONEY["mae"](y, p) == pytest.approx(8 / 3)
    assert MONEY["rmse"](y, p) == pytest.approx((40 / 3) ** 0.5)
    assert MONEY["bias"](y, p) == pytest.approx(-4 / 3)


def test_readout_holds_every_figure_with_an_interval_around_it() -> None:
    rng = np.random.default_rng(5)
    p = rng.uniform(0.1, 0.9, 300)
    y = (rng.random(300) < p).astype(float)
    found = readout(y, p, PROBABILITY, seed=1)
    assert set(found) == set(PROBABILITY)
    for name, interval in found.items():
        assert interval.low < interval.high, name
        assert interval.mean == PROBABILITY[name](y, p)
    assert found["auc"].low < found["auc"].mean < found["auc"].high
    assert found == readout(y, p, PROBABILITY, seed=1)
    assert found != readout(y, p, PROBABILITY, seed=2)


def test_more_rows_make_narrower_intervals() -> None:
    rng = np.random.default_rng(6)
    y, p = rng.gamma(2, 10, 2000), rng.gamma(2, 10, 2000)

    def width(found: Interval) -> float:
        return found.high - found.low

    few, many = (readout(y[:n], p[:n], MONEY, seed=1, resamples=100)["mae"] for n in (100, 2000))
    assert width(many) < width(few) / 2
