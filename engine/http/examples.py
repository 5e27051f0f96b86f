"""What an answer looks like, for the OpenAPI schema."""

from __future__ import annotations

from typing import Any


def example(value: object) -> dict[int | str, dict[str, Any]]:
    """As FastAPI's `responses`: of a call that went well."""
    return {200: {"content": {"application/json": {"example": value}}}}
