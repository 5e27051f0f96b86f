"""`growth catalog …`: what the sources hold, a first catalog for them, and what conditions can ask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from engine.cli.shell import HERE, AsJson, Dir, progress, say, say_json, show, workspace

_SECONDS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="The data routing: profile it, draft it, show it.", no_args_is_help=True)
    app.add_typer(group, name="catalog")

    @group.command("profile")
    def profile_(
        write: Annotated[
            bool, typer.Option("--write", help="Keep it in catalog.profile.yaml, for condition panels.")
        ] = False,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Read every field and event in its source: rows, gaps, values, ends, and how old the newest is."""
        from engine.catalogs import profile

        space = workspace(root)
        with progress(quiet=as_json) as step:
            found = profile(space, write=write, progress=step)
        if as_json:
            say_json(found)
            return
        show(_profiled(found))
        for name, event in found["events"].items():
            age = (
                "none" if event["age_seconds"] is None else f"the newest is {_span(event['age_seconds'])} old"
            )
            say(f"event {name}: {event['rows']:,} lines, {age}")
        if write:
            say(f"written to {found['file']}")

    @group.command("suggest")
    def suggest_(
        url: Annotated[str, typer.Argument(help="duckdb://FILE, parquet://FOLDER, postgres://…, …")],
        out: Annotated[
            Path | None, typer.Option("--out", help="Write it to this file, from whose folder URLs start.")
        ] = None,
        timezone: Annotated[
            str, typer.Option("--timezone", help="IANA zone of times that have none.")
        ] = "UTC",
        force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """Draft a catalog from the looks of a database; each guess says why."""
        from engine.catalogs import suggest

        text = suggest(url, out=out, timezone=timezone, force=force)
        if as_json:
            import yaml

            say_json({"file": str(out) if out else None, "catalog": yaml.safe_load(text)})
        else:
            say(f"written to {out}" if out else text.rstrip())

    @group.command("show")
    def show_(
        schema: Annotated[
            bool, typer.Option("--schema", help="The JSON Schema of a condition instead.")
        ] = False,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Every field, event, group and tag with the tests that it takes: what a condition panel draws."""
        from engine import catalogs

        space = workspace(root)
        if schema:
            say_json(catalogs.schema(space))
            return
        found = catalogs.panel(space)
        if as_json:
            say_json(found)
        else:
            show(_shown(found))


def _profiled(found: dict[str, Any]) -> Table:
    table = Table("field", "rows", "unknown", "different", "values or range")
    for name, each in found["fields"].items():
        ends = each["range"]
        told = ", ".join(str(value) for value in each["values"][:6]) or (
            f"{ends[0]} … {ends[1]}" if ends else ""
        )
        more = ", …" if len(each["values"]) > 6 else ""
        table.add_row(name, f"{each['rows']:,}", f"{each['nulls']:,}", f"{each['distinct']:,}", told + more)
    return table


def _shown(found: dict[str, Any]) -> Table:
    table = Table("name", "label", "type", "evaluation", "tests")
    for each in found["fields"]:
        table.add_row(each["name"], each["label"], each["type"], each["freshness"], _ops(each["operators"]))
    for event in found["events"]:
        numbers = " ".join(each["agg"] for each in event["aggregations"])
        table.add_row(event["name"], event["label"], "event", event["freshness"], numbers)
        for each in event["fields"]:
            table.add_row(each["name"], each["label"], each["type"], "", _ops(each["operators"]))
    for each in found["groups"]:
        table.add_row(each["name"], each["label"], "group", each["evaluation"], "in, not in")
    for each in found["tags"]:
        table.add_row(each["name"], each["label"], f"tag, {each['type']}", each["evaluation"],
                      _ops(each["operators"]))  # fmt: skip
    return table


def _ops(operators: list[dict[str, Any]]) -> str:
    return " ".join(each["op"] for each in operators)


def _span(seconds: float) -> str:
    """In its largest unit."""
    size, unit = next((each for each in _SECONDS if abs(seconds) >= each[0]), _SECONDS[-1])
    return f"{seconds / size:.0f} {unit}"
