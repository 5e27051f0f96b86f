"""Calibration: probabilities that mean what they say, by the method that held-out data prefers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

Floats = NDArray[np.float64]
_EDGE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Calibrator:
    """Maps a score to a probability, never changing the order of two scores."""

    #: `none`, `platt` (Platt 1999) or `isotonic` (Zadrozny & Elkan 2002)
    method: str
    fitted: Any = None

    def __call__(self, score: Floats) -> Floats:
        if self.method == "platt":
            return np.asarray(expit(self.fitted[0] + self.fitted[1] * _odds(score)))
        if self.method == "isotonic":
            # a whisper of the score keeps apart what the steps would tie
            steps = self.fitted.predict(score)
            return np.asarray(np.clip((1 - 1e-3) * steps + 1e-3 * score, _EDGE, 1 - _EDGE))
        return np.asarray(score)


def choose_calibrator(score: Floats, y: Floats, seed: int) -> Calibrator:
    """The method with the least cross-validated log loss on out-of-sample scores.

    `none` unless another is better by more than one standard error over the folds: a calibrator that
    is not needed only adds noise.
    """
    losses: dict[str, list[float]] = {"none": [], "platt": [], "isotonic": []}
    for train, test in StratifiedKFold(5, shuffle=True, random_state=seed % 2**31).split(score, y):
        for method, each in losses.items():
            predicted = _fit(method, score[train], y[train])(score[test])
            each.append(log_loss(y[test], np.clip(predicted, _EDGE, 1 - _EDGE), labels=[0, 1]))
    best = "none"
    for method in ("platt", "isotonic"):
        gain = np.array(losses[best]) - np.array(losses[method])
        if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
            best = method
    return _fit(best, score, y)


def _fit(method: str, score: Floats, y: Floats) -> Calibrator:
    if method == "platt":
        model = LogisticRegression(C=1e6, max_iter=1000).fit(_odds(score)[:, None], y)
        # a negative slope would turn the order around
        return Calibrator(
            method=method, fitted=(float(model.intercept_[0]), max(float(model.coef_[0, 0]), 1e-3))
        )
    if method == "isotonic":
        return Calibrator(method=method, fitted=IsotonicRegression(out_of_bounds="clip").fit(score, y))
    return Calibrator(method=method)


def _odds(score: Floats) -> Floats:
    return np.asarray(logit(np.clip(score, _EDGE, 1 - _EDGE)))
