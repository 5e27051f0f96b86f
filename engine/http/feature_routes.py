"""Features and score of one user under /v1, for whoever decides elsewhere."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from engine.features_online import model_now, set_now
from engine.http.examples import example
from engine.wiring import Workspace
from kernel.clock import parse_instant
from kernel.errors import BadInput

_TOLD = {
    "user_id": "42",
    "as_of": "2017-10-16T04:00:00+00:00",
    "name": "churn",
    "version": 3,
    "lines": 118,
    "features": {"recency_days": 3.25, "purchases_28d": 1.5, "gap_spread_days": None},
    "score": 0.0712,
    "interval": None,
}


def feature_routes(space: Workspace) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["models"])

    @router.get("/users/{user_id}/features", responses=example(_TOLD))
    def read_features(
        user_id: str,
        name: Annotated[str | None, Query(alias="set", description="a feature set")] = None,
        model: Annotated[str | None, Query(description="or what a model learned from, and its score")] = None,
        at: Annotated[str | None, Query(description="day or time; default: now")] = None,
    ) -> dict[str, Any]:
        """One user's features, events sent since the batch included: those that the batch of that instant
        has, to 1e-9. null: missing, or never happened; `lines` 0: nothing is known of the user."""
        if (name is None) == (model is None):
            raise BadInput("give either set or model", field="set")
        instant = space.clock.now() if at is None else parse_instant(at, space.settings.zone, "at")
        if name is not None:
            return set_now(space, name, user_id, instant).as_json()
        return model_now(space, model or "", user_id, instant).as_json()

    return router
