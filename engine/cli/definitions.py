"""`growth apply`, `growth export`: definitions as code, both ways."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.shell import HERE, AsJson, Dir, say, say_json, workspace


def add_to(app: typer.Typer) -> None:
    @app.command("apply")
    def apply_(
        path: Annotated[Path, typer.Option("-f", "--file", help="A YAML file, or a folder of them.")],
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Apply definitions: all or none, the same again changes nothing."""
        from engine.usecases import apply

        outcome = apply(workspace(root), path, by=getpass.getuser())
        if as_json:
            say_json([{"kind": kind, "name": name, "outcome": what} for kind, name, what in outcome])
            return
        for kind, name, what in outcome:
            say(f"{what:<10} {kind} {name}")

    @app.command("export")
    def export_(
        out: Annotated[Path, typer.Option("--out", help="Folder to write one file a definition to.")],
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Write every definition in force as YAML, one file each."""
        from engine.definitions import write_definitions

        paths = write_definitions(workspace(root).store, out)
        if as_json:
            say_json([str(path) for path in paths])
        else:
            say(f"{len(paths)} definitions written to {out}")
