"""The gate: a challenger goes live only when its off-policy estimate beats the champion's with confidence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from kernel.errors import BadInput
from kernel.learning import Interval
from realtime.offpolicy import LoggedChoices, OffPolicy, evaluate, scores


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """May the challenger take the champion's place? With the evidence."""

    promote: bool
    #: one sentence
    reason: str
    challenger: OffPolicy
    champion: OffPolicy
    #: challenger − champion by DR, decision by decision on the same log, in major units
    difference: Interval


def judge(challenger: LoggedChoices, champion: LoggedChoices, *, level: float = 0.95) -> Verdict:
    """Both policies on one log: the same decisions, each under its own target.

    Promoted when the log covers what the challenger would do, the lower bound of its DR estimate lies
    above the champion's estimate, and so does that of the paired difference above zero: the champion's
    own estimate may be off, and the pairing says by how much.
    """
    same = (
        np.array_equal(challenger.rewards, champion.rewards)
        and np.array_equal(challenger.chosen, champion.chosen)
        and np.array_equal(challenger.propensities, champion.propensities)
    )
    if not same:
        raise BadInput("are not the same for both policies", where="log", field="decisions")
    ours, theirs = evaluate(challenger, level=level), evaluate(champion, level=level)
    differences = scores(challenger).dr - scores(champion).dr
    mean = float(differences.mean())
    reach = (
        NormalDist().inv_cdf((1 + level) / 2) * float(differences.std(ddof=1)) / math.sqrt(len(differences))
    )
    difference = Interval(mean=mean, low=mean - reach, high=mean + reach, level=level)
    refusal = _refusal(ours, theirs, difference)
    return Verdict(
        promote=not refusal,
        reason=refusal
        or f"its lower bound {ours.dr.low:.4f} lies above the champion's estimate {theirs.dr.mean:.4f}, "
        f"and it earns {difference.mean:.4f} [{difference.low:.4f}, {difference.high:.4f}] more a decision",
        challenger=ours,
        champion=theirs,
        difference=difference,
    )


def _refusal(ours: OffPolicy, theirs: OffPolicy, difference: Interval) -> str:
    """Why not; empty when nothing stands against it."""
    if ours.warning:
        return ours.warning
    if not ours.dr.low > theirs.dr.mean:
        return (
            f"its lower bound {ours.dr.low:.4f} does not lie above the champion's estimate "
            f"{theirs.dr.mean:.4f}"
        )
    if not difference.low > 0:
        return (
            f"decision by decision it may earn no more: {difference.mean:.4f} "
            f"[{difference.low:.4f}, {difference.high:.4f}]"
        )
    return ""
