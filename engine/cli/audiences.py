"""`growth estimate`, `growth select`: who is in a group."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.shell import HERE, AsJson, Dir, say, say_json, workspace

AsOf = Annotated[str | None, typer.Option("--as-of", help="Date or instant; default: the end of the data.")]


def add_to(app: typer.Typer) -> None:
    @app.command("estimate")
    def estimate_(
        name: Annotated[str | None, typer.Argument(help="Name of an applied group.")] = None,
        file: Annotated[Path | None, typer.Option("-f", "--file", help="A group in YAML.")] = None,
        as_of: AsOf = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Audience size: how many users belong, and how that was found out."""
        from engine.usecases import estimate

        found = estimate(workspace(root), name, file, as_of)
        if as_json:
            say_json(found)
            return
        between = (
            "" if found["low"] == found["high"] else f" (between {found['low']:,} and {found['high']:,})"
        )
        say(f"{found['count']:,} users{between}, {found['method']}, in {found['ms']:.0f} ms")

    @app.command("select")
    def select_(
        name: Annotated[str | None, typer.Argument(help="Name of an applied group.")] = None,
        out: Annotated[
            str | None, typer.Option("--out", help="FILE.parquet or FILE.csv, a path or any fsspec URL.")
        ] = None,
        columns: Annotated[
            str | None, typer.Option("--with", help="Fields as further columns: user.city,user.age.")
        ] = None,
        part_rows: Annotated[
            int | None, typer.Option("--part-rows", help="Users a file; the files are numbered.")
        ] = None,
        check: Annotated[
            str | None, typer.Option("--check", help="Instead: is what this MANIFEST says still so?")
        ] = None,
        entity: Annotated[
            str, typer.Option("--as", help="In ids of this entity: household, device, …")
        ] = "user",
        via: Annotated[
            list[str] | None, typer.Option("--via", help="Mapping that leads there, once a step.")
        ] = None,
        as_of: AsOf = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Materialise an audience and write it to a file with its manifest."""
        from engine.selecting import check_export
        from engine.usecases import select_group
        from kernel.errors import BadInput

        if (name is None) == (check is None):
            raise BadInput("give either the NAME of a group or --check MANIFEST", field="group")
        if check is not None:
            seen = check_export(check)
            say_json(seen) if as_json else say(f"{seen['count']:,} users in {seen['files']} files: so it is")
            return
        fields = tuple(each.strip() for each in columns.split(",")) if columns else ()
        found = select_group(
            workspace(root), str(name), out, as_of, entity, tuple(via) if via else None,
            fields=fields, part_rows=part_rows,
        )  # fmt: skip
        if as_json:
            say_json(found)
        elif entity != "user":
            lost = found["unlinked"]["count"]
            say(f"{found['count']:,} {entity} ids of {found['linked']:,} users of {found['group']} as of"
                f" {found['as_of']} in {found['file']}; {lost:,} users have none")  # fmt: skip
            for crowd in found["ignored"]:
                told = f"{crowd['ids']:,} {crowd['entity']} ids with more than {crowd['most']} partners"
                say(f"mapping {crowd['mapping']}: {told} do not count")
        else:
            where = found.get("file") or f"{len(found['files'])} files"
            word = ", unchanged" if found["unchanged"] else ""
            say(f"{found['count']:,} users of {found['group']} as of {found['as_of']} in {where}{word}")
