"""Definitions under /v1: as in their YAML, with who changed them, when and why."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from engine.definition_history import difference, history, retire, revert, shown
from engine.definitions import parse_definition
from engine.usecases import apply_all
from engine.wiring import Workspace

By = Annotated[str, Field(max_length=100)]
Why = Annotated[str, Field(max_length=1000)]


class Applying(BaseModel):
    """Definitions as in their YAML; all are applied, or none."""

    model_config = ConfigDict(extra="forbid")
    definitions: list[dict[str, Any]] = Field(min_length=1, max_length=10_000)
    by: By = "api"
    why: Why = ""


class Because(BaseModel):
    """Who changes it, and why."""

    model_config = ConfigDict(extra="forbid")
    by: By = "api"
    why: Why = ""


class Back(Because):
    """To which version."""

    version: int = Field(ge=1)


def definition_routes(space: Workspace) -> APIRouter:
    router = APIRouter(prefix="/v1/definitions", tags=["definitions"])

    @router.get("")
    def list_definitions(kind: str | None = None) -> dict[str, Any]:
        """Those in force."""
        found = space.store.current(kind)
        return {"definitions": [each.body for each in found]}

    @router.post("")
    def apply_definitions(body: Applying) -> dict[str, Any]:
        """Applies all or none; the same again changes nothing."""
        read = [parse_definition(raw, f"definitions.{i}") for i, raw in enumerate(body.definitions)]
        done = apply_all(space, read, by=body.by, why=body.why)
        return {"applied": [{"kind": kind, "name": name, "outcome": what} for kind, name, what in done]}

    @router.get("/history")
    def whole_history(
        kind: str | None = None, limit: Annotated[int, Query(ge=1, le=10_000)] = 100
    ) -> dict[str, Any]:
        """Every change, the newest first."""
        return {"versions": history(space, kind, limit=limit)}

    @router.get("/{kind}/{name}")
    def read_definition(kind: str, name: str, version: int | None = None) -> dict[str, Any]:
        """The newest version, or another."""
        return shown(space, kind, name, version)

    @router.get("/{kind}/{name}/history")
    def history_of(kind: str, name: str) -> dict[str, Any]:
        """Every version, the newest first."""
        return {"versions": history(space, kind, name)}

    @router.get("/{kind}/{name}/difference")
    def difference_of(kind: str, name: str, old: int, new: int | None = None) -> dict[str, str]:
        """What changed between two versions, as a unified diff."""
        return {"difference": difference(space, kind, name, old, new)}

    @router.post("/{kind}/{name}/revert")
    def revert_definition(kind: str, name: str, body: Back) -> dict[str, str]:
        """An earlier version becomes the newest, if it still fits all others."""
        return {"outcome": revert(space, kind, name, body.version, by=body.by, why=body.why)}

    @router.post("/{kind}/{name}/retire")
    def retire_definition(kind: str, name: str, body: Because) -> dict[str, str]:
        """Out of force; its history stays."""
        return {"outcome": retire(space, kind, name, by=body.by, why=body.why)}

    return router
