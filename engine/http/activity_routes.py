"""Activities under /v1: how they stand, taking part, boards."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from engine.activity_service import ActivityService
from engine.activity_templates import templates

UserId = Annotated[str, Field(min_length=1, max_length=200)]


class Registering(BaseModel):
    """Who wants to take part, and what she answers."""

    model_config = ConfigDict(extra="forbid")
    user_id: UserId
    #: as the activity's form asks
    answers: dict[str, Any] = Field(default={}, examples=[{"size": "M"}])


class Moving(BaseModel):
    """To which state, by whom, and why."""

    model_config = ConfigDict(extra="forbid")
    to: str = Field(examples=["paused"])
    by: str = Field(default="api", max_length=100)
    why: str = Field(default="", max_length=1000)


def activity_routes(service: ActivityService) -> APIRouter:
    router = APIRouter(prefix="/v1/activities", tags=["activities"])
    on, clock = service.activities, service.clock

    @router.get("")
    def list_activities() -> dict[str, Any]:
        """Every activity with its state."""
        return {"activities": on.all()}

    @router.get("/calendar")
    def calendar(
        first: Annotated[date, Query()], last: Annotated[date, Query()], country: str | None = None
    ) -> dict[str, Any]:
        """Activities, steps of promotion and public holidays between two days."""
        return {"days": on.calendar(first, last, country)}

    @router.get("/templates")
    def list_templates() -> dict[str, Any]:
        """Templates that activities can be made of, with JSON Schema and form of their parameters."""
        return {"templates": templates(service.workspace)}

    @router.get("/{name}")
    def show_activity(name: str) -> dict[str, Any]:
        """State, moves, form, totals, rewards."""
        return on.show(name)

    @router.post("/{name}/state")
    def move_activity(name: str, body: Moving) -> dict[str, Any]:
        """draft → ready → running → completed → reviewed; paused, cancelled."""
        return clock.move(name, body.to, who=body.by, why=body.why)

    @router.post("/{name}/participants")
    def register(name: str, body: Registering) -> dict[str, Any]:
        """The user takes part; the same user again changes nothing."""
        return on.register(name, body.user_id, body.answers)

    @router.get("/{name}/participants/{user_id}")
    def standing(name: str, user_id: str) -> dict[str, Any]:
        """Metrics, ranks and rewards of a participant."""
        return on.standing(name, user_id)

    @router.get("/{name}/board")
    def board(
        name: str,
        period: str = "all",
        key: Annotated[str | None, Query(description="A day, week or month; absent: the current one")] = None,
        first: int = 1,
        count: int = 10,
        user_id: Annotated[str | None, Query(description="Those around this user")] = None,
    ) -> dict[str, Any]:
        """The leaderboard, from place `first` on, or around a user."""
        return on.board(name, period, key, first, count, user_id)

    @router.get("/{name}/post-mortem")
    def post_mortem(name: str) -> dict[str, Any]:
        """Funnel, cost, revenue, profit, increment and lessons; before the end, as it stands."""
        return on.post_mortem(name)

    return router
