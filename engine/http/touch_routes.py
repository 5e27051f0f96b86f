"""The routes of the exposure ledger."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from engine.http.examples import example
from engine.touches import Told, TouchDesk, Wish
from kernel.contact import MessageClass

Text = Annotated[str, Field(min_length=1, max_length=200)]
_REFUSED = {
    "touch_id": "crm-77",
    "granted": False,
    "rule": "marketing_week",
    "reason": "Marketing a week allows 3 touches in 7d; refused until 2026-01-19 08:30:00+01:00",
    "until": "2026-01-19T07:30:00Z",
}


class TouchWish(BaseModel):
    """A touch that is to be made."""

    model_config = ConfigDict(extra="forbid")

    #: the same touch has the same id, however often it is asked for
    touch_id: Text = Field(examples=["crm-77"])
    user_id: Text = Field(examples=["42"])
    channel: Text = Field(examples=["push"])
    message_class: MessageClass = MessageClass.MARKETING
    #: when it is to be made; absent: now
    at: AwareDatetime | None = None
    #: labels that caps may count by
    activity: Text | None = None
    task: Text | None = None
    #: absent: by the ID map
    household: Text | None = None
    #: how long after its time the reservation holds, seconds
    expires_in: float = Field(default=900.0, ge=1, le=34_560_000)


class TouchAnswer(BaseModel):
    """Granted, or which rule refuses."""

    touch_id: str
    granted: bool
    #: name of the cap or quiet hours, `consent`, `suppressed`, `forgotten` or `already_sent`
    rule: str | None
    #: one sentence, times on the user's own wall
    reason: str | None
    #: null: until somebody changes something
    until: datetime | None


class TouchNamed(BaseModel):
    """A touch that was reserved."""

    model_config = ConfigDict(extra="forbid")

    touch_id: Text = Field(examples=["crm-77"])
    #: not needed: an id is one user's
    user_id: Text | None = None


class TouchState(BaseModel):
    """What became of it."""

    touch_id: str
    state: Literal["confirmed", "released"]


class UserTouches(BaseModel):
    """What is held of a user, what plans refused, and whether one more would be granted now."""

    user_id: str
    timezone: str
    held: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    next: list[dict[str, Any]]


def touch_routes(desk: TouchDesk) -> APIRouter:
    router = APIRouter(prefix="/v1/touches", tags=["touchpoint"])

    @router.post("/reserve", response_model=TouchAnswer, responses=example(_REFUSED))
    def reserve_touch(wish: TouchWish) -> Told:
        """Whether this touch may be made: consent, suppression, quiet hours and caps are checked, and it
        counts from now on until it is confirmed, released or expires. Without an answer, do not make it."""
        asked = wish.model_dump()
        return desk.reserve(Wish(user=asked.pop("user_id"), **asked))

    @router.post("/confirm", responses=example({"touch_id": "crm-77", "state": "confirmed"}))
    def confirm_touch(touch: TouchNamed) -> TouchState:
        """It was made. Again changes nothing; 409 when the reservation has expired or was released."""
        desk.confirm(touch.touch_id)
        return TouchState(touch_id=touch.touch_id, state="confirmed")

    @router.post("/release", responses=example({"touch_id": "crm-77", "state": "released"}))
    def release_touch(touch: TouchNamed) -> TouchState:
        """It will not be made, and counts no more. Again changes nothing; 409 when it is confirmed."""
        desk.release(touch.touch_id)
        return TouchState(touch_id=touch.touch_id, state="released")

    @router.get("/{user_id}")
    def read_touches(user_id: Annotated[str, Path(min_length=1, max_length=200)]) -> UserTouches:
        """The touches of a user, 32 days back and ahead, and channel by channel whether one more fits."""
        return UserTouches(**desk.of(user_id))

    return router
