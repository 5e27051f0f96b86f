"""`growth sync …`: audiences on ad platforms."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from engine.cli.shell import HERE, AsJson, Dir, say, say_json, workspace


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Audiences on ad platforms.", no_args_is_help=True)
    app.add_typer(group, name="sync")

    @group.callback()
    def sync_() -> None:
        """Audiences on ad platforms."""

    @group.command("run")
    def run_(
        name: Annotated[str | None, typer.Argument(help="Of an audience_sync; default: all.")] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Bring each platform to what should be there: who must not be there any more goes first."""
        from engine.offsite import sync_all

        found = sync_all(workspace(root), name, dry_run=dry_run)
        if as_json:
            say_json(found)
            return
        for each in found:
            word = "would be " if dry_run else ""
            say(
                f"{each['sync']}: {each['add']:,} {word}added, {each['remove']:,} {word}removed,"
                f" {each['wanted']:,} wanted in {each['audience']}"
            )
            for reason, many in each["left_out"].items():
                say(f"  {many:>9,} left out: {reason}")
        if not found:
            say("no audience_sync is defined")

    @group.command("status")
    def status_(
        name: Annotated[str | None, typer.Argument(help="Of an audience_sync; default: all.")] = None,
        within: Annotated[str, typer.Option("--within", help="Exposures of so long count.")] = "30d",
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """What each platform holds, the last runs, and reach and frequency of the exposures there."""
        from engine.offsite import status

        found = status(workspace(root), name, within=within)
        if as_json:
            say_json(found)
            return
        for each in found:
            for line in _lines(each):
                say(line)
        if not found:
            say("no audience_sync is defined")


def _lines(each: dict[str, Any]) -> list[str]:
    doubt = f", {each['in_doubt']:,} in doubt: the next run asks again" if each["in_doubt"] else ""
    lines = [f"{each['sync']}: {each['held']:,} keys in {each['audience']} on {each['platform']}{doubt}"]
    for run in each["runs"][:3]:
        ended = "did not end" if run["ended"] is None else f"ended {run['ended']:%Y-%m-%d %H:%M:%S}"
        lines.append(f"  run {run['number']}: {run['added']:,} added, {run['removed']:,} removed, {ended}")
    for row in each["reach"] or ():
        average = "–" if row["average"] is None else f"{row['average']:.2f}"
        steps = "  ".join(f"{k}+ {many:,}" for k, many in row["reach"].items() if many)
        lines.append(f"  {row['group']}: {row['users']:,} users reached, {average} exposures each  {steps}")
    return lines
