"""Plans under /v1: make, and ask what if."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from engine.plan_questions import PlanQuestions
from engine.planning import decide, plan_recorded, standing
from engine.replan import Again
from engine.wiring import Workspace
from kernel.errors import BadInput

Day = Annotated[date, Path(alias="date")]


class Making(BaseModel):
    """The day that is to be planned."""

    model_config = ConfigDict(extra="forbid")
    date: date
    #: anew, around what has gone out of the plan that stands
    replan: bool = False
    #: with `replan`: LABEL=NAME, such as task=NAME; all else stays
    only: str | None = Field(default=None, max_length=300)


class Deciding(BaseModel):
    """A person's word on a plan."""

    model_config = ConfigDict(extra="forbid")
    state: Literal["approved", "held"]
    by: str = Field(default="api", max_length=100)
    why: str = Field(default="", max_length=1000)


class Bounds(BaseModel):
    """New bounds of one limit; what is not named stays."""

    model_config = ConfigDict(extra="forbid")
    at_most: float | None = None
    at_least: float | None = None
    penalty: float | None = None


class Asking(BaseModel):
    """Limit → its new bounds."""

    model_config = ConfigDict(extra="forbid")
    limits: dict[str, Bounds] = Field(min_length=1, examples=[{"coupon_budget": {"at_most": 600}}])


def asked_plan_routes(space: Workspace) -> APIRouter:
    router = APIRouter(prefix="/v1/plans", tags=["plans"])
    questions = PlanQuestions(space)

    @router.get("")
    def list_plans() -> dict[str, Any]:
        """The newest plan of each day."""
        found = space.plans.newest_of_each_day()
        return {"plans": [{"date": each.date.isoformat(), "version": each.version} for each in found]}

    @router.post("")
    def make_plan(body: Making) -> dict[str, Any]:
        """Makes a day's plan and answers with it; the same inputs again change nothing. It takes seconds for
        thousands of users, minutes for millions."""
        if body.only is not None and not body.replan:
            raise BadInput("goes with replan only", field="only", value=body.only)
        again = Again.of(body.only) if body.replan else None
        made = plan_recorded(space, body.date, None, lambda _: None, "api", again=again)
        return {**made.summary, "new": made.new}

    @router.get("/{date}/standing")
    def how_it_stands(day: Day) -> dict[str, Any]:
        """Waiting, approved or held, and who said so; being made just now; its runs, each step with its rows
        and seconds, while they go on."""
        return standing(space, day)

    @router.post("/{date}/decision")
    def decide_on(day: Day, body: Deciding) -> dict[str, Any]:
        """Approves the plan, so that its touches go out, or holds it, which stops what is on its way."""
        return decide(space, day, body.state, who=body.by, why=body.why)

    @router.post("/{date}/what-if")
    def what_if(day: Day, body: Asking) -> dict[str, Any]:
        """Changed limits → the changed plan's totals, with their proof; nothing is changed."""
        changes = {name: each.model_dump(exclude_unset=True) for name, each in body.limits.items()}
        return questions.what_if(day, changes)

    @router.get("/{date}/curve")
    def curve(
        day: Day, limit: Annotated[str, Query(description="LIMIT=FROM:TO:POINTS", max_length=300)]
    ) -> dict[str, Any]:
        """Gain against the bound of a limit, a row a point, each proven."""
        return {"points": questions.curve(day, limit)}

    @router.get("/{date}/goals")
    def goals(day: Day) -> dict[str, Any]:
        """What each goal costs the others."""
        return {"goals": questions.goals(day)}

    @router.get("/{date}/difference")
    def difference(
        day: Day, since: date, since_version: int | None = None, version: int | None = None
    ) -> dict[str, Any]:
        """What changed since another day's plan, or another version of this day's."""
        return questions.difference(since, day, since_version, version)

    return router
