"""`growth simulate`: days to come, in a world whose answers are planted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from engine.cli.shell import HERE, AsJson, Dir, day_of, progress, say, say_json, show
from kernel.errors import BadInput

_OUT = Path("simulated")


def add_to(app: typer.Typer) -> None:
    @app.command("simulate")
    def simulate_(
        days: Annotated[
            int | None, typer.Option("--days", min=1, max=400, help="Played days: 60, with --rule 3.")
        ] = None,
        users: Annotated[int, typer.Option("--users", help="Users of the simulated world.")] = 10_000,
        seeds: Annotated[int, typer.Option("--seeds", min=1, max=100, help="Worlds, one a seed.")] = 5,
        out: Annotated[Path, typer.Option("--out", help="Folder of days.json and report.html.")] = _OUT,
        rule: Annotated[
            Path | None, typer.Option("--rule", help="A rule's YAML: it alone, on a copy of the workspace.")
        ] = None,
        date: Annotated[
            str | None, typer.Option("--date", help="With --rule, the first day; absent: after the newest.")
        ] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """The engine day after day beside simpler policies: profit at an equal budget, with a live page.

        Habits are drawn from the workspace's own users, or without a workspace from the demo's households.
        With --rule: what a rule would come to, its users drawn from the workspace's own past.
        """
        if rule is not None:
            _rule(root, rule, days or 3, date, as_json)
            return
        if date is not None:
            raise BadInput("goes with --rule", field="--date", value=date)
        from engine.simulate.nature import Nature
        from engine.simulate.run import Setting, usual_means
        from engine.simulate.session import homes_of, simulate

        homes, whose = homes_of(root)
        setting = Setting(
            users=users, days=days or 60, homes=homes, means=usual_means(users), nature=Nature()
        )
        with progress(quiet=as_json) as told:
            told(f"page: {out / 'report.html'}")
            found = simulate(setting, range(1, seeds + 1), out, told, whose=whose)
        if as_json:
            say_json(found)
        else:
            _tell(found, out)


def _rule(root: Path, file: Path, days: int, date: str | None, as_json: bool) -> None:
    from engine.cli.rules import tell_result
    from engine.simulate.rule_days import rule_days

    first = None if date is None else day_of(date, "--date")
    with progress(quiet=as_json) as told:
        found = rule_days(root, file, days, told, first=first)
    if as_json:
        say_json(found)
        return
    tried, sign = found["tried"], found["currency"]
    given = f"{tried['assigned']:,} would get it, expected cost {tried['cost']:,.2f} {sign}"
    say(f"{found['rule']}, simulated from {found['first']} on a copy; the workspace is as it was")
    audience = f"{tried['users']:,} users, {tried['held_out']:,} of them held out"
    say(f"one firing: {audience}; {given}, gain {tried['gain']:,.2f}")
    table = Table("day", "audience", "given", "refused", "cost", "registered", "orders", "added")
    for each in found["played"]:
        fired = [f"{each[key]:,}" if key in each else "–" for key in ("users", "assigned", "refused")]
        cost = f"{each['cost']:,.2f}" if "cost" in each else "–"
        lived = [f"{each[key]:,}" for key in ("registered", "bought", "more")]
        table.add_row(each["day"], *fired, cost, *lived)
    show(table)
    tell_result(found["read"])
    say("Simulated: touches work as benefit and goal assume (response, lift). What they do, real days say.")


def _tell(found: dict[str, Any], out: Path) -> None:
    table = Table(
        "policy", "added profit", "95 % interval", "spent", "touches", "opt-outs", "engine ahead by"
    )
    ahead = {each["policy"]: each["by"] for each in found["ahead"]}
    for each in found["policies"]:
        by = ahead.get(each["policy"])
        table.add_row(
            each["policy"],
            f"{each['added']['mean']:,.0f}",
            _span(each["added"]),
            f"{each['spent']:,.0f}",
            f"{each['touches']:,.0f}",
            f"{each['opt_outs']:,.0f}",
            "–" if by is None else f"{by['mean']:,.0f} {_span(by)}".strip(),
        )
    show(table)
    say(f"{found['days']} days, {len(found['seeds'])} worlds; a day's budget {found['budget']:,.2f}")
    say(f"written: {out / 'report.html'}")


def _span(interval: dict[str, Any]) -> str:
    return "" if interval["low"] is None else f"[{interval['low']:,.0f}, {interval['high']:,.0f}]"
