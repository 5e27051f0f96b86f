"""Of all learners the one that tells the effect of users best whom it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
    #: members × treatments: 0 for all but one, at most
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
    """The member whose out-of-fold effects tell doubly robust scores best, as far as they tell anything.

    Cross-validated selection (the discrete super learner of van der Laan, Polley, Hubbard 2007) by the loss
    of R-stacking (Nie and Wager 2021) with the scores' loss; scores are cross-fitted too, so that no user is
    told its own outcome. How much of the chosen effects is believed is their slope against the scores, less
    what chance makes of it: where nothing differs between users it is about none, and what is left is the
    average effect.
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
    """Of members: one is above 0 at most. `unseen`: users × members."""
    root = np.sqrt(share)[:, None]
    a, b = root * (unseen - share @ unseen), root[:, 0] * (effect - share @ effect)
    along, size = a.T @ b, np.maximum(np.square(a).sum(axis=0), 1e-30)
    # by how many standard errors of the scores' noise each one tells them
    noise = max(float(b @ b) * float(np.square(share).sum()), 1e-30)
    errors = along / np.sqrt(size * noise)
    best, weights = int(errors.argmax()), np.zeros(unseen.shape[1])
    if errors[best] > 1:
        # one standard error is what chance alone makes of a slope (James and Stein 1961)
        weights[best] = along[best] / size[best] * (1 - errors[best] ** -2)
    return weights
