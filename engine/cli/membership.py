"""`growth why`: why a user is in a group, or is not."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.shell import HERE, AsJson, Dir, say, say_json, workspace


def add_to(app: typer.Typer) -> None:
    @app.command("why")
    def why_(
        user: Annotated[str, typer.Argument(help="The user's own id.")],
        group: Annotated[str, typer.Argument(help="Name of an applied group.")],
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Why a user is in a group or is not, leaf by leaf; fresh events included."""
        from engine.audience_service import AudienceService

        service = AudienceService(workspace(root))
        service.refresh()
        found = service.why(group, user)
        if as_json:
            say_json(found)
            return
        belongs = "belongs" if found["member"] else "does not belong"
        version = f"version {found['version']}" if found["version"] else "worked out now"
        fresh = ", fresh events included" if found["fresh"] else ""
        say(f"{user} {belongs} to {group}, {version}, as of {found['as_of']}{fresh}")
        for line in found["because"]:
            say(f"{'  ' * line['depth']}{'✓' if line['holds'] else '✗'} {line['text']}")
        if found["problem"]:
            say(f"note: {found['problem']}")
