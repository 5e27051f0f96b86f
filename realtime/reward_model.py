"""The reward model behind DM, DR and SwitchDR: one ridge for all actions, and each one's deviation from it.

reward ≈ x·(θ + δ_a), with θ all but free and each δ_a drawn to zero: an action that was shown often
speaks for itself, one that was hardly shown is taken for the average one (partial pooling: Gelman and
Hill, Data Analysis Using Regression and Multilevel Models, 2007). The normal equations are an arrow
whose blocks are as wide as x, so k actions cost k small inversions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: penalty of the common part: only so that columns which say the same have one solution
_LOOSE = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class RewardModel:
    """Ridge of n rewards on n × d contexts (a constant is added) and k actions."""

    #: k × d × d inverses of each action's own block
    inverses: Floats
    #: k × d × d sums of x xᵀ of each action
    grams: Floats
    #: d × d inverse of what is left of the common block
    common: Floats
    #: k × d coefficients of each action: the common part and its own
    coefficients: Floats

    def predict(self, contexts: Floats) -> Floats:
        """n × k expected rewards."""
        return np.asarray(_design(contexts) @ self.coefficients.T)

    def influence(self, contexts: Floats, chosen: Integers, target: Floats) -> Floats:
        """By how much a unit of each row's reward would move Σ over rows of Σ target × prediction: n.

        `contexts` and `chosen` are the rows that it was fitted on, `target` n × k weights.
        """
        design = _design(contexts)
        asked = target.T @ design
        moved = _solve(self.inverses, self.grams, self.common, asked)
        return np.asarray((design * moved[chosen]).sum(axis=1))


def fit(contexts: Floats, chosen: Integers, rewards: Floats, actions: int, ridge: float) -> RewardModel:
    """`ridge`: as many decisions of an action as weigh as much as all others together, above 0."""
    design = _design(contexts)
    width = design.shape[1]
    grams, sums = np.zeros((actions, width, width)), np.zeros((actions, width))
    for action in range(actions):
        rows = design[chosen == action]
        grams[action], sums[action] = rows.T @ rows, rows.T @ rewards[chosen == action]
    inverses: Floats = np.linalg.inv(grams + ridge * np.eye(width)).astype(np.float64)
    # Schur: Σ B − B (B + λ)⁻¹ B = λ Σ B (B + λ)⁻¹, which keeps its precision where B is large
    left = ridge * (grams @ inverses).sum(axis=0) + _LOOSE * np.eye(width)
    common: Floats = np.linalg.inv((left + left.T) / 2).astype(np.float64)
    return RewardModel(
        inverses=inverses,
        grams=grams,
        common=common,
        coefficients=_solve(inverses, grams, common, sums),
    )


def _solve(inverses: Floats, grams: Floats, common: Floats, sums: Floats) -> Floats:
    """Solves the arrow for right-hand sides `sums` (k × d; the common one is their sum): θ + δ, k × d."""
    own = np.einsum("kij,kj->ki", inverses, sums)
    rest = (sums - np.einsum("kij,kj->ki", grams, own)).sum(axis=0)
    theta = common @ rest
    return np.asarray(theta + own - np.einsum("kij,kjl,l->ki", inverses, grams, theta))


def _design(contexts: Floats) -> Floats:
    return np.column_stack([np.ones(len(contexts)), contexts])
