"""Templates of activities, as they are shown to whoever makes an activity of one."""

from __future__ import annotations

from typing import Any

from engine.wiring import Workspace
from kernel.errors import NotFound
from planner.api import ActivityTemplate, form


def templates(workspace: Workspace, name: str | None = None) -> list[dict[str, Any]]:
    """`{name, title, description, schema, form}` of all, or of one; inputs of the form say their `default`
    besides. Raises NotFound."""
    known = {each.name: each for each in workspace.definitions().of(ActivityTemplate)}
    if name is not None and name not in known:
        raise NotFound("template", name, known)
    return [
        {
            "name": each.name,
            "title": each.title,
            "description": each.description,
            "schema": each.schema_,
            "form": [
                {**one, "default": each.parameters[one["name"]].get("default")} for one in form(each.schema_)
            ],
        }
        for each in sorted(known.values(), key=lambda each: each.name)
        if name in (None, each.name)
    ]
