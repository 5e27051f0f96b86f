"""What is configured, reachable and stale in a workspace, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from engine.definitions import check_together
from engine.journal_keeping import describe_journals
from engine.monitoring import standing
from engine.outbox import provider_states
from engine.selection_reports import tag_states
from engine.settings import FILE, load_settings
from engine.usecases import latest_day
from engine.wiring import open_workspace
from insight.api import check_catalog
from kernel.errors import BadInput, GrowthError


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of `growth doctor`."""

    what: str
    well: bool
    #: how it is, or what to do
    said: str


def examine(root: Path) -> list[Finding]:
    """Settings, catalog, database, definitions, models: what is well and what is not."""
    settings = load_settings(root)
    space = open_workspace(root)
    found = [
        Finding(what="settings", well=True, said=f"{root / FILE}, {settings.timezone}, {settings.currency}")
    ]

    def look(what: str, say: Any) -> None:
        try:
            found.append(Finding(what=what, well=True, said=say()))
        except GrowthError as error:
            found.append(Finding(what=what, well=False, said=str(error)))

    def catalog() -> str:
        problems = check_catalog(space.catalog)
        if problems:
            raise BadInput("; ".join(str(each) for each in problems))
        counts = f"{len(space.catalog.fields)} fields, {len(space.catalog.events)} events"
        return f"{counts}, purchases until {latest_day(space) - timedelta(days=1)}"

    def definitions() -> str:
        check_together((), space.store, space.catalog)
        kinds = [each.kind for each in space.store.current()]
        if not kinds:
            raise BadInput("none are applied; run: growth apply -f definitions")
        return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))

    def models() -> str:
        names = space.registry.names()
        if not names:
            raise BadInput("none is learned; run: growth train")
        newest = [space.registry.versions(name)[0] for name in names]
        return ", ".join(f"{each.name} v{each.version} as of {each.as_of:%Y-%m-%d}" for each in newest)

    def forgotten() -> str:
        begun = space.tombstones.unfinished()
        if begun:
            when = ", ".join(f"{at:%Y-%m-%d %H:%M}" for at in begun)
            raise BadInput(f"begun at {when} UTC and not finished; run again: growth forget USER")
        return "none is unfinished"

    look("catalog", catalog)
    look("database", lambda: f"{space.database.dialect.name}, newest schema")
    look("definitions", definitions)
    look("models", models)
    look("forgetting", forgotten)
    for each in provider_states(space):
        found.append(Finding(what=f"provider {each['name']}", well=not each["trouble"], said=each["said"]))
    look("monitoring", lambda: standing(space))
    look("journals", lambda: describe_journals(space))
    for each in tag_states(space):
        found.append(Finding(what=f"tag {each['name']}", well=each["state"] == "good", said=each["state"]))
    return found
