"""What held-out users say of an uplift model: the verdict, its order, whom it helps, and what it earns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from kernel.errors import BadInput
from kernel.learning import Interval
from kernel.randomness import derive_seed
from models.profit import ProfitCurve, profit_curve
from models.qini import coefficient_intervals, segment_intervals
from models.uplift import FittedUplift
from models.uplift_gate import UpliftVerdict, judge_uplift
from models.uplift_scores import AverageEffect, average_effects, mean_error, score
from models.uplift_trial import FEWEST, Floats, Propensity, Trial, as_trial

MODEL, RESPONSE = "model", "response"
_STEPS = 5


@dataclass(frozen=True, kw_only=True)
class Step:
    """Users of about the same foreseen effect."""

    users: int
    #: mean of the foreseen effects
    foreseen: float
    #: what their effect was, whatever was foreseen
    found: Interval


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What a unit of outcome is worth, and what treating a user costs; one number or one a user."""

    value: float | Floats
    cost: float | Floats


@dataclass(frozen=True, kw_only=True)
class UpliftEvidence:
    """Of one treatment."""

    treatment: str
    verdict: UpliftVerdict
    #: of the users held out
    average: AverageEffect
    #: `model` or baseline → `qini`, `auuc` with intervals; empty for outcomes other than 0 and 1
    coefficients: Mapping[str, Mapping[str, Interval]]
    #: the model's, by segment
    segments: Mapping[str, Mapping[str, Interval]]
    #: segment → average effect of its users
    segment_effects: Mapping[str, Interval]
    #: by fifths of the foreseen effect, the least first: who is hurt, who is helped
    ladder: tuple[Step, ...]
    profit: ProfitCurve | None


def evaluate_uplift(
    fitted: FittedUplift,
    users: pl.DataFrame,
    treatment: ArrayLike | pl.Series,
    y: ArrayLike | pl.Series,
    *,
    seed: int,
    weight: ArrayLike | pl.Series | None = None,
    propensity: Propensity | None = None,
    baselines: Mapping[str, Floats] | None = None,
    segment: ArrayLike | None = None,
    money: Worth | None = None,
    resamples: int = 200,
) -> dict[str, UpliftEvidence]:
    """treatment → evidence, on users from whom `fitted` has learned nothing: the same held-out period for
    all. The response model is always a baseline; `baselines` adds others (name → a score a user, or
    users × treatments).

    Raises BadInput as `Uplift.fit` does.
    """
    trial = as_trial(
        users.select(fitted.features),
        treatment,
        y,
        control=fitted.learner.control,
        weight=weight,
        propensity=propensity,
        treatments=fitted.treatments,
    )
    scores = score(trial, seed=derive_seed(seed, "held out"), trees=fitted.learner.trees)
    foreseen = fitted.learned.effect(trial.x)
    responses = fitted.predict_response(users).to_numpy()
    averages = average_effects(scores)
    label = None if segment is None else _segment(segment, len(trial))
    found = {}
    for column, name in enumerate(fitted.treatments):
        kept = scores.overlap[:, column]
        if kept.sum() < FEWEST:
            raise BadInput("was given to nobody who might not have got it", field="treatment", value=name)
        told = {each: np.asarray(value, np.float64) for each, value in (baselines or {}).items()}
        others = {RESPONSE: responses[:, column]} | {
            each: value[:, column] if value.ndim == 2 else value for each, value in told.items()
        }
        effect, truth, weights = foreseen[kept, column], scores.effect[kept, column], trial.weight[kept]
        known = fitted.averages[column].effect.mean
        verdict = judge_uplift(
            effect,
            truth,
            average=known,
            baselines={each: value[kept] for each, value in others.items()},
            weight=weights,
        )
        profit = None
        if money is not None:
            profit = profit_curve(
                effect,
                truth,
                value=_of(money.value, kept),
                cost=_of(money.cost, kept),
                average=known,
                weight=weights,
                seed=derive_seed(seed, "profit", name),
                resamples=resamples,
            )
        pair = kept & ((trial.arm == 0) | (trial.arm == column + 1))
        ordered = {MODEL: foreseen[:, column], **others}
        part = _Pair(trial=trial, propensity=scores.propensity, rows=pair, seed=derive_seed(seed, name))
        found[name] = UpliftEvidence(
            treatment=name,
            verdict=verdict,
            average=averages[column],
            coefficients=part.coefficients(ordered, resamples),
            segments=part.by_segment(foreseen[:, column], label, resamples),
            segment_effects={} if label is None else _effects_by(label[kept], truth, weights),
            ladder=_ladder(effect, truth, weights),
            profit=profit,
        )
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pair:
    """Users of one treatment and of control."""

    trial: Trial
    #: of all users
    propensity: Floats
    rows: NDArray[np.bool_]
    seed: int

    def coefficients(self, scores: Mapping[str, Floats], resamples: int) -> dict[str, dict[str, Interval]]:
        if not self.trial.binary:
            return {}
        return coefficient_intervals(
            self.trial.y[self.rows],
            {name: np.asarray(each, np.float64)[self.rows] for name, each in scores.items()},
            self._treated(),
            weight=self._weight(),
            seed=self.seed,
            resamples=resamples,
        )

    def by_segment(
        self, score: Floats, label: NDArray[np.str_] | None, resamples: int
    ) -> dict[str, dict[str, Interval]]:
        if label is None or not self.trial.binary:
            return {}
        return segment_intervals(
            self.trial.y[self.rows],
            score[self.rows],
            self._treated(),
            label[self.rows],
            weight=self._weight(),
            seed=self.seed,
            resamples=resamples,
        )

    def _treated(self) -> Floats:
        return np.asarray(self.trial.arm[self.rows] > 0, np.float64)

    def _weight(self) -> Floats:
        """Users weigh as many as they stand for, where treatment was not equally likely for all."""
        arm = self.trial.arm[self.rows]
        chance = self.propensity[self.rows, arm]
        even = all(np.ptp(chance[arm == each]) < 1e-9 for each in np.unique(arm))
        return np.asarray(self.trial.weight[self.rows] / (1.0 if even else chance))


def _effects_by(label: NDArray[np.str_], scores: Floats, weight: Floats) -> dict[str, Interval]:
    return {str(each): _mean(scores[label == each], weight[label == each]) for each in np.unique(label)}


def _ladder(effect: Floats, scores: Floats, weight: Floats) -> tuple[Step, ...]:
    """Ties stay together, so there may be fewer steps."""
    place = np.searchsorted(np.quantile(effect, np.arange(1, _STEPS) / _STEPS), effect, side="left")
    return tuple(
        Step(
            users=int((own := place == each).sum()),
            foreseen=float(np.average(effect[own], weights=weight[own])),
            found=_mean(scores[own], weight[own]),
        )
        for each in np.unique(place)
    )


def _mean(values: Floats, weight: Floats, level: float = 0.95) -> Interval:
    mean, error = mean_error(values, weight)
    reach = NormalDist().inv_cdf((1 + level) / 2) * error
    return Interval(mean=mean, low=mean - reach, high=mean + reach, level=level)


def _segment(segment: ArrayLike, count: int) -> NDArray[np.str_]:
    label = np.asarray(segment).astype(str)
    if label.shape != (count,):
        raise BadInput(f"needs one label for each of {count} users", field="segment", value=label.shape)
    return label


def _of(amount: float | Floats, kept: NDArray[np.bool_]) -> float | Floats:
    return amount[kept] if isinstance(amount, np.ndarray) and amount.ndim else amount
