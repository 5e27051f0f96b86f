"""`growth forget`: a person taken out of everything."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from engine.cli.shell import HERE, AsJson, Dir, complain, progress, say, say_json, workspace


def add_to(app: typer.Typer) -> None:
    @app.command("forget")
    def forget_(
        user: Annotated[str, typer.Argument(metavar="USER", help="Any of her ids.")],
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
        readmit: Annotated[
            bool, typer.Option("--readmit", help="Take her tombstone away: she may come back.")
        ] = False,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Remove a person from everything that this workspace keeps, and tell what is beyond it."""
        from engine.forgetting import forget_user, readmit_user
        from kernel.errors import GrowthError

        space = workspace(root)
        if readmit:
            readmit_user(space, user)
            if as_json:
                say_json({"readmitted": True})
            else:
                say("she may come back with the next batch")
            return
        with progress(quiet=as_json) as tell:
            found = forget_user(space, user, dry_run=dry_run, progress=tell)
        if as_json:
            say_json({**asdict(found), "complete": found.complete})
        else:
            would = "would go" if dry_run else "went"
            for name, versions in found.groups.items():
                say(f"group {name}: out of {versions} published versions")
            for name, rows in found.rows_deleted.items():
                say(f"{name}: {rows} rows {would}")
            for name, rows in found.rows_redacted.items():
                say(f"{name}: {rows} rows that named her")
            for name, rows in found.files.items():
                say(f"{name}: {rows}")
            for name in found.manifests:
                say(f"{name}: new count and hash")
            for each in found.beyond:
                say(f"not reached: {each}")
        for each in found.left:
            complain(each)
        if found.left and not dry_run:
            raise GrowthError("not all of it could be removed; see above")
