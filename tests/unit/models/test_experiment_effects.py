"""Effects by hand, and what covariates do to them; rates of error are in tests/recovery."""

from __future__ import annotations

import numpy as np
import pytest

from kernel.errors import BadInput
from models.experiment_effects import Arm, effect

RNG = np.random.default_rng(4)


def test_a_difference_of_means_is_welchs() -> None:
    a, b = RNG.normal(3, 2, 300), RNG.normal(2, 1, 500)
    found = effect(Arm(values=a), Arm(values=b))
    assert found is not None
    assert found.effect == pytest.approx(a.mean() - b.mean())
    assert found.error == pytest.approx(np.sqrt(a.var(ddof=1) / 300 + b.var(ddof=1) / 500))
    assert (found.users, found.explained) == (800, 0.0)


def test_a_ratio_is_that_of_sums_with_an_error_that_resampling_confirms() -> None:
    per = RNG.poisson(3, 4000).astype(float)
    values = per * RNG.gamma(2, 5, 4000)
    arm, other = Arm(values=values[:2000], per=per[:2000]), Arm(values=values[2000:], per=per[2000:])
    found = effect(arm, other)
    assert found is not None
    assert found.variant == pytest.approx(values[:2000].sum() / per[:2000].sum())
    draws = RNG.integers(0, 2000, size=(800, 2000))
    ratios = [
        values[:2000][d].sum() / per[:2000][d].sum() - values[2000:][e].sum() / per[2000:][e].sum()
        for d, e in zip(draws, RNG.permuted(draws), strict=True)
    ]
    assert found.error == pytest.approx(np.std(ratios), rel=0.1)


def world(n: int, gain: float, seed: int) -> tuple[Arm, Arm]:
    """Values of which covariates explain four fifths; treatment adds `gain` and changes the slope."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    treated = rng.random(n) < 0.4
    y = 5 + x @ [1.6, 1.2] + rng.normal(size=n) + treated * (gain + 0.5 * x[:, 0])
    return (
        Arm(values=y[treated], covariates=x[treated]),
        Arm(values=y[~treated], covariates=x[~treated]),
    )


def test_covariates_take_away_the_variance_that_they_explain() -> None:
    found = effect(*world(20_000, 0.3, 1))
    assert found is not None
    # left over: 1 a user and arm, and slopes 0.5 apart; of 1 + 1.6² + 1.2² (and 2.1² treated)
    left = 1 / 0.4 + 1 / 0.6 + 0.25
    total = (1 + 2.1**2 + 1.2**2) / 0.4 + (1 + 1.6**2 + 1.2**2) / 0.6
    assert found.explained == pytest.approx(1 - left / total, abs=0.01)
    assert found.effect == pytest.approx(0.3, abs=4 * found.error)


def test_users_drawn_at_random_make_unlike_slopes_part_of_the_error() -> None:
    rng, n = np.random.default_rng(6), 40_000
    x = rng.normal(size=(n, 1))
    treated = rng.random(n) < 0.5
    y = rng.normal(size=n) + 2 * treated * x[:, 0]
    found = effect(*(Arm(values=y[t], covariates=x[t]) for t in (treated, ~treated)))
    assert found is not None
    # 1 a user in either half, and 2² of the covariate's mean
    assert found.error**2 * n == pytest.approx(2 + 2 + 4, rel=0.03)


def test_covariates_that_say_nothing_or_the_same_change_nothing() -> None:
    variant, holdout = world(5000, 0.0, 2)
    assert variant.covariates is not None
    assert holdout.covariates is not None

    def doubled(arm: Arm) -> Arm:
        assert arm.covariates is not None
        x = arm.covariates
        return Arm(values=arm.values, covariates=np.column_stack([x, x[:, 0] * 7, np.full(len(x), 3.0)]))

    one, other = effect(variant, holdout), effect(doubled(variant), doubled(holdout))
    assert one is not None
    assert other is not None
    assert other.effect == pytest.approx(one.effect, abs=1e-9)
    assert other.error == pytest.approx(one.error, rel=1e-3)


@pytest.mark.parametrize(
    "values", [np.ones(99) * np.arange(99), np.r_[np.ones(9), np.zeros(500)], np.zeros(1000)]
)
def test_too_little_says_nothing(values: np.ndarray) -> None:
    enough = Arm(values=RNG.normal(size=1000))
    assert effect(Arm(values=values), enough) is None
    assert effect(enough, Arm(values=values)) is None


def test_a_ratio_over_nothing_says_nothing() -> None:
    arm = Arm(values=np.arange(200.0), per=np.zeros(200))
    assert np.isnan(arm.figure)
    assert effect(arm, Arm(values=np.arange(200.0), per=np.ones(200))) is None


def test_what_is_no_number_is_refused() -> None:
    broken = RNG.normal(size=200)
    broken[3] = np.nan
    with pytest.raises(BadInput, match="is not a number"):
        effect(Arm(values=broken), Arm(values=np.arange(200.0)))
