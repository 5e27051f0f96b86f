"""Intervals as wide as each user asks for: conformalised quantile regression.

Two learners foretell the lower and the upper end; what unseen outcomes miss them by is added to each, so that
they hold as often as they say, whatever the learners (Romano, Patterson, Candès, "Conformalized quantile
regression", NeurIPS 2019; each end by itself, and by levels of the width, so that the sure are not covered
too often for the sake of the unsure). Beside the levels of `models.conformal`, whose width follows
the prediction alone, these see that two users of one prediction differ in how sure it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.conformal import conformal
from models.learners import Boosted, Setting, fit_quantile

Floats = NDArray[np.float64]
#: fewest rows of a level, and most levels of the width
_FEWEST, _LEVELS = 200, 6


@dataclass(frozen=True, kw_only=True)
class Heads:
    """Lower and upper ends, learned on square roots."""

    level: float
    low: Boosted
    high: Boosted
    #: least width of each level after the first, in roots
    edges: tuple[float, ...]
    #: (below, above), one a level: what each end is moved outwards by, in roots; below 0: inwards
    moves: tuple[tuple[float, float], ...]
    #: no outcome is outside of these
    least: float
    most: float

    def __call__(self, x: Floats) -> tuple[Floats, Floats]:
        """Lower and upper ends, one a row of features."""
        low, high = _ordered(self.low.raw(x), self.high.raw(x))
        below, above = np.asarray(self.moves)[_level(self.edges, high - low)].T
        low, high = _ordered(low - below, high + above)
        return self._money(low), self._money(high)

    def _money(self, root: Floats) -> Floats:
        return np.clip(np.square(np.maximum(root, 0.0)), self.least, self.most)


def fit_heads(
    x: Floats,
    y: Floats,
    names: Sequence[str],
    seed: int,
    setting: Setting,
    folds: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
    *,
    level: float = 0.9,
    least: float = 0.0,
    most: float = float("inf"),
) -> Heads:
    """`folds`: (rows learned from, rows not seen) that together leave each row unseen once.

    Each end misses at most half of 1 − `level` of exchangeable rows.
    """
    half, root = (1 - level) / 2, np.sqrt(np.maximum(y, 0.0))
    low, high = np.empty_like(y), np.empty_like(y)
    for fold, (seen, rest) in enumerate(folds):
        for end, part in ((low, half), (high, 1 - half)):
            end[rest] = fit_quantile(x[seen], y[seen], names, seed + fold, part, setting.fewer()).raw(x[rest])
    low, high = _ordered(low, high)
    levels = max(1, min(_LEVELS, len(y) // _FEWEST))
    edges = tuple(np.unique(np.quantile(high - low, np.arange(1, levels) / levels)).tolist())
    place = _level(edges, high - low)
    moves = []
    for each in range(len(edges) + 1):
        # a level without rows (ties) takes all of them
        mine = place == each if (place == each).any() else np.ones(len(y), dtype=bool)
        missed = (low - root)[mine], (root - high)[mine]
        moves.append((conformal(missed[0], 1 - half), conformal(missed[1], 1 - half)))
    return Heads(
        level=level,
        low=fit_quantile(x, y, names, seed, half, setting.fewer(2)),
        high=fit_quantile(x, y, names, seed, 1 - half, setting.fewer(2)),
        edges=edges,
        moves=tuple(moves),
        least=least,
        most=most,
    )


def _ordered(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Two learners may cross."""
    return np.minimum(low, high), np.maximum(low, high)


def _level(edges: tuple[float, ...], width: Floats) -> NDArray[np.intp]:
    return np.searchsorted(np.asarray(edges), width, side="right")
