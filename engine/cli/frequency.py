"""`growth frequency …`, `growth attribution`: how often is right, and who is given credit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from engine.cli.shell import HERE, AsJson, Dir, day_of, progress, say, say_json, show, workspace


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="How often is right: curves, targets, price, spending.", no_args_is_help=True)
    app.add_typer(group, name="frequency")

    @group.callback()
    def frequency_() -> None:
        """How often is right: curves, targets, price, spending."""

    @group.command("fit")
    def fit_(
        as_of: Annotated[
            str, typer.Option("--as-of", help="YYYY-MM-DD: nothing after its beginning is known.")
        ],
        name: Annotated[str | None, typer.Argument(help="Of a frequency; default: all.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Learn how outcomes and opt-outs answer to exposures, and decide who would be touched on that
        day."""
        from engine.frequency import fit_all

        day = day_of(as_of, "--as-of")
        with progress(quiet=as_json) as step:
            step("learning frequencies")
            found = fit_all(workspace(root), day, name)
        if as_json:
            say_json(found)
            return
        for each in found:
            for line in _lines(each):
                say(line)
        if not found:
            say("no frequency is defined")

    @group.command("show")
    def show_(
        name: Annotated[str | None, typer.Argument(help="Of a frequency; default: all.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Curves with intervals, targets, price, spending, touches a converter, opt-outs: of the newest
        fit."""
        from engine.frequency import show as standing

        found = standing(workspace(root), name)
        if as_json:
            say_json(found)
            return
        for each in found:
            if each["as_of"] is None:
                say(f"{each['name']}: not learned yet; {each['hint']}")
                continue
            for line in _lines(each):
                say(line)
            show(_table(each["curves"]))
        if not found:
            say("no frequency is defined")

    @app.command("attribution")
    def attribution_(
        conversion: Annotated[
            str | None, typer.Option("--conversion", help="Event that is an outcome, such as order.")
        ] = None,
        exposure: Annotated[
            str | None, typer.Option("--exposure", help="Event that is an exposure, such as ad_seen.")
        ] = None,
        channel: Annotated[
            str, typer.Option("--channel", help="Its field that names the channel.")
        ] = "channel",
        value: Annotated[
            str | None,
            typer.Option("--value", help="The outcome's field that is money; default: its amount."),
        ] = None,
        within: Annotated[str, typer.Option("--within", help="Exposures count so long before it.")] = "30d",
        as_of: Annotated[str | None, typer.Option("--as-of", help="YYYY-MM-DD; default: now.")] = None,
        paths: Annotated[
            Path | None, typer.Option("--paths", help="CSV or Parquet of paths instead of events.")
        ] = None,
        separator: Annotated[str, typer.Option("--separator", help="Between the channels of a path.")] = ">",
        rules: Annotated[
            str | None, typer.Option("--rules", help="last,first,linear,position,decay,markov; default: all.")
        ] = None,
        order: Annotated[int, typer.Option("--order", help="Of the Markov chain.", min=1, max=5)] = 1,
        half_life: Annotated[
            float, typer.Option("--half-life", help="Of decay: days, or steps where paths have no times.")
        ] = 7.0,
        out: Annotated[Path | None, typer.Option("--out", help="CSV or Parquet file for the table.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Divide outcomes and their value among the channels that users met before them."""
        from engine.attribution import attribution

        chosen = None if rules is None else [each.strip() for each in rules.split(",")]
        found = attribution(
            root, conversion=conversion, exposure=exposure, channel=channel, value=value, within=within,
            as_of=as_of, paths=paths, separator=separator, rules=chosen, order=order, half_life=half_life,
            out=out,
        )  # fmt: skip
        if as_json:
            say_json(found)
            return
        say(
            f"{found['conversions']:,} conversions worth {found['value']:,.2f} on {found['paths']:,} paths;"
            f" {found['nulls']:,} paths ended in none"
        )
        show(_credits(found["credits"]))


def _lines(each: dict[str, Any]) -> list[str]:
    mean, wanted = each["touches_per_converter"], each["touches_wanted"]
    lines = [
        f"{each['name']} as of {each['as_of']}: {each['touched']:,} of {each['audience']:,} users touched,"
        f" budget {each['budget']:,}; {each['drawn']:,} users are drawn",
        f"  price of a touch {each['price']:.4f}, of the floor {each['floor_price']:.4f};"
        f" what a touch adds to the log hazard halves in {each['half_life_days']:g} days",
        f"  seen {each['exposures']:,} exposures, {each['outcomes']:,} outcomes,"
        f" {each['opt_outs']:,} opt-outs; {_number(mean)} touches a converter, target {_number(wanted)}",
    ]
    if each.get("spent_today") is not None:
        now = "none is left" if each["price_now"] is None else f"price now {each['price_now']:.4f}"
        lines.append(f"  spent today {each['spent_today']:,}; {now}")
    for segment in each["segments"]:
        lines.append(
            f"  {segment['segment']:<24} {segment['users']:>9,} users  {segment['touched']:>8,} touched"
            f"  {segment['exposures']:>6.2f} exposures so far  target {segment['target']:>5.2f}"
        )
    return lines


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _table(curves: list[dict[str, Any]]) -> Table:
    table = Table("segment", "curve", "k", "hazard a day, %", "low", "high")
    for row in curves:
        shown = (f"{100 * row[each]:.3f}" for each in ("hazard", "low", "high"))
        table.add_row(row["segment"], row["curve"], str(row["k"]), *shown)
    return table


def _credits(rows: list[dict[str, Any]]) -> Table:
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    table = Table("channel", *(f"{rule}, conversions (value)" for rule in rules))
    by = {(row["rule"], row["channel"]): row for row in rows}
    for name in dict.fromkeys(row["channel"] for row in rows):
        cells = (by[rule, name] for rule in rules)
        table.add_row(name, *(f"{each['conversions']:,.1f} ({each['value']:,.2f})" for each in cells))
    return table
