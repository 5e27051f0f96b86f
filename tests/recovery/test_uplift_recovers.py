"""Planted effects: averages and their intervals find them; what is not there is refused."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.uplift_worlds import WORLDS
from kernel.learning import Interval
from models.uplift import Uplift
from models.uplift_base import Trees
from models.uplift_evidence import UpliftEvidence, evaluate_uplift
from models.uplift_scores import average_effects, score
from models.uplift_trial import as_trial

FEW = Trees(rounds=15)


def average(world: str, seed: int, count: int = 1500) -> tuple[Interval, float, float]:
    """Interval, the planted average of the users that it speaks of, and their share."""
    drawn = WORLDS[world](count, seed)
    trial = as_trial(drawn.users, drawn.treatment, drawn.y, control="0", propensity=drawn.propensity)
    scores = score(trial, seed=seed, trees=FEW)
    found = average_effects(scores)[0]
    return found.effect, float(drawn.effect[scores.overlap[:, 0]].mean()), found.share


@pytest.mark.parametrize("world", WORLDS)
def test_average_effects_lie_in_their_intervals(world: str) -> None:
    found = [average(world, seed) for seed in range(8)]
    # at 95 %, more than one miss in eight happens one time in eighteen; the seeds are fixed
    assert sum(each.low <= truth <= each.high for each, truth, _ in found) >= 7
    assert all(0.1 < each.high - each.low < 0.6 for each, _, _ in found)
    shares = {share for _, _, share in found}
    assert (max(shares) < 0.9) if world == "partly overlapping" else (min(shares) > 0.95)


def test_a_plain_difference_is_wrong_where_treatment_is_confounded() -> None:
    """The world is hard enough that not adjusting would be seen."""
    drawn = WORLDS["confounded"](1500, 0)
    plain = drawn.y[drawn.treatment == 1].mean() - drawn.y[drawn.treatment == 0].mean()
    found, truth, _ = average("confounded", 0)
    assert plain - truth > 0.4
    assert abs(found.mean - truth) < 0.2


def test_missing_overlap_is_said() -> None:
    drawn = WORLDS["partly overlapping"](1500, 1)
    fitted = Uplift(kind="s", trees=FEW).fit(drawn.users, drawn.treatment, drawn.y)
    assert fitted.averages[0].share < 0.9
    assert "nearly always or nearly never treated" in fitted.averages[0].warning


def judged(world: str, kind: str, seed: int, count: int = 6000) -> tuple[UpliftEvidence, float]:
    """Evidence on the later half, and the correlation of foreseen with planted effects there."""
    drawn = WORLDS[world](count, seed)
    half = count // 2
    fitted = Uplift(kind=kind, seed=seed, trees=FEW).fit(
        drawn.users[:half], drawn.treatment[:half], drawn.y[:half], propensity=drawn.propensity
    )
    evidence = evaluate_uplift(
        fitted,
        drawn.users[half:],
        drawn.treatment[half:],
        drawn.y[half:],
        seed=seed,
        propensity=drawn.propensity,
    )
    with np.errstate(invalid="ignore"):
        alike = np.corrcoef(fitted.effects(drawn.users[half:])[:, 0], drawn.effect[half:])[0, 1]
    return evidence["1"], float(alike)


@pytest.mark.parametrize("kind", ["t", "x", "dr"])
@pytest.mark.parametrize("world", ["linear", "interacting", "confounded"])
def test_effects_that_differ_are_found_and_let_through(world: str, kind: str) -> None:
    evidence, alike = judged(world, kind, seed=1)
    assert alike > 0.65
    assert evidence.verdict.promote, evidence.verdict.reason
    assert evidence.ladder[-1].found.low > evidence.ladder[0].found.high


@pytest.mark.parametrize("seed", range(6))
def test_where_effects_do_not_differ_the_gate_refuses(seed: int) -> None:
    """At its rate of at most 2.3 % for order alone; these seeds have no false alarm."""
    evidence, _ = judged("no heterogeneity", "dr", seed, 2000)
    assert not evidence.verdict.promote
    assert evidence.verdict.refused
