"""Simulated experiments: false findings at most as often as said, at every look, and effects recovered.

Counts below are of thousands of A/A runs looked at every day; bounds leave three standard errors.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from models.experiment_effects import Arm, effect
from models.experiment_readout import OPEN, read_out
from models.experiments import Experiment
from models.sample_ratio import sequential_p
from models.sequential import FEWEST, INFORMATIVE, reach

Floats = NDArray[np.float64]
DAYS, ALPHA = 28, 0.05


def looks(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Two variants × runs × days × users a day → z, users so far, and whether enough is known."""
    n = np.arange(1, DAYS + 1) * values.shape[-1]
    total, squares = values.sum(-1).cumsum(-1), np.square(values).sum(-1).cumsum(-1)
    mean = total / n
    variance = (squares - n * mean**2) / (n - 1)
    usual = np.maximum((values == 0).sum(-1).cumsum(-1), (values == 1).sum(-1).cumsum(-1))
    known = ((n - usual >= INFORMATIVE) & (n >= FEWEST)).all(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (mean[1] - mean[0]) / np.sqrt(variance.sum(axis=0) / n)
    return np.where(known, z, 0.0), 2.0 * n, known


def found_ever(z: Floats, users: Floats, planned: float) -> Floats:
    return (np.abs(z) > reach(users, planned, ALPHA)).any(axis=-1)


def at_most(rate: float, bound: float, runs: int) -> bool:
    return bool(rate <= bound + 3 * np.sqrt(bound * (1 - bound) / runs))


@pytest.mark.parametrize("rate", [0.3, 0.02])
@pytest.mark.parametrize("planned", [0.2, 1.0, 5.0])
def test_aa_conversions_looked_at_every_day(rate: float, planned: float) -> None:
    rng = np.random.default_rng(int(rate * 100))
    runs, a_day = 4000, 60
    z, users, _ = looks((rng.random((2, runs, DAYS, a_day)) < rate).astype(np.float32))
    false = found_ever(z, users, planned * users[-1]).mean()
    assert at_most(false, ALPHA, runs)
    assert false > 0.001  # an interval of everything would hold too
    # the same looks read as if each were the only one
    assert (np.abs(z) > norm.ppf(1 - ALPHA / 2)).any(axis=-1).mean() > 2 * ALPHA


@pytest.mark.parametrize("spread", [1.0, 1.5])
def test_aa_money_with_heavy_tails_looked_at_every_day(spread: float) -> None:
    rng = np.random.default_rng(7)
    runs = 2000
    money = rng.lognormal(0, spread, (2, runs, DAYS, 40)) * (rng.random((2, runs, DAYS, 40)) < 0.3)
    z, users, _ = looks(money)
    assert at_most(found_ever(z, users, users[-1]).mean(), ALPHA, runs)


def test_aa_with_covariates_looked_at_every_day() -> None:
    rng = np.random.default_rng(11)
    runs, a_day, false = 250, 120, 0
    for _ in range(runs):
        x = rng.gamma(1, 1, (DAYS * a_day, 1))
        y = 2 * x[:, 0] + rng.normal(size=len(x))
        treated = rng.random(len(x)) < 0.5
        for day in range(2, DAYS + 1, 2):
            now = slice(0, day * a_day)
            arms = [Arm(values=y[now][t], covariates=x[now][t]) for t in (treated[now], ~treated[now])]
            each = effect(*arms)
            if each is None:
                continue
            if abs(each.effect) > each.error * reach(each.users, len(x), ALPHA):
                false += 1
                break
    assert at_most(false / runs, ALPHA, runs)


def test_how_much_longer_it_takes_than_one_look() -> None:
    """As stated in docs/experiments.md, for the effect that one look finds in 80 of 100."""
    rng = np.random.default_rng(3)
    runs, steps = 6000, 112
    z = np.sqrt(np.arange(1, 4 * steps + 1) / steps)
    drift = (norm.ppf(0.975) + norm.ppf(0.8)) * z
    noise = rng.normal(size=(runs, 4 * steps)).cumsum(axis=1) / np.sqrt(np.arange(1, 4 * steps + 1))
    found = np.abs(noise + drift) > reach(np.arange(1, 4 * steps + 1), steps, ALPHA)
    first = np.where(found.any(axis=1), found.argmax(axis=1) + 1, 4 * steps) / steps
    assert (first <= 1).mean() == pytest.approx(0.5, abs=0.03)
    assert np.median(first) == pytest.approx(1.0, abs=0.05)
    assert np.quantile(first, 0.8) == pytest.approx(1.7, abs=0.1)
    # of an effect twice as large it takes less than half of what was planned
    twice = np.abs(noise + 2 * drift) > reach(np.arange(1, 4 * steps + 1), steps, ALPHA)
    assert np.median(twice.argmax(axis=1) + 1) / steps == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.08, 0.02)])
def test_a_right_split_alarms_no_more_than_stated_at_every_look(shares: tuple[float, ...]) -> None:
    rng, runs = np.random.default_rng(5), 4000
    theta = np.array(shares)
    running = rng.multinomial(300, theta, (runs, DAYS)).cumsum(axis=1).astype(float)
    last = sequential_p(running, theta)[:, -1]
    for level in (0.05, 0.001):
        assert at_most((last <= level).mean(), level, runs)
    off = theta + np.r_[-0.02, 0.02, np.zeros(len(theta) - 2)]
    lost = rng.multinomial(300, off, (400, 10 * DAYS)).cumsum(axis=1).astype(float)
    assert (sequential_p(lost, theta)[:, -1] <= 0.001).mean() > 0.95


def test_planted_effects_are_within_their_intervals_as_often_as_stated() -> None:
    rng, runs, truth = np.random.default_rng(13), 400, 0.4
    plain, adjusted, ratios, saved = 0, 0, 0, []
    for _ in range(runs):
        n = 1200
        x = rng.gamma(2, 1, (n, 2))
        treated = rng.random(n) < 0.3
        y = x @ [1.0, 0.5] + rng.normal(size=n) * (1 + treated) + treated * (truth + 0.4 * (x[:, 0] - 2))
        per = rng.poisson(2 + x[:, 0])
        money = per * 3.0 + rng.normal(size=n) * per + treated * per * truth
        for covariates in (None, x):
            arms = [
                Arm(values=y[t], covariates=None if covariates is None else covariates[t])
                for t in (treated, ~treated)
            ]
            found = effect(*arms)
            assert found is not None
            inside = abs(found.effect - truth) <= norm.ppf(0.975) * found.error
            if covariates is None:
                plain += inside
            else:
                adjusted += inside
                saved.append(found.explained)
        parts = [Arm(values=money[t], per=per[t].astype(float), covariates=x[t]) for t in (treated, ~treated)]
        ratio = effect(*parts)
        assert ratio is not None
        ratios += abs(ratio.effect - truth) <= norm.ppf(0.975) * ratio.error
    for held in (plain, adjusted, ratios):
        assert held / runs == pytest.approx(0.95, abs=0.033)  # three standard errors
    assert np.mean(saved) > 0.3


def test_aa_through_the_whole_readout_finds_nothing_more_than_stated() -> None:
    begin, rng, runs, false = datetime(2026, 3, 1, tzinfo=UTC), np.random.default_rng(17), 60, 0
    told = Experiment.model_validate(
        {
            "name": "aa", "variants": {"none": 0.4, "a": 0.3, "b": 0.3}, "holdout": "none",
            "starts": date(2026, 3, 1), "planned": 1500, "within": "7d", "before": "14d", "alpha": 0.1,
            "metrics": [{"name": "spend", "sum": {"amount": 1}}],
        }
    )  # fmt: skip
    for _ in range(runs):
        n = 1500
        came = rng.integers(0, 20 * 1440, n)
        users = pl.DataFrame(
            {"user": range(n), "variant": rng.choice(["none", "a", "b"], n, p=[0.4, 0.3, 0.3])}
        )
        users = users.with_columns(at=_at(begin, came))
        bought = np.repeat(np.arange(n), rng.poisson(rng.gamma(2, 2, n)))
        when = came[bought] + rng.integers(-14 * 1440, 7 * 1440, len(bought))
        money = pl.DataFrame({"user": bought, "amount": rng.gamma(2, 10, len(bought))})
        money = money.with_columns(at=_at(begin, when))
        ever = False
        for day in (12, 16, 20, 24, 28):
            found = read_out(told, users, money, begin + timedelta(days=day))
            ever |= any(line.always is not None and line.finding != OPEN for line in found.lines)
        false += ever
    assert at_most(false / runs, 0.1, runs)


def _at(begin: datetime, minutes: NDArray[np.int64]) -> pl.Series:
    first = int(begin.timestamp()) * 1_000_000
    return pl.Series(first + minutes * 60_000_000).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
