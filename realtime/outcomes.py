"""What happened after a decision: checked against the decision's own id, and in the journal when answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Literal

from pydantic import AwareDatetime, ConfigDict, Field

from kernel.clock import Clock, micros
from kernel.definitions import Frozen
from kernel.errors import BadInput, NotFound
from realtime.decision_ids import DecisionIds, mark
from realtime.moments import Id
from realtime.ports import JournalWriter, OnlineStore
from realtime.records import encode_outcome
from realtime.rewards import ELSEWHERE, Outcome, RewardRule

#: how far a caller's clock may be off
SKEW = timedelta(minutes=5)
_MICROSECOND = timedelta(microseconds=1)
_SKEW = SKEW // _MICROSECOND

Status = Literal["counted", "late", "repeated"]


class OutcomeReport(Frozen):
    """Something that happened after a decision."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "outcome_id": "order-17",
                    "decision_id": "00055b9dd6c5c00091b0e2b63f1c4be0d29a1f7be2a1c6ee94a2",
                    "name": "order",
                    "value": 12.5,
                    "occurred_at": "2017-10-16T08:03:00Z",
                }
            ]
        }
    )

    #: unique; a repeated one changes nothing
    outcome_id: Id
    decision_id: Id
    #: what happened, such as `order`
    name: Id
    #: what it is worth, in major units
    value: float = Field(ge=-1e12, le=1e12)
    occurred_at: AwareDatetime


class Outcomes:
    """`rules`: moment → what its outcomes are worth, and until when; `ELSEWHERE` → for all others."""

    def __init__(
        self,
        *,
        store: OnlineStore,
        journal: JournalWriter,
        ids: DecisionIds,
        clock: Clock,
        rules: Callable[[], Mapping[str, RewardRule]],
    ) -> None:
        self._store, self._journal, self._ids, self._clock = store, journal, ids, clock
        self._rules = rules

    def observe(self, report: OutcomeReport) -> Status:
        """In the journal when it returns. `counted`: it happened in (decision, decision + window] and came
        before the reward was final; the rule may still not count its name. `late`: kept, and in no reward.

        Raises NotFound for a decision that was never given, BadInput for a time before the decision or still
        to come (five minutes of skew are forgiven), Unavailable when store or journal is down: try again.
        """
        opened = self._ids.opened(report.decision_id)
        if opened is None:
            raise NotFound("decision", report.decision_id, (), field="decision_id")
        decided, moment = opened
        now, occurred = micros(self._clock.now()), micros(report.occurred_at, "occurred_at")
        told = report.occurred_at.isoformat()
        if occurred < decided - _SKEW:
            raise BadInput("is before the decision", field="occurred_at", value=told)
        if occurred > now + _SKEW:
            raise BadInput("is still to come", field="occurred_at", value=told)
        if self._store.reported(report.outcome_id):
            return "repeated"
        record = Outcome(report.decision_id, report.outcome_id, report.name, report.value, occurred, now)
        self._journal.append(encode_outcome(record))
        if not self._store.report(report.outcome_id, now):
            return "repeated"
        rule = self._rule(moment)
        in_time = now <= decided + rule.delay // _MICROSECOND
        return "counted" if in_time and occurred <= decided + rule.window // _MICROSECOND else "late"

    def window(self, moment: str) -> timedelta:
        """How long after a decision its outcomes count."""
        rules = self._rules()
        return (rules.get(moment) or rules[ELSEWHERE]).window

    def _rule(self, moment: bytes) -> RewardRule:
        rules = self._rules()
        return next((rule for name, rule in rules.items() if mark(name) == moment), rules[ELSEWHERE])


def family(name: str) -> str:
    """A policy's name without its version."""
    return name.partition("@")[0]
