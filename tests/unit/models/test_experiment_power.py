"""Sizes against textbook values and against simulated experiments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from kernel.errors import BadInput
from models.experiment_power import Baseline, Design, days_needed, sample_size, smallest_effect
from models.sequential import reach

RATE, MEAN = Baseline(mean=0.1), Baseline(mean=30.0, deviation=80.0)


def test_textbook_sizes() -> None:
    # (1.959964 + 0.841621)² (0.1 × 0.9 + 0.12 × 0.88) / 0.02² = 3,839 a group
    assert sample_size(RATE, 0.02, Design()).variant == pytest.approx(3839, abs=1)
    # Lehr's rule: 16 σ² / δ² a group, and 15.7 without rounding
    found = sample_size(MEAN, 3.0, Design())
    assert found.variant == pytest.approx(15.698 * (80 / 3) ** 2, rel=1e-3)
    assert found.relative == pytest.approx(0.1)
    assert found.power == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("reading", ["fixed", "always_valid"])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_simulated_experiments_find_it_as_often_as_said(reading: Any, share: float) -> None:
    design = Design(share=share, reading=reading)
    size = sample_size(RATE, 0.03, design)
    rng = np.random.default_rng(1)
    treated = rng.binomial(size.variant, 0.13, 20_000) / size.variant
    untreated = rng.binomial(size.holdout, 0.10, 20_000) / size.holdout
    error = np.sqrt(treated * (1 - treated) / size.variant + untreated * (1 - untreated) / size.holdout)
    edge = norm.ppf(0.975) if reading == "fixed" else reach(size.total, size.total, 0.05)
    assert ((treated - untreated) / error > edge).mean() == pytest.approx(0.8, abs=0.015)


def test_what_covariates_explain_is_saved() -> None:
    half = Baseline(mean=30.0, deviation=80.0, explained=0.5)
    assert sample_size(half, 3.0, Design()).total == pytest.approx(
        sample_size(MEAN, 3.0, Design()).total / 2, abs=2
    )


def test_several_variants_share_alpha_and_the_holdout() -> None:
    one, three = (sample_size(RATE, 0.02, Design(variants=n)) for n in (1, 3))
    assert three.total == 3 * three.variant + three.holdout
    wished = norm.ppf(1 - 0.05 / 6) + norm.ppf(0.8)
    assert three.variant / one.variant == pytest.approx((wished / 2.8016) ** 2, rel=1e-3)


@pytest.mark.parametrize("fall", [False, True])
@pytest.mark.parametrize("design", [Design(), Design(share=0.3, variants=2, reading="always_valid")])
@pytest.mark.parametrize("baseline", [RATE, MEAN])
def test_the_smallest_effect_is_the_inverse_of_the_size(
    baseline: Baseline, design: Design, fall: bool
) -> None:
    found = smallest_effect(baseline, 40_000, design, fall=fall)
    assert (found.effect < 0) == fall
    assert found.power == pytest.approx(design.power, abs=1e-3)
    assert sample_size(baseline, found.effect, design).total == pytest.approx(40_000, abs=8)


def test_days_are_those_of_entry_and_of_the_last_window() -> None:
    size = sample_size(MEAN, 3.0, Design())
    assert days_needed(size, 1000, 14) == -(-size.total // 1000) + 14


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Baseline(mean=1.2), "mean = 1.2"),
        (lambda: Baseline(mean=1.2, deviation=0.0), "deviation = 0.0"),
        (lambda: Baseline(mean=0.2, explained=1.0), "explained = 1.0"),
        (lambda: Design(share=1.0), "share = 1.0"),
        (lambda: Design(power=0.01), "power = 0.01"),
        (lambda: Design(variants=0), "variants = 0"),
        (lambda: sample_size(RATE, 0.0, Design()), "effect = 0.0"),
        (lambda: sample_size(RATE, 0.95, Design()), "effect = 0.95"),
        (lambda: sample_size(RATE, float("nan"), Design()), "effect = nan"),
        (lambda: smallest_effect(RATE, 1, Design()), "users = 1"),
        (lambda: smallest_effect(RATE, 100, Design(), fall=True), "users = 100: are too few"),
        (lambda: days_needed(sample_size(RATE, 0.02, Design()), 0, 14), "users_a_day = 0"),
        (lambda: days_needed(sample_size(RATE, 0.02, Design()), 5, -1), "within_days = -1"),
    ],
)
def test_nonsense_is_one_sentence(call: Any, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        call()
    assert said in str(caught.value)
