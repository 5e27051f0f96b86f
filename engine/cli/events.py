"""`growth events …`: the log of fresh events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.shell import HERE, AsJson, Dir, say, say_json, workspace


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Fresh events that were sent to the API.", no_args_is_help=True)
    app.add_typer(group, name="events")

    @group.callback()
    def events_() -> None:
        """Fresh events that were sent to the API."""

    @group.command("export")
    def export_(
        out: Annotated[Path, typer.Option("--out", help="Folder; each event gets one of its own in it.")],
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Append what was received since the last time, as Parquet, a line each: a source like any other."""
        from engine.event_export import export_events

        found = export_events(workspace(root), out)
        if as_json:
            say_json(found)
            return
        for name, lines in found["lines"].items():
            say(f"{name}: {lines:,} lines")
        if not found["lines"]:
            say("nothing new")
