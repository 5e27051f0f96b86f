"""Watching every model at once: planted drift is found, and without any a run alarms at the stated rate."""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.monitoring import FDR
from models.api import feature_drift

MODELS, FEATURES, ROWS = 4, 6, 400
NAMES = [f"f{each}" for each in range(FEATURES)]


def frame(rng: np.random.Generator, shift: float = 0.0) -> pl.DataFrame:
    """Normal, skewed, counted and thinly filled features; the first is shifted."""
    columns = [rng.normal(size=ROWS) for _ in NAMES]
    columns[0] = columns[0] + shift
    columns[1], columns[2] = np.exp(columns[1]), rng.poisson(2, ROWS).astype(float)
    columns[3] = np.where(rng.random(ROWS) < 0.7, 0.0, columns[3])
    return pl.DataFrame(dict(zip(NAMES, columns, strict=True)))


def alarmed(rng: np.random.Generator, rate: float, least: float, shift: float = 0.0) -> set[str]:
    """What a run over all models says has moved; only the first model's first feature has."""
    found = set()
    for model in range(MODELS):
        drift = feature_drift(
            frame(rng), frame(rng, shift if model == 0 else 0.0), NAMES, fdr=rate / MODELS, least=least
        )
        found |= {f"{model}.{name}" for name in drift.moved["feature"]}
    return found


def test_without_drift_a_run_alarms_at_its_rate_at_most() -> None:
    """Any distance is let count, so that nothing but the tests holds alarms back."""
    rng, rate, runs = np.random.default_rng(5), 0.2, 150
    false = sum(bool(alarmed(rng, rate, least=1e-12)) for _ in range(runs))
    # 30 are expected at most; 45 or more would happen once in 600 times
    assert 5 < false < 45


def test_as_it_is_watched_nothing_is_alarmed_of_and_a_planted_drift_always_is() -> None:
    rng = np.random.default_rng(6)
    assert not any(alarmed(rng, FDR, least=0.04) for _ in range(20))
    assert all(alarmed(rng, FDR, least=0.04, shift=0.6) == {"0.f0"} for _ in range(20))
