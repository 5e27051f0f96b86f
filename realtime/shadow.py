"""Shadow mode: what a challenger would have done, kept beside what was done, and never shown.

It looks at decisions after they are logged, so that it can neither slow nor break one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kernel.errors import GrowthError
from kernel.learning import Action, Decision
from realtime.choosing import NO_POLICY, priced
from realtime.policy import Policy, checked


@dataclass(frozen=True, kw_only=True)
class Shadowed:
    """A challenger's answer to one decision that another policy made."""

    decision_id: str
    #: name and version of the challenger
    policy: str
    #: P(each action), in the order of the decision's; empty when the challenger failed
    propensities: tuple[float, ...]
    #: total variation between the two distributions: 0 alike … 1 nothing in common
    distance: float
    #: would it most likely have done what the live policy most likely did?
    agrees: bool
    #: why there is no answer; empty when there is one
    failure: str = ""


def shadow(decision: Decision, actions: Sequence[Action], challenger: Policy) -> Shadowed | None:
    """`actions`: those of the decision, in full and in order. None for a decision that no policy made.

    A challenger that fails says so in `failure`; nothing is raised.
    """
    if decision.policy == NO_POLICY:
        return None
    try:
        name = challenger.name
        answer = checked(
            challenger.distribution(decision.context, [priced(each, decision.prices) for each in actions]),
            len(actions),
            name,
        )
    except (GrowthError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        return Shadowed(
            decision_id=decision.decision_id,
            policy=type(challenger).__name__,
            propensities=(),
            distance=math.nan,
            agrees=False,
            failure=str(error) or type(error).__name__,
        )
    live = decision.propensities
    return Shadowed(
        decision_id=decision.decision_id,
        policy=name,
        propensities=answer,
        distance=math.fsum(abs(a - b) for a, b in zip(answer, live, strict=True)) / 2,
        agrees=best(answer) == best(live),
    )


def best(distribution: Sequence[float]) -> int:
    """The first of the most probable."""
    return max(range(len(distribution)), key=lambda each: (distribution[each], -each))


@dataclass(frozen=True, kw_only=True)
class ShadowReport:
    """How a challenger compares in its shadow."""

    decisions: int
    failures: int
    #: share of answers that agree
    agreement: float
    #: mean total variation
    distance: float


def shadow_report(shadows: Iterable[Shadowed]) -> ShadowReport:
    """Of nothing: NaN agreement and distance."""
    seen = list(shadows)
    answered = [each for each in seen if not each.failure]
    count = len(answered)
    return ShadowReport(
        decisions=len(seen),
        failures=len(seen) - count,
        agreement=sum(each.agrees for each in answered) / count if count else math.nan,
        distance=math.fsum(each.distance for each in answered) / count if count else math.nan,
    )
