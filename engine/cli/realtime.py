"""`growth serve`, `growth learn`: what answers in real time, and what learns from it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from engine.cli.shell import HERE, Dir, workspace


def add_to(app: typer.Typer) -> None:
    @app.command("serve")
    def serve_(
        host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
        port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
        workers: Annotated[int, typer.Option(help="Processes that answer.", min=1, max=64)] = 1,
        store: Annotated[
            str | None, typer.Option(help="What they share: a folder, or redis://HOST:PORT/0.")
        ] = None,
        root: Dir = HERE,
    ) -> None:
        """Serve the HTTP API: decisions, outcomes, groups, plans. Beyond loopback it demands a token."""
        from engine.serve import serve

        if store is not None:
            os.environ["GROWTH_STORE"] = store  # so that every worker reads the same
        serve(workspace(root), host, port, workers)

    @app.command("learn")
    def learn_(root: Dir = HERE) -> None:
        """Learn from decisions and outcomes as they become final, until interrupted; `serve` does so too."""
        from engine.learning import learn

        learn(workspace(root))
