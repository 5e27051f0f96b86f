"""`growth plan`, `growth demo`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.shell import HERE, AsJson, Dir, day_of, progress, say, say_json, steps_shown, workspace
from kernel.errors import BadInput
from kernel.money import show

if TYPE_CHECKING:
    from engine.cycle import Made

DEMO = Path("demo")


def add_to(app: typer.Typer) -> None:
    @app.command("plan")
    def plan_(
        date: Annotated[str, typer.Option("--date", help="YYYY-MM-DD")],
        out: Annotated[Path | None, typer.Option("--out", help="Folder; default: plans/DATE")] = None,
        replan: Annotated[
            bool, typer.Option("--replan", help="Anew, around what has gone out of the plan that stands.")
        ] = False,
        only: Annotated[
            str | None,
            typer.Option("--only", help="With --replan: LABEL=NAME, such as task=NAME; all else stays."),
        ] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Make the day's plan: tasks, assignments and touches as Parquet, plan.json, report.html.

        One that was interrupted goes on where it was; the same again changes nothing.
        """
        from engine.planning import plan_recorded
        from engine.replan import Again

        day = day_of(date, "--date")
        if only is not None and not replan:
            raise BadInput("goes with --replan only", field="--only", value=only)
        again = Again.of(only) if replan else None
        space = workspace(root)
        with steps_shown(quiet=as_json) as watch:
            made = plan_recorded(space, day, out, lambda _: None, "command", watch=watch, again=again)
        _show(made, as_json)

    @app.command("demo")
    def demo_(
        root: Annotated[Path, typer.Option("--dir", help="Folder of the demo's workspace.")] = DEMO,
        as_json: AsJson = False,
    ) -> None:
        """The whole loop on the real data set The Complete Journey; again changes nothing."""
        from engine.demo.run import run_demo

        with progress(quiet=as_json) as step:
            made = run_demo(root, step)
        _show(made, as_json)


def _show(made: Made, as_json: bool) -> None:
    if as_json:
        say_json({**made.summary, "folder": str(made.folder), "new": made.new})
        return
    for line in plan_lines(made.summary):
        say(line)
    delivered = made.folder / "delivery.json"
    if delivered.exists():
        say(delivery_line(json.loads(delivered.read_text(encoding="utf-8"))))
    say(f"{'written' if made.new else 'unchanged'}: {made.folder / 'report.html'}")


def delivery_line(found: dict[str, Any]) -> str:
    """What became of the touches, in one line."""
    states, told = Counter[str](), Counter[str]()
    for each in found["channels"]:
        states.update(each["states"])
        told.update(each["receipts"])
    parts = [f"{count:,} {name.replace('_', ' ')}" for name, count in [*states.items(), *told.items()]]
    return f"Delivered: {', '.join(parts) or 'nothing'}"


def plan_lines(plan: dict[str, Any]) -> list[str]:
    """The plan in a few lines for a terminal."""
    total, allocation = plan["totals"], plan["allocation"]

    def money(amount: float) -> str:
        return show(amount, plan["currency"])

    lines = [
        f"Plan for {plan['date']}, version {plan['version']}: {total['assigned']:,} of {total['users']:,}"
        f" users get something; {total['touches']:,} touches, {total['refused']:,} refused by caps,"
        " consent or hours",
        f"Expected: {total['responses']:,.0f} responses, gain {money(total['gain'])},"
        f" cost {money(total['cost'])}, net {money(total['value'])}",
        f"Allocation {allocation['status']}, gap {allocation['gap']:.2e},"
        f" {total['candidates']:,} candidates under {len(allocation['limits'])} limits",
        *(f"Warning: {each}" for each in plan.get("warnings", ())),
    ]
    if again := plan.get("replanned"):
        only = f"; only {again['only']} was decided anew" if "only" in again else ""
        lines.append(f"Replanned version {again['of']}: {again['kept']:,} kept, {again['out']:,} out{only}")
        lines += [f"Warning: {each} is spent beyond its bound" for each in again["overspent"]]
    for goal in plan["goals"]:
        lines.append(
            f"  {goal['goal']:<14} {goal['assigned']:>6,} users  cost {money(goal['cost']):>9}"
            f"  net gain {money(goal['value']):>10}"
        )
    for each in plan.get("valued", ()):
        adds = f", {money(each['adds']['mean'])} a touch" if "adds" in each else ""
        # plans of an earlier build do not say through what
        through = f" ({', '.join(each['touchpoints'])})" if "touchpoints" in each else ""
        lines.append(f"  {each['goal']} by {each['benefit']}{through}: valued by {each['by']}{adds}")
    for each in plan.get("held_out", ()):
        lines.append(f"  {each['why']}: {each['users']:,} users get nothing of what was meant for them")
    for limit in allocation["limits"]:
        bound = limit["at_most"] if limit["at_most"] is not None else limit["at_least"]
        word = "at most" if limit["at_most"] is not None else "at least"
        lines.append(
            f"  {limit['name']:<24} used {limit['used']:>9,.2f} of {word} {bound:>8,.0f},"
            f" price {limit['price']:.3f}"
        )
    return lines
