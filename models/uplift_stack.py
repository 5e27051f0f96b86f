"""All learners together, weighted by how well they tell the effect of users whom they have not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from kernel.randomness import derive_seed
from models.uplift_learners import LEARNERS, Effects, Lesson, lesson, overlap_weight
from models.uplift_scores import folds_of
from models.uplift_trial import Floats

_FOLDS = 4


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Σ weight × (effect − its mean) + average effect, for each treatment."""

    members: tuple[Effects, ...]
    #: members × treatments: mean effect that each foresees
    centres: Floats
    #: members × treatments; never negative
    weights: Floats
    #: treatments: average effect where users overlap
    averages: Floats

    def effect(self, x: Floats) -> Floats:
        found = np.tile(self.averages, (len(x), 1))
        for member, centre, weight in zip(self.members, self.centres, self.weights, strict=True):
            if weight.any():
                found += weight * (member.effect(x) - centre)
        return found


def learn_stack(given: Lesson) -> Stack:
    """Weights by non-negative least squares of doubly robust scores on out-of-fold effects.

    R-stacking (Nie and Wager 2021) with the scores' loss, drawn towards equal weights by as much as the
    noise makes sensible: where nothing differs between users all weights go to zero, and what is left is
    the average effect. Scores are cross-fitted too, so that no user is told its own outcome.
    """
    trial, scores = given.trial, given.scores
    fold = folds_of(trial.arm, _FOLDS, derive_seed(given.seed, "stack"))
    unseen = np.empty((len(LEARNERS), len(trial), len(trial.treatments)))
    for each in range(_FOLDS):
        rest, here, seed = trial.rows(fold != each), fold == each, derive_seed(given.seed, "stack", each)
        part = lesson(rest, given.trees, seed, folds=2)
        for place, learn in enumerate(LEARNERS.values()):
            unseen[place, here] = learn(part).effect(trial.x[here])
    members = tuple(learn(given) for learn in LEARNERS.values())
    foreseen = np.array([member.effect(trial.x) for member in members])
    centres, weights, averages = [], [], []
    for column in range(len(trial.treatments)):
        share = trial.weight * overlap_weight(scores, column)
        share = share / share.sum()
        centres.append(foreseen[:, :, column] @ share)
        averages.append(share @ scores.effect[:, column])
        weights.append(_weights(unseen[:, :, column].T, scores.effect[:, column], share))
    return Stack(
        members=members,
        centres=np.array(centres).T,
        weights=np.array(weights).T,
        averages=np.array(averages),
    )


def _weights(unseen: Floats, effect: Floats, share: Floats) -> Floats:
    """Of members, ≥ 0. `unseen`: users × members."""
    count = unseen.shape[1]
    root = np.sqrt(share)[:, None]
    a, b = root * (unseen - share @ unseen), root[:, 0] * (effect - share @ effect)
    together = a.mean(axis=1)
    slope = max(float(together @ b) / max(float(together @ together), 1e-30), 0.0)
    # how far weights stray from equal ones is, a priori, as far as they are from nothing
    noise = float(b @ b) * float(np.square(share).sum())
    pull = np.sqrt(noise) * count
    found, _ = nnls(np.vstack([a, pull * np.eye(count)]), np.append(b, np.full(count, pull * slope / count)))
    return np.asarray(found)
