"""`growth plans`: what one asks of the plans that were made."""

from __future__ import annotations

import getpass
from datetime import date as date_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from engine.cli.shell import HERE, AsJson, Dir, day_of, say, say_json, show, step_line, workspace
from kernel.errors import BadInput

if TYPE_CHECKING:
    from engine.plan_questions import PlanQuestions

Because = Annotated[str, typer.Option("--because", help="Why, for the record.")]
Day = Annotated[str, typer.Argument(help="Day of the plan, YYYY-MM-DD.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Ask the plans that were made: why, what if, since when.", no_args_is_help=True)
    app.add_typer(group, name="plans")

    @group.command("list")
    def list_(root: Dir = HERE, as_json: AsJson = False) -> None:
        """The newest plan of each day."""
        found = workspace(root).plans.newest_of_each_day()
        if as_json:
            say_json(
                [
                    {"date": each.date.isoformat(), "version": each.version, "totals": each.totals}
                    for each in found
                ]
            )
            return
        table = Table("date", "version", "assigned", "cost", "gain", "net")
        for each in found:
            money = [f"{each.totals[key]:,.2f}" for key in ("cost", "gain", "value")]
            table.add_row(each.date.isoformat(), str(each.version), f"{each.totals['assigned']:,}", *money)
        show(table)

    @group.command("explain")
    def explain(
        date: Day,
        user: Annotated[str, typer.Argument(help="Her id.")],
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Why a user got this and not that, in values and prices."""
        found = _questions(root).explain(day_of(date, "DATE"), user)
        if as_json:
            say_json(found)
            return
        say(f"{user} gets {', '.join(found['given']) or 'nothing'}")
        for each in found["candidates"]:
            need = f"; it would need {each['would_need']}" if each["would_need"] else ""
            say(f"  {each['why']}{need}")
        for each in found["left_out"]:
            say(f"  {each['task']} (worth {each['value']:.2f}) was left out: {each['reason']}")
        for each in found["refused"]:
            say(f"  {each['task']} was refused: {each['reason']}")
        for each in found["held_out"]:
            say(f"  {each['task']} was meant and kept back: {each['why']}")

    @group.command("what-if")
    def what_if(
        date: Day,
        limit: Annotated[list[str], typer.Option("--limit", help="LIMIT=NUMBER, or LIMIT.at_least=NUMBER.")],
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """The plan's totals under changed limits; nothing is changed."""
        questions, day = _questions(root), day_of(date, "DATE")
        found = questions.what_if(day, _changes(limit))
        if as_json:
            say_json(found)
            return
        table = Table("", "before", "after", "difference")
        for key, after in found["totals"].items():
            before, more = found["before"][key], found["difference"][key]
            table.add_row(key, f"{before:,.2f}", f"{after:,.2f}", f"{more:+,.2f}")
        show(table)
        say(f"within {found['gap']:.4%} of the best, {found['seconds']:.2f} s")

    @group.command("curve")
    def curve(
        date: Day,
        limit: Annotated[str, typer.Option("--limit", help="LIMIT=FROM:TO:POINTS.")],
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Gain against the bound of a limit, each point proven."""
        found = _questions(root).curve(day_of(date, "DATE"), limit)
        if as_json:
            say_json(found)
            return
        table = Table("bound", "value", "price of one more", "used")
        for each in found:
            told = [each["objective"], each["price"], each["used"]]
            table.add_row(f"{each['at']:,.2f}", *("–" if one is None else f"{one:,.3f}" for one in told))
        show(table)

    @group.command("approve")
    def approve(date: Day, because: Because = "", root: Dir = HERE) -> None:
        """Its touches go out."""
        _decide(root, date, "approved", because)

    @group.command("hold")
    def hold(date: Day, because: Because = "", root: Dir = HERE) -> None:
        """Its touches stay where they are; what is on its way stops."""
        _decide(root, date, "held", because)

    @group.command("runs")
    def runs(
        date: Annotated[str | None, typer.Argument(help="Only of this day.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """How far runs of the daily cycle are, and what each step took."""
        found = workspace(root).plan_runs.newest(None if date is None else day_of(date, "DATE"))
        if as_json:
            say_json(found)
            return
        for each in found:
            why = f": {each['why']}" if each["why"] else ""
            say(f"{each['day']}  {each['state']:<8} {each['seconds']:>8.1f} s  by {each['reason']}{why}")
            for step in each["steps"]:
                say(f"    {step_line(step)}")

    @group.command("status")
    def status(date: Day, root: Dir = HERE, as_json: AsJson = False) -> None:
        """How a day's plan stands: being made, with its steps so far; waiting, approved or held."""
        from engine.planning import standing

        found = standing(workspace(root), day_of(date, "DATE"))
        if as_json:
            say_json(found)
            return
        version = "" if found["version"] is None else f", version {found['version']}"
        say(f"{found['date']}{version}: {found['state']}{', being made now' if found['making'] else ''}")
        for each in found["warnings"]:
            say(f"Warning: {each}")
        for each in found["decisions"]:
            said = f"version {each['version']} {each['state']} by {each['who']} at {each['at']}"
            say(f"{said}{': ' if each['why'] else ''}{each['why']}")
        for run in found["runs"][:1]:
            say(f"run {run['number']} by {run['reason']}: {run['state']} {run['why']}".rstrip())
            for step in run["steps"]:
                say(f"    {step_line(step)}")

    @group.command("goals")
    def goals(date: Day, root: Dir = HERE, as_json: AsJson = False) -> None:
        """What each goal costs the others."""
        found = _questions(root).goals(day_of(date, "DATE"))
        if as_json:
            say_json(found)
            return
        table = Table("goal", "brings", "the others bring", "without it they would", "it costs them")
        for each in found:
            numbers = [each[key] for key in ("value", "others_with", "others_without", "costs_others")]
            table.add_row(each["goal"], *("–" if one is None else f"{one:,.2f}" for one in numbers))
        show(table)

    @group.command("diff")
    def diff(
        old: Annotated[str, typer.Argument(help="Day of the earlier plan, or DAY@VERSION.")],
        new: Annotated[str, typer.Argument(help="Day of the later one, or DAY@VERSION.")],
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """What changed from one plan to another."""
        (was, before), (now, after) = _day_and_version(old, "OLD"), _day_and_version(new, "NEW")
        found = _questions(root).difference(was, now, before, after)
        if as_json:
            say_json(found)
            return
        table = Table("", found["from"], found["to"], "difference")
        for key, each in found["totals"].items():
            more = f"{each['difference']:+,.2f}"
            table.add_row(key, f"{each['before']:,.2f}", f"{each['after']:,.2f}", more)
        show(table)
        users = found["users"]
        gone, new_ones = f"{users['only_before']:,} no more", f"{users['only_after']:,} new"
        say(f"users: {users['both']:,} in both, {gone}, {new_ones}")
        for each in found["prices"]:
            if each["before"] != each["after"]:
                price = "–" if each["before"] is None else f"{each['before']:.4g}"
                say(f"price of {each['limit']}: {price} → {each['after']:.4g}")
        for each in found["models"]:
            say(f"model {each['name']}: version {each['before'] or '–'} → {each['after']}")


def _decide(root: Path, date: str, state: str, because: str) -> None:
    from engine.planning import decide

    found = decide(workspace(root), day_of(date, "DATE"), state, who=getpass.getuser(), why=because)
    say(f"the plan of {found['date']}, version {found['version']}, is {found['state']}")


def _day_and_version(text: str, field: str) -> tuple[date_, int | None]:
    day, at, version = text.partition("@")
    if at and not (version.isascii() and version.isdigit()):
        raise BadInput("is not DAY, or DAY@VERSION", field=field, value=text)
    return day_of(day, field), int(version) if at else None


def _questions(root: Path) -> PlanQuestions:
    from engine.plan_questions import PlanQuestions

    return PlanQuestions(workspace(root))


def _changes(asked: list[str]) -> dict[str, dict[str, float | None]]:
    changes: dict[str, dict[str, float | None]] = {}
    for text in asked:
        name, is_, number = text.partition("=")
        limit, _, side = name.rpartition(".")
        if side not in ("at_most", "at_least", "penalty") or not limit:
            limit, side = name, "at_most"
        try:
            value = float(number)
        except ValueError:
            is_ = ""
            value = 0.0
        if not is_ or value != value:
            raise BadInput("is not LIMIT=NUMBER, or LIMIT.at_least=NUMBER", field="--limit", value=text)
        changes.setdefault(limit, {})[side] = value
    return changes
