"""The average effects of several treatments, drawn towards nothing by what their noise makes sensible."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

from kernel.learning import Interval
from models.uplift_scores import AverageEffect


def shrunken(averages: Sequence[AverageEffect], level: float = 0.95) -> tuple[Interval, ...]:
    """Each times τ² / (τ² + error²), where τ² = mean(effect² − error²), 0 at least, is how large effects of
    these treatments are (empirical Bayes: Morris 1983, by moments, about nothing).

    An effect no larger than its noise becomes 0; one of five standard errors loses a twenty-fifth. The
    interval keeps the width that was measured, which is too wide rather than too narrow.
    """
    spread = max(sum(each.effect.mean**2 - each.error**2 for each in averages) / len(averages), 0.0)
    reach = NormalDist().inv_cdf((1 + level) / 2)
    found = []
    for each in averages:
        known = spread + each.error**2
        mean = each.effect.mean * (spread / known if known > 0 else 1.0)
        half = reach * each.error
        found.append(Interval(mean=mean, low=mean - half, high=mean + half, level=level))
    return tuple(found)
