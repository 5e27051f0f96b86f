"""`growth features`: what models learn from, as declared, derived, checked and told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.shell import HERE, AsJson, Dir, progress, say, say_json, workspace
from kernel.errors import BadInput

Set = Annotated[str, typer.Argument(help="Name of the feature set.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="What models learn from: feature sets.", no_args_is_help=True)
    app.add_typer(group, name="features")

    @group.callback()
    def features_() -> None:
        """What models learn from: feature sets."""

    @group.command("list")
    def list_(root: Dir = HERE, as_json: AsJson = False) -> None:
        """Every feature set with its version, its columns, and the models that learn from it."""
        from engine.features import list_sets

        found = list_sets(workspace(root))
        if as_json:
            say_json(found)
            return
        for each in found:
            models = f", learned from by {', '.join(each['models'])}" if each["models"] else ""
            say(f"{each['name']} v{each['version']} ({each['fingerprint']}), of {each['entity']}{models}")
            for column in each["columns"]:
                say(f"  {column}")
        if not found:
            say("none but the usual ones")

    @group.command("derive")
    def derive_(
        name: Set,
        out: Annotated[Path, typer.Option("--out", help="Folder for the Parquet files.")],
        as_of: Annotated[
            list[str] | None, typer.Option("--as-of", help="Day or time; may be given again.")
        ] = None,
        shares: Annotated[
            int | None, typer.Option("--shares", min=1, help="Parts of the users, one after the other.")
        ] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Features of everybody as of instants, in bounded memory: at, user, the columns."""
        from engine.features import derive_files

        with progress(quiet=as_json) as step:
            found = derive_files(workspace(root), name, as_of or [], out, shares, step)
        if as_json:
            say_json(found)
            return
        say(f"{found['rows']:,} rows of {len(found['columns'])} features in {found['folder']}")

    @group.command("check")
    def check_(
        name: Set,
        as_of: Annotated[str | None, typer.Option("--as-of", help="Day or time to look from.")] = None,
        label: Annotated[
            str | None, typer.Option("--label", help="Event to foretell, such as purchase.")
        ] = None,
        within: Annotated[str, typer.Option("--within", help="How soon after it that counts.")] = "56d",
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Does a feature know the future? Exit 2, each suspect named, when one may."""
        from engine.features import check_set

        with progress(quiet=as_json) as step:
            found = check_set(workspace(root), name, as_of, label, within, step)
        if as_json:
            say_json(found)
        else:
            for leak in found["leaks"]:
                say(f"{leak['feature']}: {leak['kind']}: {leak['said']}")
            if not found["leaks"]:
                say("nothing knows the future")
        if found["leaks"]:
            raise typer.Exit(2)

    @group.command("of")
    def of_(
        user: Annotated[str, typer.Argument(help="Id of the user.")],
        name: Annotated[str | None, typer.Option("--set", help="Name of the feature set.")] = None,
        model: Annotated[
            str | None, typer.Option("--model", help="Instead: what this model learned from.")
        ] = None,
        at: Annotated[str | None, typer.Option("--at", help="Time; absent: now.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """One user's features, and a model's score, from the sources and from the events sent since."""
        from engine.features_online import model_now, set_now
        from engine.usecases import instant_of

        if (name is None) == (model is None):
            raise BadInput("give either --set or --model", field="--set")
        space = workspace(root)
        instant = space.clock.now() if at is None else instant_of(space, at)
        found = set_now(space, name, user, instant) if name else model_now(space, model or "", user, instant)
        if as_json:
            say_json(found.as_json())
            return
        for column, value in found.features.items():
            say(f"{column:<48} {'-' if value is None else f'{value:.6g}'}")
        said = f", score {found.score:.6g}" if found.score is not None else ""
        say(
            f"{found.name} v{found.version}{said}: from {found.lines:,} lines until {found.as_of.isoformat()}"
        )
