"""`growth apply`, `growth export`: definitions as code, both ways."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.shell import HERE, AsJson, Dir, say, say_json, workspace

Kind = Annotated[str, typer.Argument(help="Such as group, goal or activity.")]
Name = Annotated[str, typer.Argument(help="Name of the definition.")]
Because = Annotated[str, typer.Option("--because", help="Why, for the record.")]


def add_to(app: typer.Typer) -> None:
    @app.command("apply")
    def apply_(
        path: Annotated[Path, typer.Option("-f", "--file", help="A YAML file, or a folder of them.")],
        because: Because = "",
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Apply definitions: all or none, the same again changes nothing."""
        from engine.usecases import apply

        outcome = apply(workspace(root), path, by=getpass.getuser(), why=because)
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

    group = typer.Typer(help="Definitions over time: log, show, diff, revert, retire.", no_args_is_help=True)
    app.add_typer(group, name="definitions")

    @group.command("log")
    def log_(
        kind: Annotated[str | None, typer.Argument(help="Only this kind.")] = None,
        name: Annotated[str | None, typer.Argument(help="Only this one.")] = None,
        limit: Annotated[int, typer.Option("--limit", help="Newest changes that are shown.")] = 50,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Who changed what, when and why; the newest first."""
        from engine.definition_history import history

        found = history(workspace(root), kind, name, limit=limit)
        if as_json:
            say_json(found)
            return
        for each in found:
            gone = "" if each["body"] is not None else "retired "
            said = f" · {each['why']}" if each["why"] else ""
            what = f"{each['kind']} {each['name']} v{each['version']}"
            say(f"{each['at'][:16]}  {what:<40} {gone}by {each['by']}{said}")

    @group.command("show")
    def show_(
        kind: Kind,
        name: Name,
        version: Annotated[int | None, typer.Option("--version", help="Instead of the newest.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """A version as YAML."""
        import yaml

        from engine.definition_history import shown

        found = shown(workspace(root), kind, name, version)
        if as_json:
            say_json(found)
        elif found["body"] is None:
            say("# retired")
        else:
            say(yaml.safe_dump(found["body"], sort_keys=False, allow_unicode=True).rstrip())

    @group.command("diff")
    def diff_(
        kind: Kind,
        name: Name,
        old: Annotated[int, typer.Argument(help="Version.")],
        new: Annotated[int | None, typer.Argument(help="Version; absent: the newest.")] = None,
        root: Dir = HERE,
    ) -> None:
        """What changed between two versions."""
        from engine.definition_history import difference

        say(difference(workspace(root), kind, name, old, new) or "no difference")

    @group.command("revert")
    def revert_(
        kind: Kind,
        name: Name,
        version: Annotated[int, typer.Argument(help="Version that becomes the newest.")],
        because: Because = "",
        root: Dir = HERE,
    ) -> None:
        """Back to an earlier version, if it still fits all others."""
        from engine.definition_history import revert

        say(
            f"{revert(workspace(root), kind, name, version, by=getpass.getuser(), why=because)} {kind} {name}"
        )

    @group.command("retire")
    def retire_(kind: Kind, name: Name, because: Because = "", root: Dir = HERE) -> None:
        """Out of force, if no other definition needs it; its history stays."""
        from engine.definition_history import retire

        say(f"{retire(workspace(root), kind, name, by=getpass.getuser(), why=because)} {kind} {name}")
