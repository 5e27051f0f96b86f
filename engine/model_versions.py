"""Versions of models: which there are, which plans used them, and two of them side by side."""

from __future__ import annotations

from datetime import date
from typing import Any

from engine.wiring import Workspace
from engine.world import plan_instant, read_history
from kernel.errors import BadInput, NotFound
from kernel.learning import ModelVersion
from models.api import Comparison, compare, kept


def list_versions(workspace: Workspace, name: str | None) -> list[ModelVersion]:
    """Newest first, by model. Raises NotFound for a name that no model has."""
    names = workspace.registry.names()
    if name is not None and name not in names:
        raise NotFound("model", name, names)
    return [each for model in ([name] if name else names) for each in workspace.registry.versions(model)]


def compare_versions(workspace: Workspace, name: str, one: int, two: int, day: date) -> Comparison:
    """Both on the same rows, known when `day` began, that neither has learned from."""
    if one == two:
        raise BadInput("is compared with itself", field="--compare", value=one)
    known = workspace.registry.names()
    if name not in known:
        raise NotFound("model", name, known, field="--compare")
    as_of = plan_instant(workspace, day, "--as-of")
    versions = [workspace.registry.version(name, each) for each in (one, two)]
    first, second = (kept(workspace.registry, each) for each in versions)
    return compare(first, second, read_history(workspace, as_of), as_of, seed=workspace.settings.seed)


def as_json(found: Comparison) -> dict[str, Any]:
    return {
        "model": found.name,
        "versions": list(found.versions),
        "rows": found.rows,
        "users": found.users,
        "since": found.since.isoformat(),
        "form": found.form,
        "figures": {
            name: {"first": vars(first), "second": vars(second)}
            for name, (first, second) in found.figures.items()
        },
        "difference": {
            "measure": found.difference.measure,
            **vars(found.difference.difference),
            "standard_errors": found.difference.errors,
        },
        "reason": found.reason,
    }
