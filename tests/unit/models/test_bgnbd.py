"""BG/NBD and Gamma-Gamma: the same as `lifetimes` finds on CDNOW, and as the papers print."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import check_grad

from benchmarks.repeat import CALIBRATION, purchases
from kernel.errors import BadInput
from models.value_bgnbd import _unlikely, fit_bg_nbd, fit_gamma_gamma, purchase_records

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def records() -> tuple[Floats, Floats, Floats, Floats]:
    rows = purchase_records(purchases(), CALIBRATION)
    return tuple(rows[name].to_numpy() for name in ("x", "tx", "t", "spent"))  # type: ignore[return-value]


def test_the_parameters_of_the_paper(records: tuple[Floats, Floats, Floats, Floats]) -> None:
    """Fader, Hardie & Lee 2005, table 2: r .243, alpha 4.414, a .793, b 2.426, LL −9,582.4."""
    x, tx, t, _ = records
    assert (len(x), x.sum()) == (2357, 2457)
    found = fit_bg_nbd(x, tx, t)
    assert found.r == pytest.approx(0.243, abs=0.001)
    assert found.alpha == pytest.approx(4.414, abs=0.01)
    assert found.a == pytest.approx(0.793, abs=0.005)
    assert found.b == pytest.approx(2.426, abs=0.01)


def test_the_same_as_lifetimes(records: tuple[Floats, Floats, Floats, Floats]) -> None:
    x, tx, t, spent = records
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lifetimes import BetaGeoFitter, GammaGammaFitter

        often = BetaGeoFitter(penalizer_coef=0.0)
        often.fit(x, tx, t)
        counts = np.asarray(often.conditional_expected_number_of_purchases_up_to_time(39.0, x, tx, t))
        alive = np.asarray(often.conditional_probability_alive(x, tx, t))
        much = GammaGammaFitter(penalizer_coef=0.0)
        kept = (x > 0) & (spent > 0)
        much.fit(x[kept], spent[kept])
        money = np.asarray(much.conditional_expected_average_profit(x, spent))
    ours = fit_bg_nbd(x, tx, t)
    np.testing.assert_allclose(ours.expected(x, tx, t, 39.0), counts, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(ours.alive(x, tx, t), alive, rtol=2e-3)
    np.testing.assert_allclose(fit_gamma_gamma(x, spent).expected(x, spent), money, rtol=5e-3)


def test_the_unit_of_time_changes_nothing_but_alpha(records: tuple[Floats, Floats, Floats, Floats]) -> None:
    x, tx, t, _ = records
    weeks, days = fit_bg_nbd(x, tx, t), fit_bg_nbd(x, 7 * tx, 7 * t)
    assert days.alpha == pytest.approx(7 * weeks.alpha, rel=1e-4)
    np.testing.assert_allclose(
        days.expected(x, 7 * tx, 7 * t, 273.0), weeks.expected(x, tx, t, 39.0), rtol=1e-4
    )


def test_the_derivatives_are_those_of_the_likelihood(records: tuple[Floats, Floats, Floats, Floats]) -> None:
    x, tx, t, _ = (each[:200] for each in records)
    count = np.ones(200, dtype=np.int64)
    for point in np.random.default_rng(0).normal(0, 1, (5, 4)):
        off = check_grad(
            lambda p: _unlikely(p, x, tx, t, count)[0], lambda p: _unlikely(p, x, tx, t, count)[1], point
        )
        assert off < 1e-4


def test_planted_parameters_come_back() -> None:
    rng = np.random.default_rng(3)
    n, r, alpha, a, b = 6000, 0.8, 6.0, 0.9, 2.5
    rate, stop, t = rng.gamma(r, 1 / alpha, n), rng.beta(a, b, n), rng.uniform(20, 60, n)
    x, tx = np.zeros(n), np.zeros(n)
    for user in range(n):
        now = 0.0
        while (now := now + rng.exponential(1 / rate[user])) < t[user]:
            x[user], tx[user] = x[user] + 1, now
            if rng.random() < stop[user]:
                break
    found = fit_bg_nbd(x, tx, t)
    assert (found.r, found.alpha) == pytest.approx((r, alpha), rel=0.12)
    assert found.a / (found.a + found.b) == pytest.approx(a / (a + b), rel=0.15)


@pytest.mark.parametrize(
    ("x", "tx", "t", "field"),
    [
        ([1.0], [5.0], [4.0], "tx"),
        ([-1.0], [0.0], [4.0], "x"),
        ([np.nan], [0.0], [4.0], "x"),
        ([0.0], [1.0], [4.0], "tx"),
        ([0.0], [0.0], [np.inf], "t"),
        ([], [], [], "records"),
        ([0.0, 0.0], [0.0, 0.0], [4.0, 5.0], "x"),
    ],
)
def test_records_that_cannot_be_are_refused(
    x: list[float], tx: list[float], t: list[float], field: str
) -> None:
    with pytest.raises(BadInput, match="BG/NBD") as raised:
        fit_bg_nbd(*(np.array(each, dtype=float) for each in (x, tx, t)))
    assert raised.value.field == field


def test_nobody_who_pays_is_refused() -> None:
    with pytest.raises(BadInput, match="no purchase has money"):
        fit_gamma_gamma(np.array([0.0, 2.0]), np.array([0.0, 0.0]))
