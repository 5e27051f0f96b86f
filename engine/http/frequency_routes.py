"""The route that tells how often is right."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from engine.http.services import Services


class CurvePoint(BaseModel):
    """A hazard on the day of the k-th exposure, with its 95 % interval."""

    segment: str
    #: `outcome` or `opt_out`
    curve: str
    k: int
    hazard: float
    low: float
    high: float


class SegmentStanding(BaseModel):
    """Where the users of a segment stand."""

    segment: str
    users: int
    touched: int
    #: mean exposures since counting began
    exposures: float
    #: mean number of exposures up to which they are brought
    target: float


class FrequencyAnswer(BaseModel):
    """How a frequency stands. All but `name` and `hint` are null until it was learned."""

    name: str
    #: day whose beginning all of it is of
    as_of: str | None
    hint: str = ""
    audience: int | None = None
    #: touches a day, at most; given today; users whose number is drawn
    budget: int | None = None
    touched: int | None = None
    drawn: int | None = None
    #: major units a touch: what one more would add, what one fewer in the floor would, and of now
    price: float | None = None
    floor_price: float | None = None
    price_now: float | None = None
    spent_today: int | None = None
    exposures: int | None = None
    outcomes: int | None = None
    opt_outs: int | None = None
    #: mean exposures of those whose outcome followed one, and what is aimed at
    touches_per_converter: float | None = None
    touches_wanted: float | None = None
    #: exposures → outcomes
    converters: dict[str, int] = {}
    half_life_days: float | None = None
    segments: list[SegmentStanding] = []
    curves: list[CurvePoint] = []


def frequency_routes(services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["frequency"])

    @router.get("/frequency")
    def read_frequency(
        name: str | None = Query(default=None, description="of one; default: all"),
    ) -> list[FrequencyAnswer]:
        """Curves with intervals, targets, price, spending, touches a converter, opt-outs."""
        found: list[dict[str, Any]] = [dict(each) for each in services.frequency(name)]
        return [FrequencyAnswer.model_validate(each) for each in found]

    return router
