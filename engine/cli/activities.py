"""`growth activity`: the life of activities, their boards and their post-mortems."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from engine.cli.shell import HERE, AsJson, Dir, day_of, say, say_json, show, workspace

if TYPE_CHECKING:
    from engine.activities import Activities
    from engine.activity_clock import ActivityClock
    from engine.wiring import Workspace

Name = Annotated[str, typer.Argument(help="Name of an activity.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Bounded programmes: their lives, boards and results.", no_args_is_help=True)
    app.add_typer(group, name="activity")

    @group.command("list")
    def list_(root: Dir = HERE, as_json: AsJson = False) -> None:
        """Every activity with its state."""
        found = _activities(workspace(root)).all()
        if as_json:
            say_json(found)
            return
        table = Table("activity", "state", "start", "end", "goal")
        for each in found:
            table.add_row(each["name"], each["state"], each["start"][:16], each["end"][:16], each["goal"])
        show(table)

    @group.command("templates")
    def templates_(
        name: Annotated[str | None, typer.Argument(help="One template, with its parameters.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Templates that activities can be made of: template: NAME, with: {…}."""
        from engine.activity_templates import templates

        found = templates(workspace(root), name)
        if as_json:
            say_json(found)
            return
        if not found:
            say("no template is defined")
        for each in found:
            said = f": {each['description']}" if each["description"] else ""
            say(f"{each['name']} ({each['title']}){said}")
            for one in each["form"]:
                need = "required" if one["required"] else f"default {one['default']}"
                say(f"  {one['name']:<18} {one['input']:<8} {need:<24} {one['help']}".rstrip())

    @group.command("show")
    def show_(name: Name, root: Dir = HERE, as_json: AsJson = False) -> None:
        """State, moves, participants, totals and rewards."""
        found = _activities(workspace(root)).show(name)
        if as_json:
            say_json(found)
            return
        say(f"{found['title']}: {found['state']}, {found['start'][:16]} to {found['end'][:16]}")
        say(f"{found['participants']:,} take part, {found.get('active', 0):,} of them have done something")
        for metric, total in found.get("totals", {}).items():
            say(f"  {metric:<20} {total:>14,.2f}")
        for reward, each in found.get("rewards", {}).items():
            stock = "" if each["stock"] is None else f" of {each['stock']:,}"
            say(f"  {reward:<20} {each['given']:>14,}{stock} given, {each['earned']:,} earned")
        for each in found["moves"]:
            say(f"  {each['at'][:16]}  {each['state']:<10} by {each['who']} {each['why']}")

    @group.command("move")
    def move_(
        name: Name,
        to: Annotated[str, typer.Argument(help="ready, running, paused, completed, reviewed, cancelled.")],
        why: Annotated[str, typer.Option("--why", help="For the record.")] = "",
        by: Annotated[str, typer.Option("--by", help="Who decides it.")] = "command line",
        root: Dir = HERE,
    ) -> None:
        """To another state; only legal moves."""
        found = _clock(workspace(root)).move(name, to, who=by, why=why)
        say(f"{name} is {found['state']}")

    @group.command("tick")
    def tick(root: Dir = HERE) -> None:
        """Does once what `growth serve` does all the time: begins, counts, rewards, ends."""
        say(f"{_clock(workspace(root)).tick():,} events counted")

    @group.command("count")
    def count(name: Name, root: Dir = HERE, as_json: AsJson = False) -> None:
        """Counts everything anew, from the sources and the log of fresh events together."""
        found = _clock(workspace(root)).recount(name)
        if as_json:
            say_json(found)
            return
        say(", ".join(f"{events:,} × {event}" for event, events in found.items()))

    @group.command("board")
    def board(
        name: Name,
        period: Annotated[str, typer.Option("--period", help="all, day, week or month.")] = "all",
        key: Annotated[str | None, typer.Option("--key", help="Which; absent: the current one.")] = None,
        count: Annotated[int, typer.Option("--count", help="Lines.")] = 10,
        user: Annotated[str | None, typer.Option("--user", help="Those around this user.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """The leaderboard."""
        found = _activities(workspace(root)).board(name, period, key, 1, count, user)
        if as_json:
            say_json(found)
            return
        table = Table(
            "rank", "user", "value", title=f"{found['key']}: {found['participants']:,} on the board"
        )
        for each in found["lines"]:
            table.add_row(f"{each['rank']:,}", each["user_id"], f"{each['value']:,.2f}")
        show(table)

    @group.command("participants")
    def participants(
        name: Name, out: Annotated[Path, typer.Option("--out", help="FILE.parquet or FILE.csv.")],
        root: Dir = HERE,
    ) -> None:  # fmt: skip
        """Who takes part, and what they answered."""
        from engine.experiment_files import write_frame

        found = _activities(workspace(root)).participants(name)
        write_frame(out, found)
        say(f"{found.height:,} participants in {out}")

    @group.command("post-mortem")
    def post_mortem(name: Name, root: Dir = HERE, as_json: AsJson = False) -> None:
        """Funnel, cost, revenue, profit, increment, and what to repeat; before the end, as it stands."""
        found = _activities(workspace(root)).post_mortem(name)
        if as_json:
            say_json(found)
            return
        for line in _told(found):
            say(line)

    @group.command("calendar")
    def calendar(
        first: Annotated[str, typer.Option("--from", help="First day.")],
        last: Annotated[str, typer.Option("--to", help="Last day.")],
        country: Annotated[str | None, typer.Option("--country", help="With its holidays: CN, US, …")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Activities, steps of promotion and public holidays, day by day."""
        days = day_of(first, "--from"), day_of(last, "--to")
        found = _activities(workspace(root)).calendar(*days, country)
        if as_json:
            say_json(found)
            return
        for each in found:
            say(f"{each['day']}  {each['kind']:<9} {each['text']}")


def _told(found: dict[str, Any]) -> list[str]:
    lines = [f"Activity {found['activity']} for {found['goal']}"]
    for each in found["funnel"]:
        users = "everybody" if each["users"] is None else f"{each['users']:,}"
        lines.append(f"  {each['step']:<12} {users}")
    for name, amount in found["costs"].items():
        lines.append(f"  cost {name:<24} {amount:>12,.2f}")
    lines.append(f"  revenue {sum(found['revenue'].values()):>32,.2f}")
    lines.append(f"  profit, with what they would have spent anyway {found['profit']:>12,.2f}")
    if found["added"] is not None:
        low, high = found["added"]["low"], found["added"]["high"]
        lines.append(f"  added {found['added']['value']:,.2f} [{low:,.2f}, {high:,.2f}]")
    if found["cost_per_acquisition"] is not None:
        lines.append(f"  cost of one active participant {found['cost_per_acquisition']:>12,.2f}")
    return lines + [f"- {each}" for each in found["lessons"]]


def _activities(space: Workspace) -> Activities:
    from engine.activities import Activities
    from engine.activity_service import asked
    from engine.audience_service import AudienceService

    audiences = AudienceService(space)
    looked = list[bool]()

    def member(group: str, user_id: str) -> bool:
        if not looked:
            audiences.refresh()
            looked.append(True)
        return asked(audiences)(group, user_id)

    return Activities(space, member)


def _clock(space: Workspace) -> ActivityClock:
    from engine.activity_clock import ActivityClock

    return ActivityClock(_activities(space), space.clock)
