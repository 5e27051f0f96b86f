"""`growth allocate`: the allocator on its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from engine.cli.shell import AsJson, live, say, say_json, show
from kernel.errors import BadInput, GrowthError

if TYPE_CHECKING:
    from kernel.choices import Allocation, LimitUse


def add_to(app: typer.Typer) -> None:
    @app.command("allocate")
    def allocate_(
        candidates: Annotated[Path, typer.Argument(metavar="CANDIDATES.parquet")],
        limits: Annotated[Path, typer.Argument(metavar="LIMITS.yaml")],
        out: Annotated[Path | None, typer.Option("--out", help="Folder for the result.")] = None,
        time_limit: Annotated[
            float, typer.Option("--time-limit", help="Seconds; of a sweep, for each point.")
        ] = 60.0,
        gap: Annotated[float, typer.Option("--gap", help="Relative gap that is good enough.")] = 1e-6,
        rounds: Annotated[
            int | None, typer.Option("--rounds", help="Stop after so many improvements.")
        ] = None,
        stall: Annotated[
            float | None, typer.Option("--stall", help="Stop when nothing got better for so many seconds.")
        ] = None,
        sweep: Annotated[
            list[str] | None,
            typer.Option(
                "--sweep",
                metavar="NAME=FROM:TO:POINTS",
                help="What several bounds of a limit would bring; at_most:NAME where it has both.",
            ),
        ] = None,
        engine: Annotated[
            str, typer.Option("--engine", help="local, spark://HOST:PORT or local-cluster[W,C,MB].")
        ] = "local",
        seed: Annotated[int, typer.Option("--seed", help="Decides between equals.", min=0)] = 0,
        as_json: AsJson = False,
    ) -> None:
        """Choose the most valuable candidates within every limit, with a proof of how good that is.

        Ctrl-C ends the search with the best so far.
        """
        from engine.allocation import Asked, allocate_files

        asked = Asked(
            candidates=candidates, limits=limits, out=out, time_limit=time_limit, gap=gap, seed=seed,
            rounds=rounds, stall=stall, engine=engine, sweeps=tuple(sweep or ()),
        )  # fmt: skip
        with live(quiet=as_json) as tell:
            answered = allocate_files(asked, tell)
        found = answered.allocation
        if as_json:
            say_json(answered.as_json())
        else:
            _show(found)
            _show_curves(answered.curve)
        if found.conflicting:
            raise BadInput(_contradiction(found), where=str(limits), field="limits")
        if found.objective is None:
            why = "when interrupted" if found.method.get("interrupted") else f"in {time_limit:g} s"
            raise GrowthError(f"{found.status}: nothing found {why}; give it more --time-limit")


def _contradiction(found: Allocation) -> str:
    """Which limits cannot hold together, and by how little they would have to give way."""
    told = f"these cannot hold together: {', '.join(found.conflicting)}"
    ways = [f"loosen {name} by {by:,.6g}" for name, by in found.relaxation.items()]
    return f"{told}; {' and '.join(ways)} and they can" if ways else told


def _show(found: Allocation) -> None:
    if found.objective is None:
        return
    gap = "unknown" if found.gap is None else f"{found.gap:.2e}"
    bound = "unknown" if found.bound is None else f"{found.bound:,.6g}"
    cut = ", interrupted" if found.method.get("interrupted") else ""
    say(f"{found.status}: {found.chosen:,} chosen, objective {found.objective:,.6g},"
        f" bound {bound}, gap {gap}, {found.seconds:.2f} s{cut}")  # fmt: skip
    if not found.limits:
        return
    table = Table("limit", box=None, pad_edge=False)
    soft = any(use.penalty is not None for use in found.limits)
    known = any(use.range is not None for use in found.limits)
    heads = ["used", "at least", "at most", "price", *(["price holds"] * known)]
    for name in [*heads, *(["passed by", "at a cost of"] * soft)]:
        table.add_column(name, justify="right")
    for use in found.limits:
        table.add_row(use.name, *_cells(use)[: len(heads)], *(_passed(use) if soft else ()))
    show(table)


def _cells(use: LimitUse) -> list[str]:
    return [
        f"{use.used:,.6g}",
        _number(use.at_least),
        _number(use.at_most),
        f"{use.price:.6g}",
        "" if use.range is None else f"{_number(use.range[0]) or '-∞'} … {_number(use.range[1]) or '∞'}",
    ]


def _passed(use: LimitUse) -> list[str]:
    return [f"{use.passed:,.6g}", f"{use.fine:,.6g}"] if use.passed else ["", ""]


def _show_curves(rows: list[dict[str, Any]]) -> None:
    for limit in dict.fromkeys((row["limit"], row["side"]) for row in rows):
        mine = [row for row in rows if (row["limit"], row["side"]) == limit]
        name, side = limit
        table = Table(f"{name} {side.replace('_', ' ')}", box=None, pad_edge=False)
        for head in ("objective", "bound", "gap", "price", "used", "status"):
            table.add_column(head, justify="right")
        for row in mine:
            gap = "" if row["gap"] is None else f"{row['gap']:.1e}"
            table.add_row(
                _number(row["at"]), _number(row["objective"]), _number(row["bound"]), gap,
                _number(row["price"]), _number(row["used"]), row["status"],
            )  # fmt: skip
        say("")
        show(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.6g}"
