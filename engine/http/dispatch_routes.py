"""The routes of the outbox and of who is suppressed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from engine.http.examples import example
from engine.outbox import change_task, outbox_report, suppress
from engine.wiring import Workspace

Number = Annotated[int, Path(ge=1, le=2**63 - 1)]
Who = Annotated[str, Path(min_length=1, max_length=200)]
_AT = "2017-10-16T08:00:00+00:00"
_REPORT = {
    "tasks": [
        {
            "number": 1,
            "run": "2017-10-16",
            "task": "retain.autumn_coupons.email.stage:cooling",
            "channel": "email",
            "touchpoint": "email",
            "content": "we_miss_you",
            "state": "running",
            "touches": {"queued": 12, "accepted": 55},
            "next": _AT,
            "last": _AT,
        }
    ],
    "reasons": [],
    "receipts": {"email": {"delivered": 55}},
    "providers": {"crm": "webhook"},
    "trouble": {},
}


class Suppressing(BaseModel):
    """Who gets no more touches."""

    model_config = ConfigDict(extra="forbid")

    #: a user's id, or an address
    who: str = Field(min_length=1, max_length=200, examples=["ann@shop.example"])
    #: absent: on every channel
    channel: str | None = Field(default=None, max_length=100)


class Changed(BaseModel):
    """What changed in a task."""

    number: int
    action: str
    #: touches that were called off, or go out again
    touches: int


def dispatch_routes(space: Workspace) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["touchpoint"])

    @router.get("/outbox", responses=example(_REPORT))
    def read_outbox(run: Annotated[str | None, Query(max_length=200)] = None) -> dict[str, Any]:
        """Tasks on their way out, of one run or of all: states, reasons, receipts, troubles of providers."""
        return outbox_report(space, run)

    @router.get("/outbox/users/{user_id}")
    def read_touches(user_id: Who) -> dict[str, Any]:
        """Every touch of a user with its state and reason, and what providers told of it."""
        return {"touches": space.outbox.of_user(user_id), "receipts": space.receipts.of_user(user_id)}

    @router.post("/outbox/{number}/{action}")
    def change(number: Number, action: Literal["pause", "resume", "cancel", "send-again"]) -> list[Changed]:
        """Nothing of a paused or cancelled task is handed over from a second later on. `send-again` takes up
        what is in doubt."""
        return [Changed(**each) for each in change_task(space, action, str(number))]

    @router.get("/suppressions")
    def list_suppressions(who: Annotated[str | None, Query(max_length=200)] = None) -> list[dict[str, Any]]:
        """Of one user or address, or the newest hundred."""
        return space.suppressions.newest() if who is None else space.suppressions.of([who])

    @router.post("/suppressions")
    def add_suppression(body: Suppressing) -> dict[str, Any]:
        """No more touches; what waits is called off."""
        return dict(suppress(space, body.who, channel=body.channel))

    @router.delete("/suppressions/{who}")
    def lift_suppression(
        who: Who, channel: Annotated[str | None, Query(max_length=100)] = None
    ) -> dict[str, Any]:
        """Takes it away again; `changed`: entries."""
        return dict(suppress(space, who, channel=channel, lift=True))

    return router
