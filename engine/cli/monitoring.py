"""`growth monitor`: whether what the models see, say and foretold has moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from engine.cli.shell import HERE, AsJson, Dir, day_of, progress, say, say_json, show, workspace

if TYPE_CHECKING:
    from engine.monitoring import Monitoring


def add_to(app: typer.Typer) -> None:
    @app.command("monitor")
    def monitor_(
        as_of: Annotated[str | None, typer.Option("--as-of", help="Day; by default the latest.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Features, scores, calibration and uplift of every model; what was seen is kept."""
        from engine.monitoring import monitor
        from engine.usecases import latest_day

        space = workspace(root)
        day = day_of(as_of, "--as-of") if as_of else latest_day(space)
        with progress(quiet=as_json) as step:
            found = monitor(space, day, step)
        if as_json:
            say_json(found.as_json())
        else:
            _show(found)


def _show(found: Monitoring) -> None:
    table = Table("model", box=None, pad_edge=False)
    for head in ("version", "looks", "features", "scores", "windows", "not looked at"):
        table.add_column(head, justify="left" if head == "not looked at" else "right")
    for each in found.models:
        sizes = ["" if size is None else f"{size:.3f}" for size in (each.feature_psi, each.score_psi)]
        table.add_row(each.model, str(each.version), str(each.looks), *sizes, str(each.windows), each.without)
    show(table)
    for alarm in found.alarms:
        say(f"! {alarm.said}")
    if not found.alarms:
        say(f"nothing has moved by {found.day}")
