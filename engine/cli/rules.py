"""`growth rule`: what operational rules do, what they would do, what they brought, and their switches."""

from __future__ import annotations

import getpass
from typing import Annotated, Any

import typer
from rich.table import Table

from engine.cli.shell import HERE, AsJson, Dir, day_of, progress, say, say_json, show, workspace

Name = Annotated[str, typer.Argument(help="Name of an applied rule.")]
AsOf = Annotated[str | None, typer.Option("--as-of", help="Nothing after it is known; absent: the newest.")]
Because = Annotated[str, typer.Option("--because", help="Why, for the record.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Group × channel × benefit on a schedule.", no_args_is_help=True)
    app.add_typer(group, name="rule")

    @group.command("list")
    def list_(root: Dir = HERE, as_json: AsJson = False) -> None:
        """Every rule: on or off, shares of its variants, its last firing."""
        from engine.rules import standing

        found = standing(workspace(root))
        if as_json:
            say_json(found)
            return
        table = Table("rule", "state", "group", "last firing", "assigned", "expected cost", "expected gain")
        for each in found:
            last = each["last"] or {}
            money = [f"{last[key]:,.2f}" if key in last else "–" for key in ("cost", "gain")]
            assigned = f"{last['assigned']:,}" if "assigned" in last else "–"
            table.add_row(each["rule"], each["state"], each["group"], last.get("day", "–"), assigned, *money)
        show(table)

    @group.command("runs")
    def runs(name: Name, root: Dir = HERE, as_json: AsJson = False) -> None:
        """One record a firing, the newest first."""
        from engine.rules import runs_of

        found = runs_of(workspace(root), name)
        if as_json:
            say_json(found)
            return
        table = Table(
            "day", "state", "users", "candidates", "assigned", "refused", "expected cost", "expected gain"
        )
        for each in found:
            keys = ("users", "candidates", "assigned", "refused")
            if keys[0] not in each:  # it failed, or is not worked out yet
                table.add_row(each["at"][:16], f"{each['state']} {each['why']}", *["–"] * 6)
                continue
            counts = [f"{each[key]:,}" for key in keys]
            when, state = each.get("at", each["day"])[:16], each.get("state", "with the plan")
            table.add_row(when, state, *counts, f"{each['cost']:,.2f}", f"{each['gain']:,.2f}")
        show(table)

    @group.command("fire")
    def fire_(
        at: Annotated[str | None, typer.Option("--at", help="As if it were that time; absent: now.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Does once what `growth serve` does all the time: fires the rules that are due by themselves."""
        from engine.rule_firing import fire_due

        with progress(quiet=as_json) as told:
            found = fire_due(workspace(root), at, told)
        if as_json:
            say_json(found)
            return
        for each in found:
            say(f"{each['run']}: {each['rules']:,} rules, {each['touches']:,} touches, {each['state']}")
            for rule, why in each["failed"].items():
                say(f"  {rule} did not fire: {why}")
        if not found:
            say("nothing is due")

    @group.command("try")
    def try_(
        name: Name,
        date: Annotated[str, typer.Option("--date", help="As if it fired on this day.")],
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Dry run: audience, cost and gain if the rule fired that day, alone and within its own limits."""
        from engine.rule_trial import try_rule

        with progress(quiet=as_json) as told:
            found = try_rule(workspace(root), name, day_of(date, "--date"), told)
        if as_json:
            say_json(found)
            return
        say(f"{found['users']:,} users in {found['group']}, {found['held_out']:,} of them held out")
        say(f"{found['candidates']:,} are worth it; {found['assigned']:,} would get it")
        say(f"expected cost {found['cost']:,.2f}, gain {found['gain']:,.2f}, net {found['value']:,.2f}")
        for reason, many in found["pruned"].items():
            say(f"  left out: {many:,} · {reason}")
        say("The day's plan decides in the end: there it competes with everything else.")

    @group.command("read")
    def read(name: Name, as_of: AsOf = None, root: Dir = HERE, as_json: AsJson = False) -> None:
        """What it brought: reached, converted, increment against the holdout, cost, profit."""
        from engine.rule_results import read_rule

        found = read_rule(workspace(root), name, as_of).as_json()
        if as_json:
            say_json(found)
            return
        tell_result(found)

    @group.command("tune")
    def tune(name: Name, as_of: AsOf = None, root: Dir = HERE, as_json: AsJson = False) -> None:
        """Moves the shares of its variants by what they brought; asks or stops when it loses money."""
        from engine.rule_results import tune

        made = tune(workspace(root), name, as_of)
        if as_json:
            say_json(made)
            return
        for each in made:
            say(f"change {each['number']}: {_state(each['before'])} → {_state(each['after'])}")
        if not made:
            say("nothing changes")

    @group.command("changes")
    def changes(
        name: Annotated[str | None, typer.Argument(help="Only of this rule.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """What rules and people changed, with the evidence; the newest first."""
        found = workspace(root).rules.changes(name)
        if as_json:
            say_json(found)
            return
        for each in found:
            undone = " (undone)" if each["undone"] else ""
            moved = f"{_state(each['before'])} → {_state(each['after'])}"
            say(f"{each['number']:>4}  {each['at'][:16]}  {each['rule']} by {each['who']}: {moved}{undone}")

    @group.command("undo")
    def undo(number: Annotated[int, typer.Argument(help="Number of the change.")], root: Dir = HERE) -> None:
        """Takes the newest change of a rule back."""
        space = workspace(root)
        rule = space.rules.undo(number, at=space.clock.now(), who=getpass.getuser())
        say(f"change {number} of {rule} is undone")

    @group.command("on")
    def on(name: Name, because: Because = "", root: Dir = HERE) -> None:
        """It fires again."""
        _switch(root, name, "on", because)

    @group.command("off")
    def off(name: Name, because: Because = "", root: Dir = HERE) -> None:
        """It fires no more."""
        _switch(root, name, "off", because)


def _switch(root: Any, name: str, state: str, because: str) -> None:
    from engine.rule_results import switch

    done = switch(workspace(root), name, state, who=getpass.getuser(), why=because)
    say(f"{name} is {state}" + ("" if done else ", as it was"))


def _state(each: dict[str, Any]) -> str:
    shares = ", ".join(f"{name} {share:.0%}" for name, share in each["shares"].items())
    return f"{each['state']} ({shares})" if shares else str(each["state"])


def tell_result(found: dict[str, Any]) -> None:
    counts = f"{found['users']:,} users, {found['reached']:,} reached"
    say(f"{found['rule']}: {found['firings']} firings, {counts}")
    say(f"windows over for {found['mature']:,}; {found['converted']:,} converted; cost {found['cost']:,.2f}")
    for title, key in (("outcomes", "increment"), ("profit", "added_profit")):
        each = found[key]
        if each is None:
            say(f"  added {title}: nothing to say yet")
        else:
            span = f"[{each['total_low']:,.2f}, {each['total_high']:,.2f}]"
            say(f"  added {title}: {each['total']:,.2f} {span}")
    for each in found["variants"]:
        say(f"  variant {each['variant']:<16} {each['users']:>8,} users, profit {each['mean']:.4f} a user")
    for each in found["warnings"]:
        say(f"  ! {each}")
