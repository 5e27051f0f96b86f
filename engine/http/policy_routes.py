"""The route that tells how policies stand."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from engine.http.services import Services


class Bounds(BaseModel):
    """An estimate with its interval, in major units a decision."""

    mean: float
    low: float
    high: float
    level: float


class LivePolicyAnswer(BaseModel):
    """Who decides."""

    #: in the registry; null until one is promoted
    version: int | None
    #: kind and parameters
    made_by: dict[str, Any]
    #: name that it decides under, with what it has learned
    policy: str
    lessons: int
    #: mean of the lessons, in major units
    reward: float | None
    #: all rewards that were final at this instant are learned
    until: datetime | None


class ApprenticeAnswer(BaseModel):
    """Where the live policy stands that learns from a rule."""

    rule: str
    #: share of the newest decisions in which it would have done what its rule does
    share: float
    decisions: int
    #: it decides itself at this share, over so many decisions
    live_at: float
    window: int
    #: does it by now?
    live: bool


class ShadowAnswer(BaseModel):
    """What the challenger would have done, and earned."""

    version: int
    policy: str
    made_by: dict[str, Any]
    #: decisions after this instant count
    since: datetime
    #: sampled; of those, how many it failed at, and the last reason
    decisions: int
    failures: int
    failure: str
    #: share that would most likely have been the same
    agreement: float | None
    #: mean total variation, 0 alike … 1 nothing in common
    distance: float | None
    #: sampled with their final rewards, and as many of its own as they are worth
    judged: int
    effective: float
    #: what it would earn (SNIPS), and what those decisions did earn
    value: Bounds | None
    live_value: Bounds | None
    #: why the value is not to be trusted; empty when it is
    warning: str


class PoliciesAnswer(BaseModel):
    """How policies stand."""

    #: when that last changed; null before anything was learned
    at: datetime | None = None
    live: LivePolicyAnswer | None = None
    apprentice: ApprenticeAnswer | None = None
    shadow: ShadowAnswer | None = None
    #: why the challenger is not shadowed; empty when it is, or there is none
    trouble: str = ""


def policy_routes(services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["real time"])

    @router.get("/policies")
    def read_policies() -> PoliciesAnswer:
        """Which policy decides, what it has learned, and how the challenger in its shadow compares."""
        return PoliciesAnswer.model_validate(dict(services.policies()))

    return router
