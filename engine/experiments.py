"""Experiments of a workspace: who gets what, and what it brought."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from engine.experiment_files import read_frame, write_frame
from engine.usecases import instant_of
from engine.wiring import Workspace
from engine.world import known_users, read_history
from kernel.errors import BadInput, NotFound
from kernel.events import INSTANT
from models.api import Experiment, Holdout, Readout, bucket_user, bucket_users, held_out, read_out


def experiment_of(space: Workspace, name: str) -> tuple[Experiment, Holdout | None]:
    """The experiment and the global holdout, if there is one. Raises NotFound."""
    known = {each.name: each for each in space.definitions().of(Experiment)}
    if name not in known:
        raise NotFound("experiment", name, known)
    return known[name], space.definitions().one(Holdout)


def bucket_one(space: Workspace, name: str, user: str) -> str | None:
    """The variant of one user; None for who is not in the experiment, was forgotten, or is held out."""
    experiment, holdout = experiment_of(space, name)
    if space.tombstones.without(pl.DataFrame({"user": [user]})).is_empty():
        return None
    return bucket_user(user, experiment, holdout)


def bucket_all(
    space: Workspace, name: str, users: Path | None, out: Path | None, as_of: str | None
) -> dict[str, Any]:
    """Variants of everyone known, or of a file's users, and how many got each; with `out`, one row a user."""
    experiment, holdout = experiment_of(space, name)
    people = known_users(space, instant_of(space, as_of)) if users is None else read_frame(users, "--users")
    if "user" not in people.columns:
        raise BadInput("is missing", where=str(users), field="user")
    people = space.tombstones.without(people).unique("user", maintain_order=True)
    found = bucket_users(people["user"], experiment, holdout)
    if out is not None:
        write_frame(out, found)
    counts = found.group_by("variant", "why").len("users").sort("variant", "why", nulls_last=True)
    return {"experiment": name, "users": found.height, "variants": counts.to_dicts(), "file": _told(out)}


def hold_out(space: Workspace, users: pl.DataFrame) -> pl.DataFrame:
    """`users` without those of the global holdout; all of them where there is none."""
    holdout = space.definitions().one(Holdout)
    return users if holdout is None else users.filter(~held_out(users["user"], holdout))


def read_experiment(
    space: Workspace,
    name: str,
    *,
    assigned: Path | None = None,
    outcomes: Path | None = None,
    covariates: Path | None = None,
    segments: tuple[str, ...] = (),
    as_of: str | None = None,
) -> Readout:
    """The readout as of an instant; default: that of the last outcome, after which nothing is known.

    `assigned`: [user, variant, at, …] as they were exposed; absent: everyone known, as bucketed, from the
    first day. `outcomes`: [user, at, numbers, …]; absent: the purchases, with `orders` 1 for each.
    """
    experiment, holdout = experiment_of(space, name)
    happened = read_frame(outcomes, "--outcomes") if outcomes else _purchases(space, as_of)
    if happened.is_empty() or "at" not in happened.columns or happened.schema["at"] != INSTANT:
        raise BadInput("has no column at with times in UTC", field="--outcomes", value=_told(outcomes))
    last = happened["at"].max()
    instant = instant_of(space, as_of) if as_of is not None else last
    if not isinstance(instant, datetime) or not isinstance(last, datetime):
        raise BadInput("has no time", field="--outcomes", value=_told(outcomes))
    if assigned is not None:
        people = read_frame(assigned, "--assigned")
    else:
        people = bucket_users(known_users(space, instant)["user"], experiment, holdout)
    for frame, where in ((people, "--assigned"), (happened, "--outcomes")):
        if "user" not in frame.columns:
            raise BadInput("is missing", where=where, field="user")
    return read_out(
        experiment,
        space.tombstones.without(people),
        space.tombstones.without(happened).filter(pl.col("at") <= instant),
        instant,
        covariates=read_frame(covariates, "--covariates") if covariates else None,
        segments=segments,
    )


def _purchases(space: Workspace, as_of: str | None) -> pl.DataFrame:
    lines = read_history(space, instant_of(space, as_of)).purchases
    first = pl.int_range(pl.len()).over("event_id") == 0
    return lines.with_columns(orders=first.cast(pl.Float64))


def _told(path: Path | None) -> str | None:
    return None if path is None else str(path)
