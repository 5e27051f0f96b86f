"""The routes of the catalog."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from engine.http.services import Services


def catalog_routes(services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1/catalog", tags=["catalog"])

    @router.get("")
    def read_catalog() -> dict[str, Any]:
        """Every field, event, group and tag with its operators, input kinds and values: a condition panel."""
        return dict(services.catalog())

    @router.get("/schema")
    def read_schema() -> dict[str, Any]:
        """A JSON Schema of the conditions that can be asked."""
        return dict(services.condition_schema())

    return router
