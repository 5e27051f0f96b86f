"""Operational rules under /v1: how they stand, what they brought, their switches."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from engine.rule_results import read_rule, switch, tune
from engine.rules import runs_of, standing
from engine.wiring import Workspace


class Switching(BaseModel):
    """On or off, by whom, and why."""

    model_config = ConfigDict(extra="forbid")
    state: Literal["on", "off"]
    by: str = Field(default="api", max_length=100)
    why: str = Field(default="", max_length=1000)


def rule_routes(space: Workspace) -> APIRouter:
    router = APIRouter(prefix="/v1/rules", tags=["rules"])

    @router.get("")
    def list_rules() -> dict[str, Any]:
        """Every rule: on or off, shares of its variants, its last firing."""
        return {"rules": standing(space)}

    @router.get("/changes")
    def changes(rule: str | None = None) -> dict[str, Any]:
        """What rules and people changed, with the evidence; the newest first."""
        return {"changes": space.rules.changes(rule)}

    @router.post("/changes/{number}/undo")
    def undo(number: int) -> dict[str, Any]:
        """Takes the newest change of a rule back."""
        return {"rule": space.rules.undo(number, at=space.clock.now(), who="api")}

    @router.get("/{name}/runs")
    def runs(name: str) -> dict[str, Any]:
        """One record a firing, the newest first."""
        return {"runs": runs_of(space, name)}

    @router.get("/{name}/result")
    def result(name: str, as_of: str | None = None) -> dict[str, Any]:
        """Reached, converted, increment against the holdout with its interval, cost and profit."""
        return read_rule(space, name, as_of).as_json()

    @router.post("/{name}/tune")
    def tune_rule(name: str, as_of: str | None = None) -> dict[str, Any]:
        """Moves the shares of its variants; asks or stops when it loses money."""
        return {"changes": tune(space, name, as_of)}

    @router.post("/{name}/state")
    def switch_rule(name: str, body: Switching) -> dict[str, Any]:
        """On or off."""
        return {"state": body.state, "change": switch(space, name, body.state, who=body.by, why=body.why)}

    return router
