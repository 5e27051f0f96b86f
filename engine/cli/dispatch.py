"""`growth deliver`, `outbox`, `suppress`, `preview`: what goes out, and what became of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from engine.cli.shell import HERE, AsJson, Dir, complain, say, say_json, show, workspace


def add_to(app: typer.Typer) -> None:
    @app.command("deliver")
    def deliver_(
        until_empty: Annotated[
            bool, typer.Option("--until-empty", help="Go on until nothing waits, also for a later time.")
        ] = False,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Hand over the touches that are due, as `growth serve` does. Exit 1 when a provider fails."""
        from engine.delivery_report import publish_delivery
        from engine.dispatching import deliver
        from kernel.errors import GrowthError

        space = workspace(root)
        done = deliver(space, until_empty=until_empty, say=complain if as_json else say)
        for run in done.runs:
            publish_delivery(space, run)
        if as_json:
            say_json({"accepted": done.accepted, "settled": done.settled, "trouble": done.trouble})
        else:
            say(f"{done.accepted:,} touches accepted, {done.settled - done.accepted:,} ended otherwise")
        for name, why in done.trouble.items():
            complain(f"provider {name}: {why}")
        if done.trouble:
            raise GrowthError("not everything could be handed over; it stays in the outbox")

    @app.command("outbox")
    def outbox_(
        action: Annotated[
            str | None, typer.Argument(help="pause, resume, cancel or send-again; default: how it stands.")
        ] = None,
        task: Annotated[str | None, typer.Argument(help="Name or number of the task.")] = None,
        run: Annotated[str | None, typer.Option("--run", help="Only of this plan, YYYY-MM-DD.")] = None,
        user: Annotated[str | None, typer.Option("--user", help="The touches of one user.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Tasks on their way out: states, reasons, receipts. `send-again` takes up what is in doubt."""
        from engine.outbox import change_task, outbox_report
        from kernel.errors import BadInput

        space = workspace(root)
        if action is not None:
            if task is None:
                raise BadInput("is required and missing", field="TASK")
            changed = change_task(space, action, task, run)
            if as_json:
                say_json(changed)
            for each in [] if as_json else changed:
                say(
                    f"{each['number']}: {action}" + (f", {each['touches']:,} touches" * bool(each["touches"]))
                )
            return
        if user is not None:
            found = {"touches": space.outbox.of_user(user), "receipts": space.receipts.of_user(user)}
            if as_json:
                say_json(found)
            else:
                _show_user(found)
            return
        report = outbox_report(space, run)
        if as_json:
            say_json(report)
        else:
            _show(report)

    @app.command("suppress")
    def suppress_(
        who: Annotated[str | None, typer.Argument(metavar="USER|ADDRESS", help="Default: list.")] = None,
        channel: Annotated[str | None, typer.Option("--channel", help="Only there; default: all.")] = None,
        lift: Annotated[bool, typer.Option("--lift", help="Take it away again.")] = False,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """No more touches to a user or an address; what waits is called off. Without one: a list."""
        from engine.outbox import suppress

        space = workspace(root)
        if who is None:
            _list(space.suppressions.newest(), as_json)
            return
        done = suppress(space, who, channel=channel, lift=lift)
        if as_json:
            say_json(done)
        elif lift:
            say(f"{who}: {done['changed']} suppressions lifted")
        else:
            where = f"on {channel}" if channel else "on every channel"
            say(f"{who}: suppressed {where}, {done['cancelled']} waiting touches called off")

    @app.command("preview")
    def preview_(
        content: Annotated[str, typer.Argument(help="Name of the content.")],
        user: Annotated[str, typer.Option("--user", help="For whom.")],
        benefit: Annotated[str | None, typer.Option("--benefit")] = None,
        goal: Annotated[str | None, typer.Option("--goal")] = None,
        channel: Annotated[str | None, typer.Option("--channel")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """A content as a user would get it."""
        from engine.previews import preview

        found = preview(workspace(root), content, user, benefit=benefit, goal=goal, channel=channel)
        if as_json:
            say_json(found)
            return
        for name in ("address", "subject"):
            if found[name]:
                say(f"{name}: {found[name]}")
        for name in ("text", "html"):
            if found[name]:
                say(f"\n{found[name]}")


def _show(report: dict[str, Any]) -> None:
    if not report["tasks"]:
        say("nothing is in the outbox; a plan puts its touches there when a channel is defined")
    table = Table("", "run", "task", "channel", "state", "touches", "next", box=None, pad_edge=False)
    for each in report["tasks"]:
        states = ", ".join(f"{count:,} {state}" for state, count in each["touches"].items())
        table.add_row(
            str(each["number"]), each["run"], each["task"], each["channel"], each["state"], states,
            each["next"] or "",
        )  # fmt: skip
    if report["tasks"]:
        show(table)
    for each in report["reasons"]:
        say(f"  {each['count']:,} {each['state']} by {each['rule']} in {each['task']}: {each['reason']}")
    for channel, kinds in report["receipts"].items():
        say(f"  {channel}: " + ", ".join(f"{count:,} {kind}" for kind, count in kinds.items()))
    for name, why in report["trouble"].items():
        complain(f"provider {name}: {why}")


def _show_user(found: dict[str, Any]) -> None:
    for each in found["touches"]:
        why = f" ({each['rule']}: {each['reason']})" if each["rule"] else ""
        say(f"{each['send_at']}  {each['channel']:<8} {each['state']:<9} {each['task']}{why}")
    for each in found["receipts"]:
        say(f"{each['occurred_at']}  {each['kind']} (touch {each['touch_id']}, told by {each['provider']})")
    if not found["touches"]:
        say("no touch of this user is in the outbox")


def _list(entries: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        say_json(entries)
        return
    if not entries:
        say("nobody is suppressed")
        return
    table = Table("user", "address", "channel", "reason", "since", "said by", box=None, pad_edge=False)
    for each in entries:
        who = each["user_id"] or ("" if each["address"] else "(forgotten or known by address only)")
        table.add_row(
            who, each["address"] or "", each["channel"] or "all", each["reason"], each["since"],
            each["said_by"],
        )  # fmt: skip
    show(table)
