"""The split against what was declared."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from scipy.stats import chisquare, dirichlet_multinomial, multinomial

from kernel.errors import BadInput
from models.sample_ratio import CAUSES, CONCENTRATIONS, chi_squared_p, sample_ratio, sequential_p

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SHARES = {"a": 0.5, "b": 0.3, "c": 0.2}


def assigned(n: int, seed: int, lost: float = 0.0, days: int = 20) -> pl.DataFrame:
    """Users of three variants; of phones, a part of variant c is lost before being counted."""
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "user": range(n),
            "variant": rng.choice(list(SHARES), n, p=list(SHARES.values())),
            "at": [BEGIN + timedelta(minutes=int(m)) for m in np.sort(rng.integers(0, days * 1440, n))],
            "device": rng.choice(["phone", "desk"], n),
            "keep": rng.random(n) >= lost,
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )
    gone = (pl.col("variant") == "c") & (pl.col("device") == "phone") & ~pl.col("keep")
    return frame.filter(~gone)


def test_one_look_is_pearsons() -> None:
    counts, theta = np.array([520.0, 290, 190]), np.array([0.5, 0.3, 0.2])
    assert chi_squared_p(counts, theta) == pytest.approx(chisquare(counts, theta * 1000).pvalue)


def test_every_look_is_the_mixture_over_the_declared_chance() -> None:
    counts, theta = np.array([620, 250, 130]), np.array([0.5, 0.3, 0.2])
    # the multinomial coefficient, which both sides share, drops out
    mixed = [dirichlet_multinomial.pmf(counts, weight * theta, 1000) for weight in CONCENTRATIONS]
    plain = multinomial.pmf(counts, 1000, theta)
    found = sequential_p(counts[None, :].astype(float), theta)
    assert found[0] == pytest.approx(plain / np.mean(mixed), rel=1e-6)


def test_a_p_value_never_rises_again() -> None:
    running = np.cumsum([[90.0, 10.0], *[[50.0, 50.0]] * 40], axis=0)
    found = sequential_p(running, np.array([0.5, 0.5]))
    assert (np.diff(found) <= 0).all()
    assert found[0] < 1e-6


def test_a_right_split_is_left_alone() -> None:
    found = sample_ratio(assigned(20_000, 1), SHARES, ("device",))
    assert not found.alarm
    assert found.since is None
    assert found.segments.is_empty()
    assert sum(found.counts.values()) == 20_000
    assert found.as_json()["look_at"] == []


def test_a_lost_part_is_found_with_its_day_and_segment() -> None:
    found = sample_ratio(assigned(20_000, 1, lost=0.25), SHARES, ("device",))
    assert found.alarm
    assert found.p_fixed < 1e-6
    assert date(2026, 1, 1) < found.since <= date(2026, 1, 20)
    assert set(found.segments["label"]) == {"phone"}
    worst = found.segments.filter(pl.col("variant") == "c")
    counts = found.segments.sort("variant")["counted"].to_numpy().astype(float)
    p = chi_squared_p(counts, np.array(list(SHARES.values())))  # of one of two labels
    assert worst["p"][0] == pytest.approx(2 * p, rel=1e-9, abs=0)
    assert worst["counted"][0] < 0.85 * worst["expected"][0]
    assert found.as_json()["look_at"] == list(CAUSES)


def test_shares_need_not_be_of_everyone() -> None:
    halves = assigned(5000, 2).filter(pl.col("variant") != "a")
    found = sample_ratio(halves, {"b": 0.3, "c": 0.2})
    assert found.shares == pytest.approx({"b": 0.6, "c": 0.4})
    assert not found.alarm


def test_what_does_not_fit_is_refused() -> None:
    frame = assigned(100, 3)
    with pytest.raises(BadInput, match="variant = 'c'"):
        sample_ratio(frame.filter(pl.col("variant") == "c"), {"a": 0.5, "b": 0.5})
    with pytest.raises(BadInput, match="assigned: at: is missing"):
        sample_ratio(frame.drop("at"), SHARES)
    with pytest.raises(BadInput, match="assigned: at = 'Int64': is not a time"):
        sample_ratio(frame.with_columns(at=pl.lit(1, pl.Int64)), SHARES)
    with pytest.raises(BadInput, match="holds nobody"):
        sample_ratio(frame.clear(), SHARES)
    with pytest.raises(BadInput, match="segment = 'planet'"):
        sample_ratio(frame, SHARES, ("planet",))
