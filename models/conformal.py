"""Intervals that hold as often as they say, whatever the model: conformal prediction.

Split conformal prediction with one set of errors for each level of the prediction (Vovk, Gammerman, Shafer,
"Algorithmic learning in a random world", 2005: Mondrian), from out-of-fold errors: large amounts err by
more. Both ends are asked for half of what may be missed, so that neither side is always the one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: fewest errors of a level: below so many the next 1 in 20 is not known
_FEWEST = 100
_LEVELS = 12


@dataclass(frozen=True, kw_only=True)
class Band:
    """What to add to a prediction for the ends of its interval."""

    level: float
    #: lowest prediction of each level after the first
    edges: tuple[float, ...]
    #: (below, above), one a level: the unit of the prediction
    errors: tuple[tuple[float, float], ...]
    #: no outcome is outside of these
    least: float
    most: float

    def __call__(self, predicted: Floats) -> tuple[Floats, Floats]:
        """Lower and upper ends, one a row."""
        place = np.searchsorted(np.asarray(self.edges), predicted, side="right")
        below, above = np.asarray(self.errors)[place].T
        low, high = predicted + below, predicted + above
        return np.clip(low, self.least, self.most), np.clip(high, self.least, self.most)


def fit_band(
    predicted: Floats,
    y: Floats,
    *,
    level: float = 0.9,
    least: float = 0.0,
    most: float = float("inf"),
) -> Band:
    """From predictions for rows that the model had not learned from, and what came of them.

    For exchangeable rows an interval covers at least `level` (each end misses at most half of the rest),
    within each level of the prediction.
    """
    levels = max(1, min(_LEVELS, len(y) // _FEWEST))
    edges = np.unique(np.quantile(predicted, np.arange(1, levels) / levels)) if levels > 1 else np.array([])
    place = np.searchsorted(edges, predicted, side="right")
    half = (1 - level) / 2
    errors = []
    for each in range(len(edges) + 1):
        error = (y - predicted)[place == each]
        # a level without rows (ties) takes all of them
        error = error if len(error) else y - predicted
        errors.append((-conformal(-error, 1 - half), conformal(error, 1 - half)))
    return Band(level=level, edges=tuple(edges.tolist()), errors=tuple(errors), least=least, most=most)


def conformal(error: Floats, level: float) -> float:
    """What an error of a new row exceeds in 1 − `level` of cases at most: the ⌈level · (n + 1)⌉-th smallest,
    with too few rows the largest."""
    place = min(int(np.ceil(level * (len(error) + 1))), len(error))
    return float(np.partition(error, place - 1)[place - 1])


def coverage(ends: tuple[Floats, Floats], y: Floats) -> Floats:
    """1 where the outcome lies in its interval."""
    low, high = ends
    return np.asarray((low <= y) & (y <= high), dtype=np.float64)
