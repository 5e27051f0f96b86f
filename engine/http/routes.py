"""The routes of groups and plans under /v1."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Path

from engine.http.services import Services

Day = Annotated[date, Path(alias="date")]


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
