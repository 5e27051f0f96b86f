"""`growth`: the commands, and errors turned into one sentence and an exit code."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from engine.cli import (
    activities,
    allocate,
    audiences,
    catalog,
    coupons,
    definitions,
    dispatch,
    events,
    experiments,
    features,
    files,
    forget,
    frequency,
    group_insight,
    identities,
    membership,
    models,
    monitoring,
    offsite,
    plan_questions,
    plans,
    realtime,
    rules,
    selections,
    simulate,
    touches,
)
from engine.cli.shell import complain
from kernel.errors import BadInput, GrowthError

app = typer.Typer(
    name="growth",
    help="Decides which coupon, message or screen goes to whom, within every budget, and learns from it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for module in (
    files, definitions, catalog, audiences, group_insight, selections, membership, events, identities, forget,
    features, models, experiments, monitoring, plans, plan_questions, frequency, offsite, dispatch, touches,
    coupons, allocate, realtime, activities, rules, simulate,
):  # fmt: skip
    module.add_to(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"growth {version('growth-decision-engine')}")
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """The growth decision engine."""


def main() -> None:
    """Exit 0 on success, 2 on bad input, 1 when something else does not answer, 130 when interrupted."""
    try:
        app()
    except BadInput as error:
        complain(error)
        sys.exit(2)
    except GrowthError as error:
        complain(error)
        sys.exit(1)
    except KeyboardInterrupt:
        complain("interrupted; nothing was half done")
        sys.exit(130)
