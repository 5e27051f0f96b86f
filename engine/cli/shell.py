"""What all commands share: options, progress, output, and errors as one sentence.

The commands import what they call when they are called: solvers and learners take seconds to load, and
`growth --help` needs none of them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from kernel.clock import parse_date

if TYPE_CHECKING:
    from engine.day import Progress
    from engine.plan_steps import Watch
    from engine.wiring import Workspace

Dir = Annotated[Path, typer.Option("--dir", help="Folder of the workspace.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
HERE = Path()
#: results go to standard output, everything else to standard error
#: columns of a table that goes to a file
_WIDE = 160
_errors = Console(stderr=True, highlight=False)


def workspace(root: Path) -> Workspace:
    from engine.wiring import open_workspace

    return open_workspace(root)


def day_of(text: str, field: str) -> date:
    return parse_date(text, field)


def say(text: str) -> None:
    typer.echo(text)


def say_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Progress]:
    """A callable that is told each step: a spinner on a terminal, a line a step elsewhere."""
    if quiet:
        yield lambda _: None
        return
    begun = time.monotonic()
    with _errors.status("starting") as status:

        def step(name: str) -> None:
            passed = time.monotonic() - begun
            status.update(name)
            _errors.print(f"[dim]{passed:6.1f} s[/dim]  {name}")

        yield step
        _errors.print(f"[dim]{time.monotonic() - begun:6.1f} s[/dim]  done")


@contextmanager
def steps_shown(*, quiet: bool = False) -> Iterator[Watch]:
    """A callable that is told all steps so far: the one that runs on a line that changes (on a terminal), a
    line for each that has ended, with its rows and seconds."""
    if quiet:
        yield lambda _: None
        return
    shown = 0
    with _errors.status("starting") as status:

        def watch(steps: list[dict[str, Any]]) -> None:
            nonlocal shown
            for each in steps[shown:]:
                if each["state"] == "running":
                    status.update(step_line(each))
                    return
                _errors.print(step_line(each))
                shown += 1

        yield watch


def step_line(step: dict[str, Any]) -> str:
    """A step in one line: seconds, name, rows, and what it is at or how it ended."""
    rows = f"{step['rows']:,} rows" if "rows" in step else ""
    state = {"running": step.get("doing", "now"), "done": "", "kept": "kept from before"}
    said = state.get(step.get("state", ""), step.get("state", ""))
    return f"{step.get('seconds', 0.0):>8.1f} s  {step['step']:<12} {rows:>16}  {said}".rstrip()


@contextmanager
def live(*, quiet: bool = False) -> Iterator[Progress]:
    """A callable that is told how far it is: one line on a terminal that changes, nothing elsewhere."""
    if quiet or not _errors.is_terminal:
        yield lambda _: None
        return
    with _errors.status("starting") as status:
        yield status.update


def show(table: Table) -> None:
    """A table on standard output; where that is no terminal, as wide as it needs."""
    console = Console(highlight=False)
    console.print(table, width=None if console.is_terminal else _WIDE)


def complain(problem: object) -> None:
    print(f"growth: {problem}", file=sys.stderr)
