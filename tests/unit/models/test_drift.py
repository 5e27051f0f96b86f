"""Drift: found where it is planted, sized as it was made, silent at the stated rate where there is none."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from scipy.stats import false_discovery_control

from kernel.errors import BadInput
from models.drift import LEAST, FeatureDrift, false_discovery, feature_drift, null_threshold


def normal(n: int, seed: int, **shift: float) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame({name: rng.normal(shift.get(name, 0.0), 1, n) for name in ("a", "b", "c", "d")})


def of(found: FeatureDrift, feature: str) -> dict[str, object]:
    return found.rows.filter(pl.col("feature") == feature).row(0, named=True)


def test_the_one_that_moved_is_named_with_how_far() -> None:
    found = feature_drift(normal(20_000, 1), normal(20_000, 2, c=0.5), ["a", "b", "c", "d"])
    assert found.moved["feature"].to_list() == ["c"]
    row = of(found, "c")
    assert row["shift"] == pytest.approx(0.5, abs=0.03)
    assert row["distance"] == pytest.approx(0.5, abs=0.03)
    # of a normal number the index is the square of the shift, less what ten bins do not see
    assert row["psi"] == pytest.approx(0.25, abs=0.05)
    assert found.as_json()["alarm"]
    json.dumps(found.as_json())


def test_a_move_that_does_not_matter_is_no_alarm_however_sure() -> None:
    found = feature_drift(normal(200_000, 1), normal(200_000, 2, c=0.05), ["c"])
    row = of(found, "c")
    assert row["q"] < 1e-6
    assert row["psi"] > row["threshold"]
    assert not row["moved"]
    assert not found.as_json()["alarm"]


def test_a_large_index_of_few_rows_is_no_alarm() -> None:
    rng = np.random.default_rng(3)
    parts = [(normal(60, rng.integers(2**31)), normal(60, rng.integers(2**31))) for _ in range(50)]
    found = [feature_drift(old, new, ["a"]) for old, new in parts]
    assert np.mean([of(each, "a")["psi"] for each in found]) > 0.2
    assert not any(each.moved.height for each in found)


def test_without_drift_the_index_exceeds_its_threshold_at_the_stated_rate() -> None:
    rng = np.random.default_rng(5)
    above, p = [], []
    for _ in range(150):
        old, new = (pl.DataFrame(rng.normal(size=(n, 8))) for n in (500, 350))
        rows = feature_drift(old, new, old.columns, fdr=0.05).rows
        above += (rows["psi"] > rows["threshold"]).to_list()
        p += (rows["p"] <= 0.05).to_list()
    # 1,200 trials: two standard errors are 0.0126
    assert np.mean(above) == pytest.approx(0.05, abs=0.02)
    assert np.mean(p) == pytest.approx(0.05, abs=0.02)


def test_false_alarms_among_alarms_are_held_to_the_rate() -> None:
    rng = np.random.default_rng(6)
    false, real = [], 0
    for _ in range(30):
        shifts = np.r_[np.full(4, 0.35), np.zeros(36)]
        old = pl.DataFrame(rng.normal(size=(400, 40)))
        new = pl.DataFrame(rng.normal(shifts, 1, size=(400, 40)))
        moved = feature_drift(old, new, old.columns, fdr=0.1, least=1e-9).moved["feature"].to_list()
        wrong = [name for name in moved if name not in old.columns[:4]]
        false.append(len(wrong) / max(len(moved), 1))
        real += len(moved) - len(wrong)
    assert np.mean(false) < 0.1 + 0.05
    assert real > 0.8 * 120


def test_days_are_looked_at_one_by_one() -> None:
    days = [normal(3000, 10 + n, b=0.6 if n == 2 else 0.0).with_columns(day=pl.lit(n)) for n in range(4)]
    found = feature_drift(normal(5000, 1), pl.concat(days), ["a", "b"], day="day")
    assert found.moved.select("day", "feature").rows() == [(2, "b")]
    assert found.rows.height == 8


@pytest.mark.parametrize("spread", [1.6, 0.6])
def test_a_wider_or_narrower_number_has_moved_without_its_mean(spread: float) -> None:
    wide = normal(5000, 2).with_columns(pl.col("a") * spread)
    found = feature_drift(normal(5000, 1), wide, ["a", "b"])
    assert found.moved["feature"].to_list() == ["a"]
    assert of(found, "a")["shift"] == pytest.approx(0, abs=0.06)


def test_missing_values_are_a_move() -> None:
    holes = normal(5000, 2).with_columns(a=pl.when(pl.int_range(5000) % 5 > 0).then("a"))
    found = feature_drift(normal(5000, 1), holes, ["a", "b"])
    assert found.moved["feature"].to_list() == ["a"]
    assert (of(found, "a")["missing"], of(found, "a")["missing_before"]) == (0.2, 0.0)
    with_nan = holes.with_columns(pl.col("a").fill_null(float("nan")))
    assert feature_drift(normal(5000, 1), with_nan, ["a"]).moved.height == 1


def test_values_that_change_in_their_last_digit_have_not_moved() -> None:
    rng = np.random.default_rng(8)
    old = pl.DataFrame({"rate": rng.poisson(2, 4000) / 41.3})
    new = pl.DataFrame({"rate": rng.poisson(2, 4000) / 41.9})
    row = of(feature_drift(old, new, ["rate"]), "rate")
    assert row["psi"] > 10 * LEAST
    assert not row["moved"]


def test_heavy_tails_do_not_hide_a_move() -> None:
    rng = np.random.default_rng(9)
    old, new = (pl.DataFrame({"amount": rng.lognormal(mean, 2, 8000)}) for mean in (0, 0.6))
    assert feature_drift(old, new, ["amount"]).moved.height == 1


def test_labels_and_truths_are_compared_by_label() -> None:
    rng = np.random.default_rng(7)
    names = [f"city {n}" for n in range(60)]
    old = pl.DataFrame({"city": rng.choice(names, 5000), "card": rng.random(5000) < 0.5})
    new = pl.DataFrame({"city": rng.choice(names[:30], 5000), "card": rng.random(5000) < 0.52})
    found = feature_drift(old, new, ["city", "card"])
    assert found.moved["feature"].to_list() == ["city"]
    assert of(found, "city")["shift"] is None
    same = feature_drift(old, old.sample(fraction=1.0, shuffle=True, seed=1), ["city", "card"])
    assert same.rows["psi"].to_list() == [0.0, 0.0]


def test_a_constant_that_changes_has_moved_and_one_that_stays_has_not() -> None:
    old = pl.DataFrame({"x": [1.0] * 100, "y": [2] * 100})
    new = pl.DataFrame({"x": [3.0] * 100, "y": [2] * 100})
    assert feature_drift(old, new, ["x", "y"]).moved["feature"].to_list() == ["x"]


def test_adjusted_p_values_are_scipys() -> None:
    p = np.random.default_rng(1).random(50) ** 2
    assert false_discovery(p) == pytest.approx(false_discovery_control(p))


def test_the_threshold_grows_with_bins_and_falls_with_rows() -> None:
    # χ² with nine degrees of freedom: 16.919 at 95 %
    assert null_threshold(100, 100, 10, 0.05) == pytest.approx(0.02 * 16.919, rel=1e-4)
    assert null_threshold(10_000, 10_000, 10, 0.05) == pytest.approx(0.0002 * 16.919, rel=1e-4)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (normal(50, 1).drop("a"), normal(50, 1), "reference: a: is missing"),
        (normal(50, 1), normal(50, 1).drop("a"), "current: a: is missing"),
        (normal(50, 1).clear(), normal(50, 1), "reference: holds no rows"),
        (normal(50, 1), normal(50, 1).with_columns(a=pl.lit("x")), "a = 'Float64 and String': is neither"),
    ],
)
def test_what_does_not_fit_is_one_sentence(old: pl.DataFrame, new: pl.DataFrame, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        feature_drift(old, new, ["a"])
    assert said in str(caught.value)


def test_nothing_to_look_at_is_refused() -> None:
    with pytest.raises(BadInput, match="features: names nothing"):
        feature_drift(normal(50, 1), normal(50, 2), [])


@pytest.mark.parametrize("kind", [pl.Float64, pl.Null])
def test_a_feature_that_is_gone_altogether_has_moved(kind: type[pl.DataType]) -> None:
    gone = normal(500, 2).with_columns(a=pl.lit(None, kind))
    assert feature_drift(normal(500, 1), gone, ["a", "b"]).moved["feature"].to_list() == ["a"]
    same = feature_drift(gone, gone, ["a"])
    assert (of(same, "a")["psi"], of(same, "a")["moved"]) == (0.0, False)


def test_infinite_values_are_a_bin_and_break_nothing() -> None:
    endless = normal(500, 2).with_columns(a=pl.when(pl.int_range(500) < 200).then(np.inf).otherwise("a"))
    found = feature_drift(normal(500, 1), endless, ["a"])
    assert of(found, "a")["moved"]
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["alarm"]


def test_a_rate_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match=r"fdr = 1\.5"):
        feature_drift(normal(50, 1), normal(50, 2), ["a"], fdr=1.5)
