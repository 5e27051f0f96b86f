"""The gate: better than doing without, by more than two standard errors, or refused with the reason."""

from __future__ import annotations

import numpy as np
import pytest

from kernel.errors import BadInput
from models.profit import profit_curve
from models.qini import qini_curve
from models.uplift_gate import AVERAGE, RANDOM, judge_uplift, targeting_gain


def trial(seed: int, count: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Planted effects, and scores that are right on average."""
    rng = np.random.default_rng(seed)
    effect = 0.2 + spread * rng.normal(size=count)
    return effect, effect + rng.normal(size=count)


def test_what_is_better_than_all_is_promoted() -> None:
    effect, scores = trial(1, 4000, 0.3)
    response = np.random.default_rng(2).normal(size=4000)
    verdict = judge_uplift(effect, scores, average=0.2, baselines={"response": response})
    assert verdict.promote
    assert verdict.refused == ()
    assert [each.baseline for each in verdict.margins] == [RANDOM, "response", AVERAGE]
    assert all(each.errors > 2 and each.difference.low > 0 for each in verdict.margins)
    assert verdict.gain.low < 0.3 / np.sqrt(np.pi) / 2 < verdict.gain.high
    assert verdict.as_json()["promote"] is True


def test_the_baseline_that_is_not_beaten_is_named() -> None:
    effect, scores = trial(3, 4000, 0.3)
    verdict = judge_uplift(effect, scores, average=0.2, baselines={"champion": effect + 0.01})
    assert not verdict.promote
    assert len(verdict.refused) == 1
    assert "champion" in verdict.reason
    assert verdict.margins[1].errors == 0.0


def test_right_order_with_wrong_numbers_is_refused() -> None:
    effect, scores = trial(4, 4000, 0.3)
    verdict = judge_uplift(10 * effect, scores, average=0.2, baselines={})
    assert verdict.margins[0].won
    assert [each.split(":")[0] for each in verdict.refused] == [
        "does not beat average effect in squared error"
    ]


def test_everyone_the_same_is_no_model() -> None:
    _, scores = trial(5, 500, 0.3)
    verdict = judge_uplift(np.full(500, 0.2), scores, average=0.2, baselines={})
    assert not verdict.promote
    assert {each.errors for each in verdict.margins} == {0.0}


def test_noise_passes_no_more_often_than_two_standard_errors_allow() -> None:
    passed = 0
    for seed in range(400):
        _, scores = trial(seed, 300, 0.0)
        made_up = np.random.default_rng(seed + 9000).normal(size=300)
        passed += judge_uplift(0.2 + 1e-3 * made_up, scores, average=0.2, baselines={}).margins[0].won
    # 2.3 % of 400, and three deviations of that
    assert passed <= 18
    assert passed >= 1


def test_the_error_of_the_gain_is_what_new_users_make_of_it() -> None:
    gains, errors = [], []
    for seed in range(300):
        effect, scores = trial(seed, 300, 0.5)
        scores += 3.0  # what all have in common moves nothing
        score, weight = effect + np.random.default_rng(seed).normal(size=300), np.ones(300)
        gain, influence = targeting_gain(score, scores, weight)
        assert influence.mean() == pytest.approx(gain)
        gains.append(gain)
        errors.append(influence.std() / np.sqrt(300))
    assert np.mean(errors) == pytest.approx(np.std(gains), rel=0.12)


def test_the_gain_is_the_area_of_the_qini_curve_were_all_treated() -> None:
    rng = np.random.default_rng(6)
    count = 40_000
    score, treated = rng.normal(size=count), np.arange(count) % 2
    y = (rng.random(count) < 0.3 + 0.1 * np.tanh(score) * treated).astype(float)
    inverse = (treated / 0.5 - (1 - treated) / 0.5) * y
    gain, _ = targeting_gain(score, inverse, np.ones(count))
    curve = qini_curve(y, score, treated)
    assert gain == pytest.approx(2 * curve.over_random / count**2, rel=0.05)


def test_ties_share_their_place() -> None:
    scores = np.array([1.0, 3.0, -2.0, 0.0])
    gain, _ = targeting_gain(np.array([1.0, 1.0, 0.0, 0.0]), scores, np.ones(4))
    assert gain == pytest.approx(np.mean(scores * [0.25, 0.25, -0.25, -0.25]))
    twice, _ = targeting_gain(
        np.array([1.0, 0.0, 0.0]), np.array([2.0, -2.0, 0.0]), np.array([2.0, 1.0, 1.0])
    )
    assert twice == pytest.approx(np.mean(np.array([2, 2, -2, 0]) * [0.25, 0.25, -0.25, -0.25]))


def test_profit_peaks_where_the_effect_no_longer_pays() -> None:
    rng = np.random.default_rng(7)
    effect = rng.uniform(-0.2, 0.4, 20_000)
    scores = effect + rng.normal(size=20_000) * 0.3
    found = profit_curve(effect, scores, value=10.0, cost=1.0, average=0.1, seed=1, resamples=60)
    best = found.points.sort("profit")["share"][-1]
    assert best == pytest.approx(0.5, abs=0.11)
    assert found.share == pytest.approx(0.5, abs=0.02)
    # half of the users gain 10 · 0.25 − 1
    assert found.policy.low < 0.75 < found.policy.high
    assert found.points["profit"][0] == 0.0
    assert found.points["profit"][-1] == pytest.approx(found.everyone.mean)
    assert found.over_average.low > 0.5
    low, profit, high = (found.points[name].to_numpy() for name in ("low", "profit", "high"))
    assert ((low - 1e-9 <= profit) & (profit <= high + 1e-9)).all()


def test_bad_columns_are_named() -> None:
    with pytest.raises(BadInput, match="gate: response: needs one number"):
        judge_uplift(np.zeros(3), np.ones(3), average=0.0, baselines={"response": np.zeros(2)})
    with pytest.raises(BadInput, match="cost: is neither"):
        profit_curve(np.zeros(3), np.ones(3), value=1.0, cost=np.zeros(2), average=0.0, seed=1)
