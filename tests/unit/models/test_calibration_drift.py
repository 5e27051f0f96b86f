"""Calibration by day: the alarm's rate without drift, and how soon planted drift is found."""

from __future__ import annotations

import json
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from kernel.errors import BadInput
from models.calibration_drift import ALLOWANCE, alarm_level, calibration_drift, effect_drift

BEGIN = date(2026, 1, 1)


def chances(days: int, a_day: int, seed: int, *, off: float = 0.0, since: int = 0) -> pl.DataFrame:
    """Predictions that come true, but for a rise by `off` of the true rate from day `since` on."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), a_day)
    predicted = rng.uniform(0.05, 0.3, len(day))
    true = predicted * (1 + off * (day >= since))
    return pl.DataFrame(
        {
            "day": [BEGIN + timedelta(days=int(n)) for n in day],
            "predicted": predicted,
            "observed": rng.random(len(day)) < true,
        }
    )


@pytest.mark.parametrize("horizon", [30, 200])
def test_without_drift_alarms_come_at_the_stated_rate(horizon: int) -> None:
    rng = np.random.default_rng(horizon)
    level, runs = alarm_level(0.1, horizon), 6000
    above, below, alarm = np.zeros(runs), np.zeros(runs), np.zeros(runs, bool)
    for _ in range(horizon):
        z = rng.normal(size=runs)
        above, below = np.maximum(0, above + z - ALLOWANCE), np.maximum(0, below - z - ALLOWANCE)
        alarm |= (above >= level) | (below >= level)
    # two standard errors are 0.008
    assert alarm.mean() == pytest.approx(0.1, abs=0.012)


def test_well_calibrated_predictions_raise_no_alarm_more_often_than_stated() -> None:
    runs = [calibration_drift(chances(60, 100, seed), horizon=60) for seed in range(40)]
    assert sum(run.alarm for run in runs) <= 6  # 2 expected; more in one of a hundred trials
    assert all(run.since is None for run in runs if not run.alarm)


def test_planted_drift_is_found_soon_with_the_day_on_which_it_began() -> None:
    late, begun = [], []
    for seed in range(20):
        found = calibration_drift(chances(60, 400, seed, off=0.15, since=30))
        assert found.alarm
        first = found.days.filter("alarm")["day"][0]
        late.append((first - BEGIN).days - 30)
        assert isinstance(found.since, date)
        begun.append((found.since - BEGIN).days - 30)
    assert 0 <= np.median(late) <= 12
    assert abs(np.median(begun)) <= 4


def test_a_fall_is_found_too_and_one_bad_day_is_not_drift() -> None:
    assert calibration_drift(chances(60, 400, 1, off=-0.2, since=20)).alarm
    bad = chances(60, 400, 2)
    day = BEGIN + timedelta(days=30)
    # one day four standard errors off
    extra = pl.DataFrame(
        {"day": [day] * 40, "predicted": [0.02] * 40, "observed": [True] * 28 + [False] * 12}
    )
    assert (
        not calibration_drift(pl.concat([bad, extra]), horizon=60)
        .days.filter(pl.col("day") > day + timedelta(days=20))["alarm"]
        .any()
    )


def test_a_days_figures_by_hand() -> None:
    rows = pl.DataFrame({"day": [BEGIN] * 100, "predicted": [0.2] * 100, "observed": [1] * 30 + [0] * 70})
    found = calibration_drift(rows)
    row = found.days.row(0, named=True)
    assert row["difference"] == pytest.approx(0.1)
    assert row["z"] == pytest.approx(10 / 16**0.5)
    assert row["low"] == pytest.approx(0.1 - 1.959964 * 0.04, abs=1e-6)
    assert row["above"] == pytest.approx(2.0)
    assert row["below"] == 0.0
    json.dumps(found.as_json())


def test_money_takes_its_variance_from_the_day() -> None:
    rng = np.random.default_rng(3)
    n = 40 * 200
    rows = pl.DataFrame(
        {
            "day": [BEGIN + timedelta(days=k // 200) for k in range(n)],
            "predicted": rng.gamma(2, 20, n),
        }
    ).with_columns(observed=pl.col("predicted") + pl.Series(rng.normal(0, 60, n)))
    assert not calibration_drift(rows, probability=False).alarm
    assert calibration_drift(rows.with_columns(pl.col("observed") + 12), probability=False).alarm


def test_uplift_that_fades_is_found() -> None:
    rng = np.random.default_rng(4)
    days = pl.DataFrame(
        {
            "day": [BEGIN + timedelta(days=k) for k in range(80)],
            "rows": 2000,
            "predicted": 0.02,
            "error": 0.01,
        }
    )
    steady = days.with_columns(observed=pl.Series(rng.normal(0.02, 0.01, 80)))
    assert not effect_drift(steady).alarm
    faded = steady.with_columns(
        pl.when(pl.int_range(80) >= 40)
        .then(pl.col("observed") - 0.015)
        .otherwise("observed")
        .alias("observed")
    )
    assert effect_drift(faded).alarm


def test_thin_days_are_left_out() -> None:
    rows = pl.concat([chances(3, 100, 1), chances(4, 10, 2).with_columns(pl.col("day") + timedelta(days=9))])
    assert calibration_drift(rows).days.height == 3
    with pytest.raises(BadInput, match="holds no day with 30 rows"):
        calibration_drift(chances(4, 10, 2))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (chances(2, 50, 1).drop("observed"), "observed: is missing"),
        (chances(2, 50, 1).with_columns(observed=pl.lit("yes")), "observed = 'String': is not a number"),
        (chances(2, 50, 1).with_columns(predicted=pl.lit(1.5)), "predicted: is no probability"),
        (
            chances(2, 50, 1).with_columns(predicted=pl.lit(float("nan"))),
            "predicted: is missing or no number",
        ),
        (chances(2, 50, 1).with_columns(day=pl.lit(None)), "day: is missing or no number"),
    ],
)
def test_rows_that_do_not_fit_are_one_sentence(rows: pl.DataFrame, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        calibration_drift(rows)
    assert said in str(caught.value)


@pytest.mark.parametrize(("alpha", "horizon"), [(0.0, 30), (1.0, 30), (0.05, 0), (0.05, 10**6)])
def test_rates_that_are_none_are_refused(alpha: float, horizon: int) -> None:
    with pytest.raises(BadInput):
        alarm_level(alpha, horizon)
