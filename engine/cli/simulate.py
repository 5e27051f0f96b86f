"""`growth simulate`: days to come, in a world whose answers are planted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from engine.cli.shell import HERE, AsJson, Dir, progress, say, say_json, show

_OUT = Path("simulated")


def add_to(app: typer.Typer) -> None:
    @app.command("simulate")
    def simulate_(
        days: Annotated[int, typer.Option("--days", min=1, max=400, help="Days that are played.")] = 60,
        users: Annotated[int, typer.Option("--users", help="Users of the simulated world.")] = 5000,
        seeds: Annotated[int, typer.Option("--seeds", min=1, max=100, help="Worlds, one a seed.")] = 5,
        out: Annotated[Path, typer.Option("--out", help="Folder of days.json and report.html.")] = _OUT,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """The engine day after day beside simpler policies: profit at an equal budget, with a live page.

        Habits are drawn from the workspace's own users, or without a workspace from the demo's households.
        """
        from engine.simulate.nature import Nature
        from engine.simulate.run import Setting, usual_means
        from engine.simulate.session import homes_of, simulate

        homes, whose = homes_of(root)
        setting = Setting(users=users, days=days, homes=homes, means=usual_means(users), nature=Nature())
        with progress(quiet=as_json) as told:
            told(f"page: {out / 'report.html'}")
            found = simulate(setting, range(1, seeds + 1), out, told, whose=whose)
        if as_json:
            say_json(found)
        else:
            _tell(found, out)


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
