"""The gate on logs whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kernel.errors import BadInput
from realtime.gate import judge
from realtime.offpolicy import LoggedChoices


def world(seed: int, gain: float, rows: int = 2000) -> tuple[LoggedChoices, LoggedChoices]:
    """A uniform log of two actions of which the second earns `gain` more; (always second, uniform)."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, 2, rows)
    champion = LoggedChoices(
        rewards=rng.normal(size=rows) + gain * chosen,
        chosen=chosen,
        propensities=np.full(rows, 0.5),
        target=np.full((rows, 2), 0.5),
        contexts=rng.normal(size=(rows, 2)),
    )
    return replace(champion, target=np.tile([0.1, 0.9], (rows, 1))), champion


def test_a_better_challenger_is_promoted_and_a_worse_one_is_not() -> None:
    better, champion = world(1, 0.5)
    verdict = judge(better, champion)
    assert verdict.promote
    assert verdict.difference.low > 0
    assert verdict.difference.mean == pytest.approx(0.4 * 0.5, abs=0.08)
    assert "lower bound" in verdict.reason
    worse, champion = world(1, -0.5)
    refused = judge(worse, champion)
    assert not refused.promote
    assert "does not lie above" in refused.reason


def test_an_equal_challenger_hardly_ever_passes() -> None:
    """A one-sided error of 2.5 % is stated: of 200 logs at most 5 % may pass."""
    passed = sum(judge(*world(seed, 0.0, rows=400)).promote for seed in range(200))
    assert passed <= 10


def test_a_challenger_that_the_log_does_not_cover_is_refused_however_good() -> None:
    challenger, champion = world(2, 5.0)
    thin = replace(champion, propensities=np.where(champion.chosen == 1, 0.002, 0.998))
    verdict = judge(replace(challenger, propensities=thin.propensities), thin)
    assert not verdict.promote
    assert "does not cover" in verdict.reason or "say as much" in verdict.reason


def test_an_uncertain_champion_needs_the_paired_difference() -> None:
    """The champion does what the log hardly shows, and by chance looks poor: of 100 logs in which both
    earn alike many would pass by the estimates alone, and few may."""
    beaten = passed = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        chosen = (rng.random(2000) < 0.1).astype(np.int64)
        champion = LoggedChoices(
            rewards=rng.normal(size=2000),
            chosen=chosen,
            propensities=np.where(chosen == 1, 0.1, 0.9),
            target=np.tile([0.0, 1.0], (2000, 1)),
            contexts=rng.normal(size=(2000, 1)),
        )
        verdict = judge(replace(champion, target=np.tile([1.0, 0.0], (2000, 1))), champion)
        beaten += verdict.challenger.dr.low > verdict.champion.dr.mean
        passed += verdict.promote
    assert beaten > 15
    assert passed <= 8


def test_a_sure_but_small_difference_is_not_enough() -> None:
    """The challenger is all but the champion, so the difference is sure; its own estimate is not."""
    _, champion = world(1, 0.5)
    verdict = judge(replace(champion, target=np.tile([0.45, 0.55], (2000, 1))), champion)
    assert verdict.difference.low > 0
    assert not verdict.promote
    assert "does not lie above" in verdict.reason


def test_two_logs_are_not_compared() -> None:
    challenger, _ = world(1, 0.5)
    _, champion = world(2, 0.5)
    with pytest.raises(BadInput, match="not the same"):
        judge(challenger, champion)
