"""`growth run`, `growth jobs`, `growth tags`, `growth lineage`: what is worked out when, and from what."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from engine.cli.shell import HERE, AsJson, Dir, day_of, live, say, say_json, show, workspace


def add_to(app: typer.Typer) -> None:
    @app.command("run")
    def run_(
        what: Annotated[Literal["selections"], typer.Argument(help="What to run.")],
        day: Annotated[str | None, typer.Option("--date", help="YYYY-MM-DD: as of its beginning.")] = None,
        groups: Annotated[
            str | None, typer.Option("--groups", help="Only these, and what they need: a,b,tag:c.")
        ] = None,
        backfill: Annotated[str | None, typer.Option("--backfill", help="FROM..TO: one run a day.")] = None,
        wait: Annotated[str, typer.Option("--wait", help="How long to wait for what is needed.")] = "0",
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Work out groups and tags and publish them; what is unchanged stays. Exit 1 when some could not."""
        from engine.selection_jobs import days_between, run_selections
        from kernel.clock import parse_window
        from kernel.errors import BadInput

        if (day is None) == (backfill is None):
            raise BadInput("give either --date or --backfill FROM..TO", field="--date")
        days: list[date] = [day_of(day, "--date")] if day is not None else days_between(str(backfill))
        patience = timedelta(0) if wait == "0" else parse_window(wait, "--wait")
        keys = None if groups is None else [each.strip() for each in groups.split(",") if each.strip()]
        space = workspace(root)
        with live(quiet=as_json) as tell:
            runs = run_selections(
                space, days, keys, patience=patience,
                watch=lambda name, done, of: tell(f"{name}: {done} of {of}"),
            )  # fmt: skip
        _show_runs(root, runs, as_json, failing=True)

    @app.command("jobs")
    def jobs_(
        run: Annotated[str | None, typer.Argument(help="Name of a run; default: the newest ones.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Runs and their jobs: what is done, what failed and why, and what waits for what."""
        from engine.selection_reports import newest_runs

        _show_runs(root, [run] if run is not None else newest_runs(workspace(root)), as_json, failing=False)

    @app.command("tags")
    def tags_(root: Dir = HERE, as_json: AsJson = False) -> None:
        """Every tag: whose it is, when it was last produced, and what is wrong with it."""
        from engine.selection_reports import tag_states

        found = tag_states(workspace(root))
        if as_json:
            say_json(found)
            return
        table = Table("tag", "owner", "users", "as of", "expires", "state", box=None, pad_edge=False)
        for each in found:
            users = "" if each["count"] is None else f"{each['count']:,}"
            table.add_row(
                each["name"],
                each["owner"],
                users,
                each["as_of"] or "never",
                each["expires"] or "",
                each["state"],
            )
        show(table)

    @app.command("lineage")
    def lineage_(
        name: Annotated[
            str, typer.Argument(help="A definition, field, event or source.table; or kind:name.")
        ],
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """What something is made of, and what is made of it: fields, tags, groups, goals, exports."""
        from engine.selection_reports import lineage

        found = lineage(workspace(root), name)
        if as_json:
            say_json(found)
            return
        for title, lines in (("made of", found["up"]), ("used by", found["down"])):
            say(f"{found['node']} is {title}:" + ("" if lines else " nothing"))
            for each in lines:
                say(f"{'  ' * each['steps']}{each['node']}")


def _show_runs(root: Path, runs: list[str], as_json: bool, *, failing: bool) -> None:
    from engine.selection_reports import run_report

    space = workspace(root)
    found = [run_report(space, name) for name in runs]
    if as_json:
        say_json(found)
    for each in [] if as_json else found:
        counts = ", ".join(f"{count} {state}" for state, count in each["states"].items())
        ended = "finished" if each["finished_at"] else "running"
        say(f"{each['run']}  as of {each['as_of']}  {each['reason']}, {ended}: {counts}")
        for job in each["jobs"]:
            if job["why"]:
                tries = f" (try {job['attempts']})" if job["attempts"] else ""
                say(f"  {job['state']:<8} {job['key']}{tries}: {job['why']}")
    if failing and any({"failed", "blocked"} & set(each["states"]) for each in found):
        raise typer.Exit(1)
