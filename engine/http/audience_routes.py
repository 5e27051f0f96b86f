"""The routes of audiences: membership, groups of a user, why, and fresh events.

Membership of one user is asked thousands of times a second, so its route goes around parsing, dependencies
and threads: it looks into memory and sends the bytes that lie ready.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engine.audience_service import AudienceService, BadEvents
from engine.http.examples import example
from engine.http.problems import MEDIA_TYPE, Problem
from engine.http.services import Services
from kernel.errors import BadInput, Unavailable

#: bytes in one request; events that are checked in the loop itself
_MOST_BYTES, _FEW = 8_000_000, 20
_AT = "2017-10-16T08:00:00+00:00"
_MEMBER = {"member": True, "as_of": _AT, "version": 3}
_GROUP = {
    "name": "lapsed_shanghai",
    "label": "Lapsed in Shanghai",
    "description": "",
    "mode": "dynamic",
    "freshness": "real_time",
    "count": 81_234,
    "universe": 1_000_000,
    "as_of": _AT,
    "version": 3,
    "calculated_at": _AT,
    "published": True,
    "problem": None,
    "run": {"run": "daily-12", "state": "done", "why": "", "at": _AT},
}
_WHY = {
    "group": "lapsed_shanghai",
    "user_id": "42",
    "version": 3,
    "member": True,
    "as_of": _AT,
    "fresh": False,
    "problem": None,
    "because": [
        {"depth": 0, "text": "all of", "holds": True},
        {"depth": 1, "text": "user.city = Shanghai", "holds": True},
    ],
}
_EVENT = {
    "event_id": "e-1",
    "user_id": "42",
    "name": "order",
    "occurred_at": _AT,
    "properties": {"amount": 12.5},
}
_RECEIVED = {"event_id": "e-1", "received_at": _AT}
_EVENTS = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        {"$ref": "#/components/schemas/FreshEvent"},
                        {
                            "type": "array",
                            "items": {"$ref": "#/components/schemas/FreshEvent"},
                            "maxItems": 1000,
                        },
                    ]
                },
                "examples": {"one": {"value": _EVENT}, "several": {"value": [_EVENT]}},
            }
        },
    }
}


class Asked(BaseModel):
    """Whose membership is asked."""

    model_config = ConfigDict(extra="forbid")

    #: at most 10,000
    users: list[str | int] = Field(examples=[["42", "43"]])


def member_route(services: Services, token: str | None) -> APIRouter:
    """`GET /v1/groups/{name}/members/{user_id}`, the short way."""

    class Straight(APIRoute):
        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] != "GET":
                await super().handle(scope, receive, send)
                return
            if token is not None:
                check_token(scope, token)
            asked = scope["path_params"]
            body = services.member(asked["name"], asked["user_id"])
            if body is None:
                await run_in_threadpool(services.prepare, asked["name"])
                body = services.member(asked["name"], asked["user_id"])
            if body is None:
                raise Unavailable(f"group {asked['name']} is being loaded; ask again")
            length = str(len(body)).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", length)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    router = APIRouter(prefix="/v1", tags=["groups"], route_class=Straight)

    @router.get("/groups/{name}/members/{user_id}", responses=example(_MEMBER))
    async def is_member(name: str, user_id: str) -> dict[str, Any]:
        """Whether the user belongs. `as_of`: the batch, or, for a user whom fresh events have touched, when
        she was last evaluated. `version` 0 with `published: false`: worked out on demand."""
        raise Unavailable("is answered before it gets here")

    return router


def check_token(scope: Scope, token: str) -> None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, given = value.partition(b" ")
            if scheme.lower() == b"bearer" and hmac.compare_digest(given, token.encode()):
                return
    raise HTTPException(401, "a valid bearer token is needed", {"WWW-Authenticate": "Bearer"})


def audience_routes(audiences: AudienceService) -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.get("/groups", tags=["groups"], responses=example({"groups": [_GROUP]}))
    def list_groups() -> dict[str, Any]:
        """Every group: count, instant, version, mode, freshness, newest run, and what is wrong with it."""
        return audiences.describe_all()

    @router.get("/groups/{name}", tags=["groups"], responses=example(_GROUP))
    def read_group(name: str) -> dict[str, Any]:
        """One group, as in the list."""
        return audiences.describe(name)

    @router.post(
        "/groups/{name}/members",
        tags=["groups"],
        responses=example({"as_of": _AT, "version": 3, "members": {"42": True, "43": None}}),
    )
    def are_members(name: str, asked: Asked) -> dict[str, Any]:
        """Many users at once; null for one that is not known."""
        return audiences.many(name, [str(user) for user in asked.users])

    @router.get("/groups/{name}/members/{user_id}/why", tags=["groups"], responses=example(_WHY))
    def explain_member(name: str, user_id: str) -> dict[str, Any]:
        """Why the user belongs or not: the condition line by line."""
        return audiences.why(name, user_id)

    @router.get(
        "/users/{user_id}/groups",
        tags=["groups"],
        responses=example(
            {"user_id": "42", "groups": [{"name": "lapsed_shanghai", "version": 3, "as_of": _AT}]}
        ),
    )
    def groups_of_user(user_id: str) -> dict[str, Any]:
        """Every group that the user is in."""
        return audiences.groups_of(user_id)

    @router.post(
        "/events",
        tags=["real time"],
        openapi_extra=_EVENTS,
        response_model=Received | list[Received],
        responses=example(_RECEIVED),
    )
    async def receive_events(request: Request) -> Response:
        """One event or up to 1,000, durable when answered. A repeated `event_id` changes nothing and gets the
        same answer. When one is wrong, all that are wrong are named and none is kept. An event of somebody
        who was forgotten is not kept, and its answer says `"forgotten": true`."""
        raw = _parsed(await request.body())
        few = not isinstance(raw, list) or len(raw) <= _FEW
        try:
            future = audiences.receive(raw) if few else await run_in_threadpool(audiences.receive, raw)
        except BadEvents as error:
            return _problems(error)
        times = await asyncio.wrap_future(future)
        events = raw if isinstance(raw, list) else [raw]
        told = [_told(str(each["event_id"]), at) for each, at in zip(events, times, strict=True)]
        body = json.dumps(told if isinstance(raw, list) else told[0])
        return Response(body, media_type="application/json")

    return router


class FreshEvent(BaseModel):
    """Something that a user did."""

    #: the sender's own, the same when it is sent again; the source's id where the catalog names an id column
    event_id: str
    user_id: str
    #: an event of the catalog
    name: str
    #: with a time zone; at most five minutes ahead
    occurred_at: datetime
    #: field of the event → value; a list of these where the event has several lines
    properties: dict[str, Any] | list[dict[str, Any]] = {}


class Received(BaseModel):
    """That an event is kept."""

    event_id: str
    #: when it was first received; null: it is not kept
    received_at: datetime | None
    #: its user was forgotten, which is why it is not kept; only then in the answer
    forgotten: bool = False


def add_schemas(schema: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """The OpenAPI schema with what is read by hand and so not seen by FastAPI."""

    def whole() -> dict[str, Any]:
        found = schema()
        parts = found.setdefault("components", {}).setdefault("schemas", {})
        parts.setdefault("FreshEvent", FreshEvent.model_json_schema())
        return found

    return whole


def _told(event_id: str, at: datetime | None) -> dict[str, Any]:
    if at is None:
        return {"event_id": event_id, "received_at": None, "forgotten": True}
    return {"event_id": event_id, "received_at": at.isoformat()}


def _parsed(body: bytes) -> Any:
    if len(body) > _MOST_BYTES:
        raise BadInput(f"is longer than {_MOST_BYTES:,} bytes", field="body", value=len(body))
    try:
        return json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"is not JSON: {error}", field="body") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _problems(error: BadEvents) -> Response:
    said = Problem(title="bad input", status=422, detail=str(error), field=error.field or None).model_dump()
    body = json.dumps({**said, "errors": error.each})
    return Response(body, status_code=422, media_type=MEDIA_TYPE)
