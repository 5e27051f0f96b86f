"""The gate: an uplift model may steer only when it is better than doing without, on users held back.

Two questions, each answered user by user with doubly robust scores, so that they hold for trials and,
where users overlap, for treatment that was not given at random:

- Does its order help? Targeting gain: what treating the best-scored adds over treating as many drawn
  blindly, a user, averaged over all shares treated. It is the area between the Qini curve and its straight
  line, were everyone treated (RATE of Yadlowsky, Fleming, Shah, Brunskill, Wager 2021).
- Do its numbers help? Squared error of its effects against the scores, less that of the average effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from kernel.errors import BadInput
from kernel.learning import Interval
from models.uplift_scores import mean_error
from models.uplift_trial import Floats

#: standard errors by which a model must be better
MARGIN = 2.0
#: how the baselines are called: no order at all; everyone's effect the same
RANDOM, AVERAGE = "random", "average effect"


@dataclass(frozen=True, kw_only=True)
class Margin:
    """By how much the model is better than one baseline."""

    baseline: str
    #: what is compared, and its unit
    measure: str
    #: model − baseline; above 0 is better
    difference: Interval
    #: `difference` in standard errors
    errors: float

    @property
    def won(self) -> bool:
        return self.errors > MARGIN


@dataclass(frozen=True, kw_only=True)
class UpliftVerdict:
    """May the model's effects of this treatment be used? With the evidence."""

    promote: bool
    #: one sentence
    reason: str
    #: why not, one for each baseline that it does not beat; empty when it is promoted
    refused: tuple[str, ...]
    margins: tuple[Margin, ...]
    #: targeting gain of the model, in outcome a user
    gain: Interval
    #: users held out that have overlap
    users: int

    def as_json(self) -> dict[str, object]:
        return {
            "promote": self.promote,
            "reason": self.reason,
            "refused": list(self.refused),
            "users": self.users,
            "gain": vars(self.gain),
            "margins": [
                {
                    "baseline": each.baseline,
                    "measure": each.measure,
                    "difference": vars(each.difference),
                    "errors": each.errors,
                }
                for each in self.margins
            ],
        }


def judge_uplift(
    effect: Floats,
    scores: Floats,
    *,
    average: float,
    baselines: Mapping[str, Floats],
    weight: Floats | None = None,
    level: float = 0.95,
) -> UpliftVerdict:
    """One treatment on n held-out users: `effect` as the model has it, doubly robust `scores`.

    `average` is the effect that everyone would get without the model, as it was known when the model was
    learned. `baselines`: name → n scores of other ways to order users, such as a response model's, the
    last value, or the champion's effects. Random order and the average effect are always among them.
    Promoted when every difference is more than two standard errors above 0.
    """
    count = len(scores)
    weight = np.ones(count) if weight is None else weight
    for name, column in {"effect": effect, "weight": weight, **baselines}.items():
        if column.shape != (count,) or not np.isfinite(column).all():
            raise BadInput(f"needs one number for each of {count} users", where="gate", field=name)
    if count < 2:
        raise BadInput("are too few to judge by", where="gate", field="users", value=count)
    centred = scores - float(weight @ scores / weight.sum())
    gain, influence = targeting_gain(effect, centred, weight)
    others = {RANDOM: np.zeros(count), **baselines}
    margins = []
    for name, other in others.items():
        theirs, influenced = targeting_gain(other, centred, weight)
        margins.append(_margin(name, "targeting gain", gain - theirs, influence - influenced, weight, level))
    squares = np.square(scores - average) - np.square(scores - effect)
    margins.append(_margin(AVERAGE, "squared error", mean_error(squares, weight)[0], squares, weight, level))
    refused = tuple(
        f"does not beat {each.baseline} in {each.measure}: {each.difference.mean:.2g}, "
        f"{each.errors:.1f} standard errors where more than {MARGIN:g} are asked"
        for each in margins
        if not each.won
    )
    least = min(margins, key=lambda each: each.errors)
    told = _margin("", "", gain, influence, weight, level).difference
    return UpliftVerdict(
        promote=not refused,
        reason="; ".join(refused)
        or f"beats every baseline, by {least.errors:.1f} standard errors at least ({least.baseline})",
        refused=refused,
        margins=tuple(margins),
        gain=told,
        users=count,
    )


def targeting_gain(score: Floats, scores: Floats, weight: Floats) -> tuple[float, Floats]:
    """Gain in outcome a user, and its influence function (n numbers with that mean).

    With r the share of users ranked above one (those of its own score half), it is the mean of
    s · (½ − r). Ranks depend on the other users, which adds the second part of the influence.
    """
    share = weight / weight.sum()
    step, place = np.unique(-score, return_inverse=True)
    mass = np.bincount(place, share, len(step))
    above = np.cumsum(mass) - mass / 2
    worth = np.bincount(place, share * scores, len(step))
    below = worth.sum() - np.cumsum(worth) + worth / 2
    own = scores * (0.5 - above[place])
    gain = float(share @ own)
    # what the user's being there takes from those ranked below
    return gain, np.asarray(own + worth.sum() / 2 - below[place] - gain)


def _margin(
    baseline: str, measure: str, difference: float, influence: Floats, weight: Floats, level: float
) -> Margin:
    error = mean_error(influence, weight)[1]
    reach = NormalDist().inv_cdf((1 + level) / 2) * error
    interval = Interval(mean=difference, low=difference - reach, high=difference + reach, level=level)
    # equal everywhere is no win
    return Margin(
        baseline=baseline,
        measure=measure,
        difference=interval,
        errors=difference / error if error > 0 else 0.0,
    )
