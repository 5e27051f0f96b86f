"""What a decision answers."""

from __future__ import annotations

from typing import NamedTuple

from pydantic_core import from_json

from kernel.errors import BadInput
from realtime.choosing import NO_POLICY
from realtime.moments import DecisionRequest, Moment


class Answer(NamedTuple):
    """What to show."""

    decision_id: str
    moment: str
    #: id of the action
    action: str
    #: the probability that the logging policy gave to its choice
    propensity: float
    #: name and version of the policy
    policy: str
    #: microseconds since 1970, UTC
    decided: int
    #: one sentence
    reason: str
    #: true when the safe default was answered because something was down
    degraded: bool


def stands(raw: bytes, request: DecisionRequest) -> Answer:
    answer = Answer(*from_json(raw))
    if answer.moment != request.moment:
        raise BadInput(
            "was used before, for another moment", field="idempotency_key", value=request.idempotency_key
        )
    return answer


def default_answer(
    moment: Moment, name: str, at: int, decision_id: str, reason: str, degraded: bool
) -> Answer:
    return Answer(decision_id, name, moment.default.id, 1.0, NO_POLICY, at, reason, degraded)
