"""`growth serve`, `learn`, `decisions`, `policies`: what answers in real time, and what learns from it."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Annotated, Any

import typer

from engine.cli.shell import HERE, AsJson, Dir, day_of, say, say_json, workspace


def add_to(app: typer.Typer) -> None:
    @app.command("serve")
    def serve_(
        host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
        port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
        workers: Annotated[int, typer.Option(help="Processes that answer.", min=1, max=64)] = 1,
        store: Annotated[
            str | None, typer.Option(help="What they share: a folder, or redis://HOST:PORT/0.")
        ] = None,
        root: Dir = HERE,
    ) -> None:
        """Serve the HTTP API: decisions, outcomes, groups, plans. Beyond loopback it demands a token."""
        from engine.serve import serve

        if store is not None:
            os.environ["GROWTH_STORE"] = store  # so that every worker reads the same
        serve(workspace(root), host, port, workers)

    @app.command("learn")
    def learn_(root: Dir = HERE) -> None:
        """Learn from decisions and outcomes as they become final, until interrupted; `serve` does so too."""
        from engine.learning import learn

        learn(workspace(root))

    @app.command("decisions")
    def decisions_(
        date: Annotated[str | None, typer.Option("--date", help="Day; default: yesterday.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """What was decided on a day in real time, and what came of it, by moment, action and policy."""
        from engine.decision_days import decisions_of

        space = workspace(root)
        today = space.clock.now().astimezone(space.settings.zone).date()
        found = decisions_of(space, day_of(date, "--date") if date else today - timedelta(days=1))
        if as_json:
            say_json(found)
            return
        for line in _day(found):
            say(line)

    @app.command("policies")
    def policies_(root: Dir = HERE, as_json: AsJson = False) -> None:
        """Which policy decides, what it has learned, and how the challenger in its shadow compares."""
        from engine.shadowing import standing

        found = standing(workspace(root).snapshots)
        if as_json:
            say_json(found)
            return
        for line in _lines(found):
            say(line)


def _day(found: dict[str, Any]) -> list[str]:
    head = (
        f"{found['date']}: {found['decisions']:,} decisions, {found['pending']:,} of them with their reward"
    )
    lines = [f"{head} still to come, {found['degraded']:,} degraded"]
    for each in found["shown"]:
        worth = each["reward"]
        bounds = "" if worth["low"] is None else f" [{worth['low']:.4f}, {worth['high']:.4f}]"
        lines.append(
            f"{each['moment']:<15} {each['action']:<20} {each['policy']:<20} {each['decisions']:>9,}"
            f"  brings {worth['mean']:.4f}{bounds}, {each['outcomes']:,} outcomes, {each['uses']:,} uses,"
            f" cost {each['cost']:.2f}"
        )
    return lines


def _lines(found: dict[str, Any]) -> list[str]:
    live, apprentice, shadow = (found[each] for each in ("live", "apprentice", "shadow"))
    if live is None:
        return ["nothing was learned yet: growth serve, or growth learn, does"]
    paid = "" if live["reward"] is None else f", {live['reward']:.4f} each"
    until = "" if live["until"] is None else f", until {live['until']}"
    lines = [f"live       {live['policy']}: {live['lessons']:,} lessons{paid}{until}"]
    if apprentice is not None:
        state = "decides itself" if apprentice["live"] else "watches"
        lines.append(
            f"apprentice {state}: agrees with {apprentice['rule']} in {apprentice['share']:.1%} of"
            f" {apprentice['decisions']:,}; live at {apprentice['live_at']:.0%} of {apprentice['window']:,}"
        )
    if found["trouble"]:
        lines.append(f"shadow     none: {found['trouble']}")
    return lines if shadow is None else lines + _shadow_lines(shadow)


def _shadow_lines(shadow: dict[str, Any]) -> list[str]:
    lines = [f"shadow     v{shadow['version']} {shadow['policy']}, since {shadow['since']}"]
    if shadow["agreement"] is not None:
        lines.append(
            f"           agrees in {shadow['agreement']:.1%} of {shadow['decisions']:,} decisions,"
            f" {shadow['distance']:.3f} apart"
        )
    if shadow["failures"]:
        lines.append(f"           failed at {shadow['failures']:,}: {shadow['failure']}")
    if shadow["value"] is not None:
        worth, live = (
            f"{each['mean']:.4f} [{each['low']:.4f}, {each['high']:.4f}]"
            for each in (shadow["value"], shadow["live_value"])
        )
        lines.append(f"           would earn {worth} a decision, live {live}, from {shadow['judged']:,}")
    if shadow["warning"]:
        lines.append(f"           {shadow['warning']}")
    return lines
