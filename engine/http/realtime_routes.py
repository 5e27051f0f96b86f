"""The routes of decisions and outcomes.

They are asked thousands of times a second, so they go around dependencies, threads and models of the answer:
the body is parsed once, and the bytes of the answer are written once.
"""

from __future__ import annotations

import json
import marshal
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.http.audience_routes import check_token
from engine.http.examples import example
from engine.http.metrics import Metrics
from engine.http.services import Services
from kernel.clock import instant
from kernel.definitions import parse
from kernel.errors import BadInput, Unavailable
from kernel.learning import Action
from realtime.api import NO_POLICY, Answer, DecisionRequest, OutcomeReport

#: the body of an answer, and the decision in it
_Answered = tuple[bytes, Answer | None]
#: bytes in one request
_MOST_BYTES = 8_000_000
#: lists of actions that are remembered, and characters of each
_KNOWN, _SHORT = 512, 10_000
_ID = "00055b9dd6c5c00091b0e2b63f1c4be0d29a1f7be2a1c6ee94a2"
_DECIDED = {
    "decision_id": _ID,
    "action": "coupon",
    "propensity": 0.95,
    "policy": "squarecb@1200",
    "expires_at": "2017-10-17T08:00:00Z",
    "reason": "coupon was drawn from 3 by squarecb@1200 with probability 0.950; value 3.00 exceeds cost 0.50 "
    "+ price 1.90",
    "degraded": False,
}
_OBSERVED = {"outcome_id": "order-17", "status": "counted"}


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


def realtime_routes(services: Services, metrics: Metrics) -> tuple[APIRouter, Mapping[str, ASGIApp]]:
    """The routes, and path → what answers them, for the fast lane."""
    service, counters = services.realtime, dict[tuple[str, str, bool], Any]()
    #: actions as they were sent → checked. Most calls offer what others did, and whoever remembers something
    #: of an action knows it again by its identity
    known: dict[bytes, tuple[Action, ...]] = {}

    def decided(raw: bytes, key: str | None) -> _Answered:
        answer = service.decide(_with_key(_read(DecisionRequest, raw, known), key))
        seen = (answer.moment, answer.policy.partition("@")[0], answer.degraded)
        if seen not in counters:  # looking up labels costs more than counting
            chosen_by = "none" if seen[1] == NO_POLICY else seen[1]
            counters[seen] = metrics.decisions.labels(seen[0], chosen_by, str(seen[2]).lower())
        counters[seen].inc()
        return to_json(_told(services, answer)), answer

    def observed(raw: bytes, _key: str | None) -> _Answered:
        report = _read(OutcomeReport, raw)
        status = service.observe(report)
        metrics.outcomes.labels(status).inc()
        return to_json({"outcome_id": report.outcome_id, "status": status}), None

    router, lanes = APIRouter(prefix="/v1", tags=["real time"]), dict[str, ASGIApp]()
    for path, shown, answered, model, said in (
        ("/decisions", make_decision, decided, DecisionAnswer, _DECIDED),
        ("/outcomes", report_outcome, observed, OutcomeAnswer, _OBSERVED),
    ):
        lane = _lane(services, answered)
        router.add_api_route(
            path,
            shown,
            methods=["POST"],
            response_model=model,
            responses=example(said),
            route_class_override=_straight(lane),
        )
        lanes[f"{router.prefix}{path}"] = lane
    return router, lanes


async def make_decision(
    request: DecisionRequest, idempotency_key: Annotated[str | None, Header(max_length=200)] = None
) -> None:
    """What to show this user now, in the journal when it is answered; a repeated idempotency key (header or
    body) of the same user gets the same answer."""
    raise Unavailable("is answered before it gets here")


async def report_outcome(report: OutcomeReport) -> None:
    """What happened after a decision; a repeated `outcome_id` changes nothing."""
    raise Unavailable("is answered before it gets here")


def _lane(services: Services, answered: Callable[[bytes, str | None], _Answered]) -> ASGIApp:
    """Answers (body, idempotency key) in the loop or, where it waits for others, in a thread. A decision that
    a disk does not take becomes its moment's default; an outcome is to be sent again."""
    service, token = services.realtime, services.token

    async def lane(scope: Scope, receive: Receive, send: Send) -> None:
        key = None
        for name, value in scope["headers"]:
            if name == b"idempotency-key":
                key = value.decode("latin-1")
        if token is not None:
            check_token(scope, token)
        raw = await _body(receive)
        body, decision = await run_in_threadpool(answered, raw, key) if service.apart else answered(raw, key)
        if (flushed := service.flushed()) is not None:
            try:
                await flushed
            except Unavailable as error:
                if decision is None:
                    raise
                body = to_json(
                    _told(services, service.instead(decision, f"the decision log is down: {error}"))
                )
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return lane


def _straight(lane: ASGIApp) -> type[APIRoute]:
    """A route that the lane answers."""

    class Straight(APIRoute):
        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            await (lane if scope["method"] == "POST" else super().handle)(scope, receive, send)

    return Straight


async def _body(receive: Receive) -> bytes:
    parts, more = b"", True
    while more:
        message = await receive()
        parts += message.get("body", b"")
        more = message.get("more_body", False)
        if len(parts) > _MOST_BYTES:
            raise BadInput(f"is longer than {_MOST_BYTES:,} bytes", field="body", value=len(parts))
    return parts


def _parsed(raw: bytes) -> Any:
    """What the quick reader refuses, Python's may take: a lone surrogate is a character to complain of, and
    not the end of it all."""
    try:
        return from_json(raw)
    except ValueError:
        return json.loads(raw)


def _read(model: type[Any], raw: bytes, known: dict[bytes, tuple[Action, ...]] | None = None) -> Any:
    try:
        body = _parsed(raw)
        if known is None or not isinstance(body, dict) or not body.get("actions"):
            return model.model_validate(body)
        said = marshal.dumps(body["actions"], 2)  # version 2: the same bytes for the same values
        checked = model.model_validate({**body, "actions": known.get(said, body["actions"])})
        if len(said) < _SHORT and said not in known:
            if len(known) >= _KNOWN:
                known.clear()
            known[said] = checked.actions
        return checked
    except ValidationError as error:
        told = [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
        raise RequestValidationError(told) from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"is not JSON: {error}", field="body") from None


def _with_key(request: DecisionRequest, header: str | None) -> DecisionRequest:
    if header is None or header == request.idempotency_key:
        return request
    if request.idempotency_key is not None:
        raise BadInput("differs from that in the body", field="Idempotency-Key", value=header)
    return parse(DecisionRequest, {**dict(request), "idempotency_key": header}, "header")


def _told(services: Services, answer: Answer) -> dict[str, Any]:
    return {
        "decision_id": answer.decision_id,
        "action": answer.action,
        "propensity": answer.propensity,
        "policy": answer.policy,
        "expires_at": instant(answer.decided) + services.realtime.window(answer.moment),
        "reason": answer.reason,
        "degraded": answer.degraded,
    }
