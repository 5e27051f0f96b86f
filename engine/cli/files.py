"""`growth init`, `growth doctor`: workspaces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.shell import HERE, AsJson, Dir, say, say_json


def add_to(app: typer.Typer) -> None:
    @app.command("init")
    def init_(
        root: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
        example: Annotated[bool, typer.Option("--example", help="With a small made-up shop to try.")] = False,
    ) -> None:
        """Make a new workspace: growth.toml, catalog.yaml, folders of definitions."""
        from engine.usecases import init_workspace

        init_workspace(root, example=example)
        if example:
            say(f"a workspace in {root}, with a small shop's users and orders until 20 November 2026; next:")
            say(f"growth apply -f {root / 'definitions' / 'shop.yaml'} --dir {root}")
            return
        say(f"a workspace in {root}; next: put your tables in {root / 'data'}, name them in catalog.yaml,")
        say(f"then: growth doctor --dir {root}")

    @app.command("doctor")
    def doctor_(root: Dir = HERE, as_json: AsJson = False) -> None:
        """What is configured, reachable and stale, and what to do about it."""
        from engine.doctor import examine

        found = examine(root)
        if as_json:
            say_json([vars(each) for each in found])
        else:
            for each in found:
                say(f"{'ok  ' if each.well else 'BAD '} {each.what}: {each.said}")
        if not all(each.well for each in found):
            raise typer.Exit(1)
