"""Conformal intervals of value cover as often as they say, also where the model is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.conformal import coverage, fit_band

Floats = NDArray[np.float64]


def world(seed: int, rows: int, bent: float) -> tuple[Floats, Floats]:
    """Money whose spread grows with its mean, often none; the prediction is off by `bent`."""
    rng = np.random.default_rng(seed)
    mean = rng.gamma(1.5, 60.0, rows)
    y = np.where(rng.random(rows) < 0.2, 0.0, rng.gamma(2.0, mean / 2.0))
    return mean * bent * rng.lognormal(0, 0.2, rows), y


@pytest.mark.parametrize("level", [0.8, 0.9])
@pytest.mark.parametrize("bent", [1.0, 0.6])
def test_intervals_cover_at_the_stated_rate_over_seeds(level: float, bent: float) -> None:
    found = []
    for seed in range(20):
        predicted, y = world(seed, 4000, bent)
        band = fit_band(predicted[:2000], y[:2000], level=level)
        found.append(coverage(band(predicted[2000:]), y[2000:]).mean())
    assert level - 0.005 < np.mean(found) < level + 0.04  # none below nothing: amounts of 0 are always inside
    assert min(found) > level - 0.035


def test_they_cover_small_and_large_amounts_alike() -> None:
    parts: list[list[float]] = [[] for _ in range(4)]
    for seed in range(20):
        predicted, y = world(100 + seed, 6000, 1.0)
        band = fit_band(predicted[:3000], y[:3000])
        inside = coverage(band(predicted[3000:]), y[3000:])
        place = np.argsort(np.argsort(predicted[3000:])) * 4 // 3000
        for part in range(4):
            parts[part].append(float(inside[place == part].mean()))
    assert all(np.mean(part) > 0.885 for part in parts)


def test_ends_keep_their_order_and_their_bounds() -> None:
    predicted, y = world(7, 500, 1.0)
    band = fit_band(predicted, y, most=300.0)
    low, high = band(np.linspace(0, 400, 100))
    assert (low <= high).all()
    assert low.min() >= 0
    assert high.max() <= 300


def test_few_errors_make_one_level_and_the_widest_interval() -> None:
    predicted, y = world(8, 12, 1.0)
    band = fit_band(predicted, y)
    assert band.edges == ()
    assert band.errors[0] == pytest.approx(((y - predicted).min(), (y - predicted).max()))
