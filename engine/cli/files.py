"""`growth init`, `growth doctor`, `growth allocate`: workspaces, and the allocator on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.shell import HERE, AsJson, Dir, progress, say, say_json
from kernel.errors import GrowthError, Infeasible


def add_to(app: typer.Typer) -> None:
    @app.command("init")
    def init_(root: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")]) -> None:
        """Make a new workspace: growth.toml, catalog.yaml, folders of definitions."""
        from engine.usecases import init_workspace

        init_workspace(root)
        say(f"a workspace in {root}; next: put your tables in {root / 'data'}, name them in catalog.yaml,")
        say(f"then: growth doctor --dir {root}")

    @app.command("doctor")
    def doctor_(root: Dir = HERE, as_json: AsJson = False) -> None:
        """What is configured, reachable and stale, and what to do about it."""
        from engine.usecases import examine

        found = examine(root)
        if as_json:
            say_json([vars(each) for each in found])
        else:
            for each in found:
                say(f"{'ok  ' if each.well else 'BAD '} {each.what}: {each.said}")
        if not all(each.well for each in found):
            raise typer.Exit(1)

    @app.command("allocate")
    def allocate_(
        candidates: Annotated[Path, typer.Argument(metavar="CANDIDATES.parquet")],
        limits: Annotated[Path, typer.Argument(metavar="LIMITS.yaml")],
        out: Annotated[Path | None, typer.Option("--out", help="Folder for the result.")] = None,
        time_limit: Annotated[float, typer.Option("--time-limit", help="Seconds.")] = 60.0,
        gap: Annotated[float, typer.Option("--gap", help="Relative gap that is good enough.")] = 1e-6,
        seed: Annotated[int, typer.Option("--seed", help="Decides between equals.", min=0)] = 0,
        as_json: AsJson = False,
    ) -> None:
        """Choose the most valuable candidates within every limit, with a proof of how good that is."""
        from engine.usecases import allocate_files

        with progress(quiet=as_json) as step:
            found = allocate_files(candidates, limits, out, time_limit, gap, seed, step)
        if as_json:
            say_json(found.as_json())
        if found.conflicting:
            raise Infeasible(found.conflicting, where=str(limits))
        if found.objective is None:
            raise GrowthError(f"{found.status}: nothing found in {time_limit:g} s; give it more --time-limit")
        if as_json:
            return
        say(f"{found.status}: {found.assignments.height:,} chosen, objective {found.objective:,.6g},"
            f" bound {found.bound:,.6g}, gap {found.gap:.2e}, {found.seconds:.2f} s")  # fmt: skip
        for use in found.limits:
            say(f"  {use.name}: used {use.used:,.6g}, price {use.price:.6g}")
