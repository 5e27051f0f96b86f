"""`growth touches`: what a user was and will be touched with, and why not with more."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from engine.cli.shell import HERE, AsJson, Dir, say, say_json, show, workspace
from kernel.errors import NotFound


def add_to(app: typer.Typer) -> None:
    @app.command("touches")
    def touches_(
        user: Annotated[str, typer.Argument(help="The user's own id.")],
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """What is held, planned, confirmed and refused of a user, and why the next touch would be."""
        from engine.touches import TouchDesk
        from insight.api import as_user, existing_users

        space = workspace(root)
        found = TouchDesk(space).of(user)
        # a touch may be held of somebody who registered a minute ago; of whom nothing is known is a slip
        if not found["held"] and not found["refused"]:
            one = as_user(space.catalog, user, "USER")
            if not existing_users(space.catalog, [one], space.clock.now()):
                raise NotFound("user", user, (), field="USER")
        if as_json:
            say_json(found)
            return
        say(f"user {user}, on her own wall ({found['timezone']}), 32 days back and ahead")
        table = Table("at", "channel", "class", "state", "activity", "task", "of", box=None, pad_edge=False)
        for each in found["held"]:
            names = ("at", "channel", "message_class", "state", "activity", "task", "plan")
            table.add_row(*(each[name] for name in names))
        if found["held"]:
            show(table)
        else:
            say("  nothing is held")
        for each in found["refused"]:
            say(f"  refused in plan {each['plan']}: {each['task']} by {each['rule']}: {each['reason']}")
        for each in found["next"]:
            said = (
                "would be granted now" if each["granted"] else f"refused by {each['rule']}: {each['reason']}"
            )
            say(f"  one more through {each['channel']}: {said}")
