"""What the HTTP shell needs, filled in by the wiring."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Protocol

from engine.activity_service import ActivityService
from engine.audience_service import AudienceService
from engine.coupons import CouponDesk
from engine.group_insight import GroupInsight
from engine.receipts import ReceiptService
from engine.touches import TouchDesk
from engine.wiring import Workspace
from realtime.api import Answer, DecisionRequest, OutcomeReport, Status

Json = Mapping[str, Any]


class RealTime(Protocol):
    """What answers decisions and outcomes."""

    #: asking takes time in which others can be served
    apart: bool

    def start(self) -> None: ...
    def close(self) -> None: ...
    def decide(self, request: DecisionRequest) -> Answer: ...
    def observe(self, report: OutcomeReport) -> Status: ...

    def instead(self, answer: Answer, why: str) -> Answer:
        """The default of its moment, degraded, for an answer that must not be given."""
        ...

    def window(self, moment: str) -> timedelta:
        """How long after a decision its outcomes count."""
        ...

    def flushed(self) -> Awaitable[None] | None:
        """Over when what was answered survives the machine; None where answers need not wait for it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Services:
    """Every callable raises an error of `kernel.errors` for what it cannot answer."""

    #: decisions and outcomes
    realtime: RealTime
    #: a group as in its YAML → the estimate
    estimate: Callable[[Json], Json]
    #: name of a group, user id → `{member, as_of, version}` as JSON, at once; None: `prepare` the group first
    member: Callable[[str, str], bytes | None]
    #: a day → its plan
    plan: Callable[[date], Json]
    #: a day, user id → what this user got and did not get, and why
    explain: Callable[[date, str], Json]
    #: what a condition panel shows; the JSON Schema of a condition
    catalog: Callable[[], Json] = dict
    condition_schema: Callable[[], Json] = dict
    #: how policies stand
    policies: Callable[[], Json] = dict
    #: a frequency by name, or all → how each stands
    frequency: Callable[[str | None], Sequence[Json]] = lambda _: ()
    #: what was watched of models last, as `growth monitor --json`; None: nothing yet
    watched: Callable[[], Json | None] = lambda: None
    #: makes a group answerable, however long that takes
    prepare: Callable[[str], object] = lambda _: None
    #: groups, why, and fresh events; absent where nothing is published
    audiences: AudienceService | None = None
    #: bounded programmes; absent where there is no workspace
    activities: ActivityService | None = None
    #: definitions and their history; absent where there is no workspace
    workspace: Workspace | None = None
    #: profile, overlap, history and migration
    insight: GroupInsight | None = None
    #: what providers and links tell of touches; absent: nobody may
    receipts: ReceiptService | None = None
    #: the workspace whose outbox and suppressions are shown; absent: none are
    outbox: Workspace | None = None
    #: what is not ready, by name, each with a sentence; empty when all is
    unready: Callable[[], Mapping[str, str]] = dict
    #: the exposure ledger, and coupons
    touches: TouchDesk | None = None
    coupons: CouponDesk | None = None
    #: what callers of /v1 must bear; None: nothing, for loopback only
    token: str | None = None
