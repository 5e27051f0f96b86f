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
    """The champion's best rows are missing from the log by chance: its estimate alone would be beaten."""
    challenger, champion = world(3, 0.0, rows=4000)
    verdict = judge(challenger, champion)
    assert verdict.difference.low < verdict.difference.mean < verdict.difference.high
    assert verdict.promote == (
        verdict.challenger.dr.low > verdict.champion.dr.mean and verdict.difference.low > 0
    )


def test_two_logs_are_not_compared() -> None:
    challenger, _ = world(1, 0.5)
    _, champion = world(2, 0.5)
    with pytest.raises(BadInput, match="not the same"):
        judge(challenger, champion)
