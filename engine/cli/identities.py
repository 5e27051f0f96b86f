"""`growth identities`: ids of one person, and mappings to other ids."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer
from rich.table import Table

from engine.cli.shell import HERE, AsJson, Dir, say, say_json, show, workspace

Because = Annotated[str, typer.Option("--because", help="Why; kept in the log.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Merge ids of one person, take it back, look at mappings.", no_args_is_help=True)
    app.add_typer(group, name="identities")

    @group.command("merge")
    def merge_(
        from_: Annotated[str, typer.Argument(metavar="FROM", help="Id that is hers too.")],
        into: Annotated[str, typer.Argument(metavar="INTO", help="Id that stands for her.")],
        because: Because,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """FROM is the same person as INTO: her events and memberships count for INTO from now on."""
        from engine.identities import merge_users

        done = merge_users(workspace(root), from_, into, because=because, by=getpass.getuser())
        if as_json:
            say_json(done)
        else:
            changed = done["memberships"]["changed"]
            say(f"{done['user']} is {done['into']}; {changed} published groups changed")

    @group.command("unmerge")
    def unmerge_(
        from_: Annotated[str, typer.Argument(metavar="FROM", help="Id that was merged.")],
        because: Because,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Take a merge back: everything is as it was before it."""
        from engine.identities import unmerge_users

        done = unmerge_users(workspace(root), from_, because=because, by=getpass.getuser())
        if as_json:
            say_json(done)
        else:
            changed = done["memberships"]["changed"]
            say(f"{done['user']} is not {done['into']}; {changed} published groups changed")

    @group.command("log")
    def log_(root: Dir = HERE, as_json: AsJson = False) -> None:
        """What was merged and unmerged, when, by whom and why."""
        from engine.identities import identity_history

        found = identity_history(workspace(root))
        if as_json:
            say_json(found)
            return
        table = Table("version", "what", "from", "into", "when", "by", "because", box=None, pad_edge=False)
        for each in found["log"]:
            told = (each["number"], each["action"], each["user"], each["into"], each["at"][:19])
            table.add_row(*map(str, told), each["by"], each["because"])
        show(table)

    @group.command("mappings")
    def mappings_(
        as_of: Annotated[
            str | None, typer.Option("--as-of", help="Date or instant; default: the end of the data.")
        ] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Every mapping: its links, and the shared ids whose links do not count."""
        from engine.identities import mappings_now
        from engine.usecases import instant_of

        space = workspace(root)
        found = mappings_now(space, instant_of(space, as_of))
        if as_json:
            say_json(found)
            return
        if not found:
            say("the catalog has no mappings")
        for each in found:
            head = f"{each['mapping']}: {each['from']} → {each['to']}"
            say(f"{head}, {each['links']:,} links, {each['counted']:,} count")
            for crowd in each["ignored"]:
                named = ", ".join(f"{one[crowd['entity']]} ({one['links']})" for one in crowd["examples"])
                told = f"{crowd['ids']:,} {crowd['entity']} ids with more than {crowd['most']} partners"
                say(f"  ignored: {told} ({crowd['links']:,} links), such as {named}")
