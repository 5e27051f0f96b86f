"""The routes of /v1."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path
from pydantic import BaseModel

from engine.http.metrics import Metrics
from engine.http.services import Services
from kernel.definitions import parse
from kernel.errors import BadInput, Unavailable
from realtime.api import NO_POLICY, DecisionRequest, OutcomeReport, decide, observe

_log = logging.getLogger(__name__)
Day = Annotated[date, Path(alias="date")]


class DecisionAnswer(BaseModel):
    """What to show."""

    decision_id: str
    #: id of the action
    action: str
    #: probability with which it was chosen
    propensity: float
    #: name and version of the policy
    policy: str
    #: outcomes after this instant do not count
    expires_at: datetime
    #: one sentence
    reason: str
    #: true when the default was answered because something was down
    degraded: bool


class OutcomeAnswer(BaseModel):
    """What became of the outcome."""

    outcome_id: str
    status: Literal["counted", "late", "repeated"]


def realtime_routes(services: Services, metrics: Metrics) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["real time"])

    @router.post("/decisions")
    def make_decision(
        request: DecisionRequest, idempotency_key: Annotated[str | None, Header(max_length=200)] = None
    ) -> DecisionAnswer:
        """What to show this user now; a repeated idempotency key (header or body) gets the same answer."""
        decision = decide(
            _with_key(request, idempotency_key),
            policy=services.policy,
            prices=_prices(services),
            log=services.log,
            clock=services.clock,
            seed=services.seed,
            allowed=services.allowed,
            moments=services.moments,
        )
        chosen_by = "none" if decision.policy == NO_POLICY else decision.policy.partition("@")[0]
        metrics.decisions.labels(decision.moment, chosen_by, str(decision.degraded).lower()).inc()
        return DecisionAnswer(
            decision_id=decision.decision_id,
            action=decision.action,
            propensity=decision.propensity,
            policy=decision.policy,
            expires_at=decision.decided_at + services.window,
            reason=decision.reason,
            degraded=decision.degraded,
        )

    @router.post("/outcomes")
    def report_outcome(report: OutcomeReport) -> OutcomeAnswer:
        """What happened after a decision; a repeated `outcome_id` changes nothing."""
        status = observe(report, log=services.log, clock=services.clock, window=services.window)
        metrics.outcomes.labels(status).inc()
        return OutcomeAnswer(outcome_id=report.outcome_id, status=status)

    return router


def _with_key(request: DecisionRequest, header: str | None) -> DecisionRequest:
    if header is None or header == request.idempotency_key:
        return request
    if request.idempotency_key is not None:
        raise BadInput("differs from that in the body", field="Idempotency-Key", value=header)
    return parse(DecisionRequest, {**dict(request), "idempotency_key": header}, "header")


def _prices(services: Services) -> Mapping[str, float]:
    """Today's prices; none when they cannot be read, and then nothing that has a budget is shown."""
    try:
        return services.prices()
    except Unavailable as error:
        _log.warning("today's prices cannot be read: %s", error)
        return {}


def group_routes(services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["groups"])

    @router.post("/groups/estimate")
    def estimate_group(group: dict[str, Any]) -> dict[str, Any]:
        """A group, as in its YAML → `{count, low, high, method, ms}`."""
        return dict(services.estimate(group))

    return router


def plan_routes(services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1/plans", tags=["plans"])

    @router.get("/{date}")
    def read_plan(day: Day) -> dict[str, Any]:
        """A day's plan."""
        return dict(services.plan(day))

    @router.get("/{date}/explain/{user_id}")
    def explain_user(day: Day, user_id: str) -> dict[str, Any]:
        """What this user got and did not get, and why, in values and prices."""
        return dict(services.explain(day, user_id))

    return router
