"""`growth experiment`, `growth drift`: who gets which variant, what it brought, and what has moved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from engine.cli.shell import HERE, AsJson, Dir, day_of, progress, say, say_json, show, workspace
from kernel.errors import BadInput

if TYPE_CHECKING:
    from kernel.learning import Interval
    from models.api import Readout

Name = Annotated[str, typer.Argument(help="Name of an applied experiment.")]
#: lines that a table of drift shows
_SHOWN = 20


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Plan, deal out and read experiments.", no_args_is_help=True)
    app.add_typer(group, name="experiment")

    @group.command("power")
    def power_(
        mean: Annotated[float, typer.Option(help="The metric without treatment: a rate, or a mean.")],
        deviation: Annotated[
            float | None, typer.Option(help="Of single users, for a mean; absent: a rate.")
        ] = None,
        effect: Annotated[float | None, typer.Option(help="To be found, in the metric's unit.")] = None,
        users: Annotated[int | None, typer.Option(help="Instead: what so many users can show.")] = None,
        daily: Annotated[float | None, typer.Option(help="New users a day, for the days it takes.")] = None,
        within: Annotated[float, typer.Option(help="Days of a user's outcome window.")] = 14,
        share: Annotated[float, typer.Option(help="A variant's share of it and the holdout.")] = 0.5,
        variants: Annotated[int, typer.Option(help="Treated variants.")] = 1,
        alpha: Annotated[float, typer.Option(help="Accepted P(false finding).")] = 0.05,
        power: Annotated[float, typer.Option(help="Wished P(the effect is found).")] = 0.8,
        explained: Annotated[float, typer.Option(help="Variance that the pre-period explains.")] = 0.0,
        always_valid: Annotated[bool, typer.Option(help="Read at every look, not once.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """How many users and days an effect takes, or the smallest effect that so many users can show."""
        from models.api import Baseline, Design, days_needed, sample_size, smallest_effect

        if (effect is None) == (users is None):
            raise BadInput("give either --effect or --users", field="--effect")
        baseline = Baseline(mean=mean, deviation=deviation, explained=explained)
        design = Design(
            share=share, variants=variants, alpha=alpha, power=power,
            reading="always_valid" if always_valid else "fixed",
        )  # fmt: skip
        if effect is not None:
            found = sample_size(baseline, effect, design)
        else:
            found = smallest_effect(baseline, users or 0, design)
        days = None if daily is None else days_needed(found, daily, within)
        if as_json:
            say_json({**vars(found), "days": days})
            return
        of_it = "" if found.relative is None else f" ({found.relative:+.1%})"
        say(
            f"{found.total:,} users ({found.variant:,} a variant, {found.holdout:,} held out) find an effect"
            f" of {found.effect:.6g}{of_it} with probability {found.power:.2f}"
        )
        if days is not None:
            say(f"{days} days at {daily:,.0f} new users a day, the last one's window included")

    @group.command("bucket")
    def bucket_(
        name: Name,
        user: Annotated[str | None, typer.Option("--user", help="Only this one.")] = None,
        users: Annotated[
            Path | None, typer.Option("--users", help="Parquet or CSV with a column user.")
        ] = None,
        out: Annotated[Path | None, typer.Option("--out", help="FILE.parquet or FILE.csv.")] = None,
        as_of: Annotated[str | None, typer.Option("--as-of", help="Everyone known by then.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """The variant of a user, of a file's users, or of everyone: the same whenever it is asked."""
        from engine.experiments import bucket_all, bucket_one

        space = workspace(root)
        if user is not None:
            for option, value in (("--users", users), ("--out", out), ("--as-of", as_of)):
                if value is not None:
                    raise BadInput("does not go with --user", field=option, value=str(value))
            variant = bucket_one(space, name, user)
            found = {"experiment": name, "user": user, "variant": variant}
            say_json(found) if as_json else say(variant or "not in the experiment")
            return
        counts = bucket_all(space, name, users, out, as_of)
        if as_json:
            say_json(counts)
            return
        for row in counts["variants"]:
            say(f"{row['users']:>12,}  {row['variant'] or row['why']}")
        if out is not None:
            say(f"in {out}")

    @group.command("read")
    def read_(
        name: Annotated[str | None, typer.Argument(help="Name of an applied experiment.")] = None,
        plan: Annotated[
            str | None, typer.Option("--plan", help="Instead: plans of DAY..DAY against the holdout.")
        ] = None,
        activity: Annotated[
            str | None, typer.Option("--activity", help="Instead: an activity's audience so.")
        ] = None,
        rule: Annotated[str | None, typer.Option("--rule", help="Instead: a rule's audience so.")] = None,
        policy: Annotated[
            str | None, typer.Option("--policy", help="Instead: who came to a real-time policy's moments so.")
        ] = None,
        within: Annotated[
            str | None, typer.Option("--within", help="With --plan, --policy: how long outcomes count; 28d.")
        ] = None,
        before: Annotated[
            str | None, typer.Option("--before", help="With --plan, --policy: what was before explains; 84d.")
        ] = None,
        assigned: Annotated[
            Path | None, typer.Option("--assigned", help="user, variant, at; absent: all, as bucketed.")
        ] = None,
        outcomes: Annotated[
            Path | None, typer.Option("--outcomes", help="user, at, numbers; absent: the purchases.")
        ] = None,
        covariates: Annotated[
            Path | None, typer.Option("--covariates", help="user, numbers known before it began.")
        ] = None,
        segment: Annotated[
            list[str] | None, typer.Option("--segment", help="Column of --assigned to look at the split in.")
        ] = None,
        as_of: Annotated[str | None, typer.Option("--as-of", help="Default: the last outcome.")] = None,
        out: Annotated[Path | None, typer.Option("--out", help="The lines as FILE.parquet or .csv.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """What each variant added, a user and in all, with intervals that hold at every look."""
        from engine.experiment_files import write_frame
        from engine.experiments import read_experiment

        subjects = {"--plan": plan, "--activity": activity, "--rule": rule, "--policy": policy}
        asked = [option for option, value in {"NAME": name, **subjects}.items() if value is not None]
        if len(asked) != 1:
            said = "give one of the NAME of an experiment, --plan DAY..DAY, --activity, --rule and --policy"
            raise BadInput(said, field="NAME", value=", ".join(asked) or None)
        (what,) = asked
        given = {"--assigned": assigned, "--outcomes": outcomes, "--covariates": covariates,
                 "--segment": segment}  # fmt: skip
        windows = {"--within": within, "--before": before}
        for option, value in ({} if what == "NAME" else given).items():
            if value:
                raise BadInput(f"does not go with {what}", field=option, value=str(value))
        for option, length in ({} if what in ("--plan", "--policy") else windows).items():
            if length is not None:
                said = f"does not go with {what}, which has windows of its own"
                raise BadInput(said, field=option, value=length)
        if what != "NAME":
            days = {"within": within or "28d", "before": before or "84d"} if any(
                each in asked for each in ("--plan", "--policy")) else {}  # fmt: skip
            _read_subject(root, what, subjects[what] or "", days, as_of, out, as_json)
            return
        found = read_experiment(
            workspace(root), name or "", assigned=assigned, outcomes=outcomes, covariates=covariates,
            segments=tuple(segment or ()), as_of=as_of,
        )  # fmt: skip
        if out is not None:
            write_frame(out, found.as_frame())
        if as_json:
            say_json(found.as_json())
        else:
            _show(found)

    @app.command("drift")
    def drift_(
        model: Annotated[str, typer.Argument(help="Name of the model.")],
        since: Annotated[str, typer.Option("--from", help="First day.")],
        until: Annotated[str, typer.Option("--to", help="Last day.")],
        every: Annotated[int, typer.Option(help="Days from one look to the next.", min=1)] = 1,
        fdr: Annotated[float, typer.Option(help="Accepted part of false alarms among alarms.")] = 0.01,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Which features and scores of a model have moved since it was learned, and how far."""
        from engine.drift import model_drift

        with progress(quiet=as_json) as step:
            step(f"reading features as of {since} … {until}")
            found = model_drift(
                workspace(root), model, day_of(since, "--from"), day_of(until, "--to"), every=every, fdr=fdr
            )
        if as_json:
            say_json(found.as_json())
            return
        looks = found.rows.height
        if not found.moved.height:
            say(f"nothing has moved: {looks:,} looks, no index above {found.least:g} and above chance")
            return
        table = Table("day", "feature", box=None, pad_edge=False)
        for head in ("psi", "by chance", "shift", "missing", "was"):
            table.add_column(head, justify="right")
        for row in found.moved.head(_SHOWN).iter_rows(named=True):
            shift = "" if row["shift"] is None else f"{row['shift']:+.2f}"
            table.add_row(
                str(row["day"]), row["feature"], f"{row['psi']:.3f}", f"{row['threshold']:.3f}", shift,
                f"{row['missing']:.1%}", f"{row['missing_before']:.1%}",
            )  # fmt: skip
        show(table)
        say(f"{found.moved.height:,} of {looks:,} looks have moved")


def _read_subject(
    root: Path, what: str, name: str, days: dict[str, str], as_of: str | None, out: Path | None, as_json: bool
) -> None:
    """Plans, an activity, a rule or a policy against the global holdout."""
    import polars as pl

    from engine.experiment_files import write_frame
    from engine.holdout_readout import parse_days, read_plans
    from engine.subject_readout import read_activity, read_fired, read_policy

    space, said = workspace(root), f"{what.removeprefix('--')} {name}, by whom it was meant for"
    if what == "--plan":
        plans = read_plans(
            space, *parse_days(name), within=days["within"], before=days["before"], as_of=as_of
        )
        told, found = plans.as_json(), plans.readouts
        said = f"{plans.plans} plans of {plans.first} … {plans.last}, by what they intended"
    else:
        if what == "--policy":
            found = read_policy(space, name, within=days["within"], before=days["before"], as_of=as_of)
        else:
            found = ((read_activity if what == "--activity" else read_fired)(space, name, as_of),)
        told = {what.removeprefix("--"): name, "subjects": [each.as_json() for each in found]}
    if out is not None:
        write_frame(out, pl.concat([each.as_frame() for each in found], how="diagonal_relaxed"))
    if as_json:
        say_json(told)
        return
    say(said)
    for each in found:
        if len(found) > 1:
            say(f"\n{', '.join(each.ratios)}")
        _show(each)


def _show(found: Readout) -> None:
    table = Table("variant: metric", box=None, pad_edge=False)
    several = len(found.ratios) > 1
    for head in ("users", "holdout", "added", "at every look", "in all", "finding"):
        table.add_column(head, justify="right", no_wrap=True)
    for line in found.lines:
        name = f"{line.variant}: {line.metric}{' *' if line.decides else ''}"
        table.add_row(
            f"{line.subject}, {name}" if several else name, f"{line.users:,}", _number(line.mean_holdout),
            "" if line.always is None else _number(line.always.mean), _range(line.always), _range(line.total),
            line.finding,
        )  # fmt: skip
    show(table)
    say(
        f"{found.experiment} as of {found.as_of.isoformat()}, against {found.holdout};"
        f" {found.immature:,} users' windows are not over; * decides, at {found.alpha:g} for all variants"
    )
    for warning in found.warnings:
        say(f"! {warning}")
    for subject, ratio in found.ratios.items():
        for cause in ratio.as_json()["look_at"]:
            say(f"  {subject}: {cause}")
        for row in ratio.segments.iter_rows(named=True):
            say(f"  {row['segment']} {row['label']}: {row['variant']} {row['counted']:,} users"
                f" instead of {row['expected']:,.0f}")  # fmt: skip


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _range(value: Interval | None) -> str:
    return "" if value is None else f"{_number(value.low)} … {_number(value.high)}"
