"""The always-valid interval's algebra; that it holds at every look is simulated in tests/recovery."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from kernel.errors import BadInput
from models.sequential import always_valid_p, mixture, reach


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.2])
def test_it_is_narrowest_at_the_planned_number_of_users(alpha: float) -> None:
    width = minimize_scalar(
        lambda rho: np.sqrt((1 + 1 / (5000 * rho)) * np.log((1 + 5000 * rho) / alpha**2)),
        bounds=(1e-5, 1e-1),
        method="bounded",
        options={"xatol": 1e-12},
    )
    assert mixture(5000, alpha) == pytest.approx(width.x, rel=1e-3)
    assert reach(5000, 5000, alpha) == pytest.approx(width.fun, rel=1e-9)


def test_it_is_half_as_wide_again_as_one_look() -> None:
    assert reach(5000, 5000, 0.05) / norm.ppf(0.975) == pytest.approx(1.55, abs=0.005)


def test_the_p_value_is_the_mixtures_likelihood_ratio() -> None:
    n, z, rho = 3000, 2.7, mixture(5000, 0.05)
    # effects drawn from N(0, ρ²), data z √n with unit variance a user
    odds = quad(
        lambda d: norm.pdf(z * np.sqrt(n), d * n, np.sqrt(n)) * norm.pdf(d, 0, np.sqrt(rho)), -1, 1,
        points=[z / np.sqrt(n)], epsabs=1e-14,
    )[0]  # fmt: skip
    expected = norm.pdf(z * np.sqrt(n), 0, np.sqrt(n)) / odds
    assert always_valid_p(z, n, 5000, 0.05) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_interval_and_p_value_say_the_same_at_every_size(alpha: float) -> None:
    users = np.array([150, 1000, 5000, 40_000, 10**6])
    edge = reach(users, 5000, alpha)
    assert always_valid_p(edge, users, 5000, alpha) == pytest.approx(np.full(5, alpha))
    assert (always_valid_p(edge * 1.01, users, 5000, alpha) < alpha).all()
    assert (always_valid_p(edge * 0.99, users, 5000, alpha) > alpha).all()
    assert always_valid_p(0.0, 5000, 5000, alpha) == 1.0


@pytest.mark.parametrize(("planned", "alpha"), [(0, 0.05), (-1, 0.05), (100, 0.0), (100, 1.0)])
def test_nonsense_is_refused(planned: float, alpha: float) -> None:
    with pytest.raises(BadInput):
        mixture(planned, alpha)
