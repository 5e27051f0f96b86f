"""A linear regression from its sums alone, drawn to zero as strongly as makes what was seen most likely.

The evidence framework: MacKay, Bayesian Interpolation, 1992. With noise of unknown size, columns j of
strength λ (relative to the noise) and Λ = diag(λ):

    log evidence = −n/2 · log(y'y − h'θ) − ½ log |G + Λ| + ½ log |Λ|,    (G + Λ) θ = h

where G = Σ φφ', h = Σ φy. Columns belong to groups that share one strength, so what all users or all
actions have in common is told from what only one pair shows, and a group that foretells nothing vanishes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]

#: strengths are powers of this, with exponents in this range
_STEP, _LEAST, _MOST = 4.0, -2, 5


class Sums:
    """Of rows φ (columns in groups) with their y: all that the regression needs."""

    def __init__(self, groups: Integers) -> None:
        #: column → its group; 0 is drawn to zero hardly at all
        self.groups = groups
        size = len(groups)
        self.gram: Floats = np.zeros((size, size))
        self.cross: Floats = np.zeros(size)
        #: how often a column was not zero, and Σ of what it was
        self.seen: Floats = np.zeros(size)
        self.total: Floats = np.zeros(size)
        self.squares = 0.0
        self.rows = 0.0

    def add(self, places: Integers, values: Floats, y: float) -> None:
        """`places` differ from each other."""
        self.gram[places[:, None], places] += values[:, None] * values
        self.cross[places] += y * values
        self.seen[places] += 1.0
        self.total[places] += values
        self.squares += y * y
        self.rows += 1.0

    def fade(self, by: float) -> None:
        for each in (self.gram, self.cross, self.seen, self.total):
            each *= by
        self.squares *= by
        self.rows *= by

    def fit(self, exponents: Sequence[int]) -> tuple[Floats, float]:
        """θ of every column, and the log evidence of these strengths, one a group from the second on."""
        used = np.flatnonzero(self.seen > 0)
        gram, cross = self.gram[np.ix_(used, used)], self.cross[used]
        strengths = np.array([1e-3, *(_STEP**each for each in exponents)])[self.groups[used]]
        prior = strengths * self._spreads(used)
        theta = np.zeros(len(self.cross))
        gram.flat[:: len(used) + 1] += prior
        try:
            factor = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return theta, -math.inf
        found = cho_solve(factor, cross, check_finite=False)
        theta[used] = found
        left = max(self.squares - float(cross @ found), 1e-12 * self.squares, 1e-300)
        volume = float(np.log(np.diagonal(factor[0])).sum())
        evidence = -0.5 * self.rows * math.log(left) - volume + 0.5 * float(np.log(prior).sum())
        return theta, evidence

    def better(self, exponents: Sequence[int]) -> tuple[int, ...]:
        """The exponents after one step, in each group in turn, to where the evidence is higher."""
        best, (_, height) = list(exponents), self.fit(exponents)
        for place in range(len(best)):
            for move in (1, -1):
                tried = [*best]
                tried[place] += move
                if not _LEAST <= tried[place] <= _MOST:
                    continue
                evidence = self.fit(tried)[1]
                if evidence > height:
                    best, height = tried, evidence
                    break
        return tuple(best)

    def _spreads(self, used: Integers) -> Floats:
        """Of a category, 1; of a number, its variance where it was told: its unit must not matter."""
        seen = np.maximum(self.seen[used], 1e-300)
        square = np.diagonal(self.gram)[used] / seen
        variance = square - (self.total[used] / seen) ** 2
        return np.where(np.abs(square - 1) < 1e-9, 1.0, np.maximum(variance, 1e-2 * square) + 1e-12)
