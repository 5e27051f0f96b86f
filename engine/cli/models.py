"""`growth train`, `models`, `evaluate`, `promote`, `rollback`: models and policies in MLflow."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.shell import HERE, AsJson, Dir, day_of, progress, say, say_json, workspace
from kernel.errors import BadInput
from kernel.learning import ModelVersion

Model = Annotated[str, typer.Argument(help="Name of the model; policies are versions of `policy`.")]


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

    @app.command("models")
    def models_(
        name: Annotated[str | None, typer.Argument(help="Only this model.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Every version: which is in use and why, and which plans used it."""
        from engine.model_versions import list_versions

        found = list_versions(workspace(root), name)
        if as_json:
            say_json([vars(each) for each in found])
            return
        for each in found:
            say(_line(each))
            verdict = each.reason or "no verdict"
            say(f"    as of {each.as_of:%Y-%m-%d}, data {each.data_fingerprint}: {verdict}")
            if each.plans:
                used = (f"{day} (version {version})" for day, version in each.plans.items())
                say(f"    used by the plans of {', '.join(used)}")

    @app.command("evaluate")
    def evaluate_(
        as_of: Annotated[str | None, typer.Option("--as-of", help="Day around which to back-test.")] = None,
        policy: Annotated[
            str | None, typer.Option("--policy", help="Judge this policy off the decision log instead.")
        ] = None,
        told: Annotated[
            list[str] | None,
            typer.Option("--with", help="NAME=VALUE, or PART.NAME=VALUE: a parameter of the policy."),
        ] = None,
        versions: Annotated[
            tuple[str, int, int] | None,
            typer.Option(
                "--compare",
                metavar="MODEL V1 V2",
                help="Two versions on rows that neither has seen, instead.",
            ),
        ] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Back-test the response model by plan date; compare versions; or judge a policy on what was
        decided."""
        if versions is not None:
            if policy is not None:
                raise BadInput("does not go with --policy", field="--compare", value=versions[0])
            _compare(root, versions, as_of, as_json)
            return
        if policy is not None:
            _judge(root, policy, _parameters(told or []), as_of, as_json)
            return
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
        force: Annotated[bool, typer.Option("--force", help="Even a policy that the gate refused.")] = False,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Make a version the champion: the one that plans, or decisions, use."""
        from engine.live import tell_of_promotion

        space = workspace(root)
        found = space.registry.promote(model, version, force=force)
        tell_of_promotion(space)
        _show(found, as_json)

    @app.command("rollback")
    def rollback_(model: Model, root: Dir = HERE, as_json: AsJson = False) -> None:
        """Make the champion's predecessor the champion again."""
        from engine.live import tell_of_promotion

        space = workspace(root)
        found = space.registry.rollback(model)
        tell_of_promotion(space)
        _show(found, as_json)


def _compare(root: Path, asked: tuple[str, int, int], as_of: str | None, as_json: bool) -> None:
    from engine.model_versions import as_json as told
    from engine.model_versions import compare_versions
    from engine.usecases import latest_day

    space = workspace(root)
    day = day_of(as_of, "--as-of") if as_of else latest_day(space)
    with progress(quiet=as_json) as step:
        step("reading events")
        found = compare_versions(space, *asked, day)
    if as_json:
        say_json(told(found))
        return
    first, second = found.versions
    rows = f"{found.rows:,} rows of {found.users:,} users since {found.since:%Y-%m-%d}"
    say(f"{found.name}: {rows}, each {found.form}")
    say(f"{'':<20} {f'v{first}':>28} {f'v{second}':>28}")
    for name, (one, two) in found.figures.items():
        say(f"{name:<20} {one!s:>28} {two!s:>28}")
    say(found.reason)


def _parameters(told: list[str]) -> dict[str, str | int | float]:
    """Numbers where they are, else text."""
    found: dict[str, str | int | float] = {}
    for each in told:
        name, equals, value = each.partition("=")
        if not (name and equals):
            raise BadInput("is not NAME=VALUE", field="--with", value=each)
        found[name] = value
        for number in (float, int):
            with suppress(ValueError):
                found[name] = number(value)
    return found


def _judge(
    root: Path, policy: str, parameters: dict[str, str | int | float], as_of: str | None, as_json: bool
) -> None:
    from engine.policies import evaluate_policy

    if as_of is not None:
        raise BadInput("does not go with --policy: the log says when", field="--as-of", value=as_of)
    with progress(quiet=as_json) as step:
        found = evaluate_policy(workspace(root), policy, step, parameters=parameters)
    if as_json:
        say_json(found)
        return
    for name, ours in found["challenger"].items():
        theirs = found["champion"][name]
        say(
            f"{name:<7} {ours['mean']:9.4f}  [{ours['low']:.4f}, {ours['high']:.4f}]"
            f"   live {theirs['mean']:9.4f}  [{theirs['low']:.4f}, {theirs['high']:.4f}]"
        )
    worth = f"{found['decisions_judged']:,} decisions say as much as {found['effective_decisions']:,.0f}"
    say(f"{worth} of its own")
    if (agreement := found["agreement"]) is not None:
        say(f"it agrees with its rule in {agreement['share']:.1%} of {agreement['decisions']:,} decisions")
    gate = "may be promoted" if found["promote"] else "refused"
    say(f"policy v{found['version']}: {gate}; {found['reason']}")


def _show(version: ModelVersion, as_json: bool) -> None:
    if as_json:
        say_json(vars(version))
    else:
        say(_line(version))


def _line(version: ModelVersion) -> str:
    shown = [name for name in ("auc", "lift_20", "log_loss", "mae", "gini", "dr") if name in version.metrics]
    figures = ", ".join(f"{name} {version.metrics[name]:.3f}" for name in shown)
    return f"{version.name} v{version.version} ({version.alias or 'no alias'}): {figures}"
