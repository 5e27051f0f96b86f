"""`growth train`, `evaluate`, `promote`, `rollback`: models in MLflow."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.shell import HERE, AsJson, Dir, day_of, progress, say, say_json, workspace
from kernel.learning import ModelVersion

Model = Annotated[str, typer.Argument(help="Name of the model.")]


def add_to(app: typer.Typer) -> None:
    @app.command("train")
    def train_(
        as_of: Annotated[
            str | None, typer.Option("--as-of", help="Day; nothing from it on is known.")
        ] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Learn every model from what was known when that day began; the same again changes nothing."""
        from engine.cycle import train
        from engine.usecases import latest_day

        space = workspace(root)
        day = day_of(as_of, "--as-of") if as_of else latest_day(space)
        with progress(quiet=as_json) as step:
            found = train(space, day, step)
        if as_json:
            say_json([{**vars(version), "new": new} for version, new in found])
            return
        for version, new in found:
            say(f"{_line(version)}{'' if new else ', as before'}")

    @app.command("evaluate")
    def evaluate_(
        as_of: Annotated[str | None, typer.Option("--as-of", help="Day around which to back-test.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Back-test the response model: lift over random and over RFM, by plan date, with intervals."""
        from engine.usecases import back_test_on, latest_day

        space = workspace(root)
        day = day_of(as_of, "--as-of") if as_of else latest_day(space)
        with progress(quiet=as_json) as step:
            step("reading events")
            found = back_test_on(space, day, step)
        if as_json:
            say_json(found)
            return
        share = found["share"]
        for name, words in (("model", "the model"), ("rfm", "RFM"), ("model_over_rfm", "model over RFM")):
            value = found["lift"][name]
            say(
                f"lift of {words:<15} {value['mean']:.2f}  [{value['low']:.2f}, {value['high']:.2f}]"
                f"  (best {share:.0%} of each offer's recipients)"
            )
        for row in found["dates"]:
            say(
                f"  {row['plan']}: {row['offers']} offers, {row['recipients']:,} recipients,"
                f" model {row['lift_model']:.2f}, RFM {row['lift_rfm']:.2f}"
            )

    @app.command("promote")
    def promote_(
        model: Model,
        version: Annotated[int, typer.Argument(help="Version to make the champion.")],
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Make a version the champion: the one that plans use."""
        _show(workspace(root).registry.promote(model, version), as_json)

    @app.command("rollback")
    def rollback_(model: Model, root: Dir = HERE, as_json: AsJson = False) -> None:
        """Make the champion's predecessor the champion again."""
        _show(workspace(root).registry.rollback(model), as_json)


def _show(version: ModelVersion, as_json: bool) -> None:
    if as_json:
        say_json(vars(version))
    else:
        say(_line(version))


def _line(version: ModelVersion) -> str:
    shown = [name for name in ("auc", "lift_20", "mae", "gini") if name in version.metrics]
    figures = ", ".join(f"{name} {version.metrics[name]:.3f}" for name in shown)
    return f"{version.name} v{version.version} ({version.alias or 'no alias'}): {figures}"
