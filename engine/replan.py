"""A day's plan made anew while it is going out: what has gone stands, and the rest is decided around it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from engine.outbox import change_task
from engine.wiring import Workspace
from kernel.choices import Allocation, Limit, Limits, LimitUse
from kernel.delivery import TouchState
from kernel.errors import BadInput, GrowthError, NotFound, Stale
from planner.api import rest_of_day

#: a label of a limit's slice, or several
Labels = str | int | float | bool | tuple[str | int | float | bool, ...]
#: what a candidate may be told apart by in `--only`
LABELS = ("task", "goal", "audience", "benefit", "touchpoint", "channel")
_OUT = (TouchState.LEASED, TouchState.HANDING, TouchState.ACCEPTED, TouchState.IN_DOUBT)
#: as the ledger says it
_CONFIRMED = "confirmed"
_CLOSED = (TouchState.REFUSED, TouchState.FAILED, TouchState.CANCELLED)
#: of a touch that a newer version did without: it may come back
_REPLANNED = "replanned"


@dataclass(frozen=True, kw_only=True)
class Again:
    """A wish to make a day's plan anew. `only`: label and name that the new part is restricted to."""

    only: tuple[str, str] | None = None

    @classmethod
    def of(cls, only: str | None) -> Again:
        """`LABEL=NAME`. Raises BadInput."""
        if only is None:
            return cls()
        label, is_, name = only.partition("=")
        if label not in LABELS or not is_ or not name:
            problem = f"is not LABEL=NAME with a label of {', '.join(LABELS)}"
            raise BadInput(problem, field="--only", value=only)
        return cls(only=(label, name))


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """What stays of the plan before."""

    #: its rows, as they were
    assignments: pl.DataFrame
    touches: pl.DataFrame
    #: user, task that ended without a touch, and are not tried again today
    closed: pl.DataFrame
    #: touches that have gone out, or are on their way
    out: int
    only: tuple[str, str] | None


def fixed_of(workspace: Workspace, day: date, again: Again) -> Fixed:
    """What has gone out of the day's plan; with `only`, all that it is not about besides.

    Raises NotFound for a name that neither the plan nor anything of it knows.
    """
    entry = workspace.plans.find(day)
    if entry is None:
        known = [each.date for each in workspace.plans.newest_of_each_day()]
        raise NotFound("plan", day, known, field="date")
    folder = Path(entry.folder)
    rows, touches = (pl.read_parquet(folder / f"{name}.parquet") for name in ("assignments", "touches"))
    found = workspace.outbox.outcomes(day.isoformat())
    out = {each["touch_id"] for each in found if each["state"] in _OUT}
    rest = [each for each in touches["touch_id"] if each not in out]
    out |= {key for key, state in workspace.ledger.states(rest).items() if state == _CONFIRMED}
    closed = {
        each["touch_id"]
        for each in found
        if each["state"] in _CLOSED and each["rule"] != _REPLANNED and each["touch_id"] not in out
    }
    gone = touches.filter(pl.col("touch_id").is_in(list(out)))
    stays = gone.select("user", "task")
    if again.only is not None:
        label, name = again.only
        _check_name(folder, rows, label, name)
        stays = pl.concat([stays, rows.filter(pl.col(label) != name).select("user", "task")])
    shut = touches.filter(pl.col("touch_id").is_in(list(closed))).select("user", "task")
    stays = stays.join(shut, on=["user", "task"], how="anti").unique()
    return Fixed(
        assignments=rows.join(stays, on=["user", "task"], how="semi", maintain_order="left"),
        touches=touches.join(stays, on=["user", "task"], how="semi", maintain_order="left"),
        closed=shut,
        out=gone.height,
        only=again.only,
    )


def _check_name(folder: Path, rows: pl.DataFrame, label: str, name: str) -> None:
    known = set(pl.read_parquet(folder / "tasks.parquet")[label]) | set(rows[label])
    if name not in known:
        raise NotFound(label, name, known, field="--only")


@contextmanager
def paused(workspace: Workspace, day: date, running: Sequence[str]) -> Iterator[None]:
    """Nothing of the day goes out while it is planned anew. What ran before goes on when the block ends or
    fails; after a kill it stays paused until the plan is made anew, or somebody resumes it."""
    for task in running:
        _change(workspace, "pause", task, day)
    try:
        yield
    except GrowthError:
        for task in running:
            _change(workspace, "resume", task, day)
        raise


def running_tasks(workspace: Workspace, day: date) -> list[str]:
    return [each["task"] for each in workspace.outbox.tasks(day.isoformat()) if each["state"] == "running"]


def resume(workspace: Workspace, day: date, tasks: Sequence[str]) -> None:
    for task in tasks:
        _change(workspace, "resume", task, day)


def _change(workspace: Workspace, action: str, task: str, day: date) -> None:
    try:
        change_task(workspace, action, task, day.isoformat())
    except (BadInput, Stale):  # it is over, or stands so already
        return


def around(candidates: pl.DataFrame, limits: Limits, fixed: Fixed) -> tuple[pl.DataFrame, Limits]:
    """What is left to decide, and within what: `planner.rest_of_day` of what is fixed. Where a user's rules
    ask for a minimum, whoever has something fixed gets nothing more."""
    rest = candidates.join(fixed.closed, on=["user", "task"], how="anti", maintain_order="left")
    if fixed.only is not None:
        rest = rest.filter(pl.col(fixed.only[0]) == fixed.only[1])
    if limits.per_user.min_tasks:
        rest = rest.join(fixed.assignments, on="user", how="anti", maintain_order="left")
    rest, left = rest_of_day(rest, limits, fixed.assignments)
    return rest, about(left, rest)


def about(limits: Limits, rows: pl.DataFrame) -> Limits:
    """The same for candidates of which many are gone: the allocator takes a label that nobody has for a slip
    of the pen, and here it is not."""
    if rows.is_empty():
        return limits
    labels = {each: set(rows[each].cast(pl.String)) for limit in limits.limits for each in limit.where}
    kept = [
        limit.model_copy(
            update={"where": {each: _known(of, labels[each]) for each, of in limit.where.items()}}
        )
        for limit in limits.limits
        if not _slice(limit, rows).is_empty()
    ]
    rules = limits.per_user
    most = {
        column: {label: number for label, number in of.items() if label in set(rows[column].cast(pl.String))}
        for column, of in rules.max_by.items()
    }
    tasks = set(rows["task"].cast(pl.String))
    apart = [tuple(each for each in group if str(each) in tasks) for group in rules.never_together]
    rules = rules.model_copy(
        update={
            "max_by": {column: of for column, of in most.items() if of},
            "never_together": tuple(group for group in apart if len(group) > 1),
        }
    )
    return limits.model_copy(update={"limits": tuple(kept), "per_user": rules})


def _known(label: Labels, known: set[str]) -> Labels:
    return tuple(each for each in label if str(each) in known) if isinstance(label, tuple) else label


def used_of(limit: Limit, rows: pl.DataFrame) -> float:
    """What these rows use of a limit."""
    chosen = _slice(limit, rows)
    return float(chosen.height) if limit.sum is None else math.fsum(chosen[limit.sum])


def _slice(limit: Limit, rows: pl.DataFrame) -> pl.DataFrame:
    for column, label in limit.where.items():
        labels = [str(each) for each in (label if isinstance(label, tuple) else (label,))]
        rows = rows.filter(pl.col(column).cast(pl.String).is_in(labels))
    return rows


def with_fixed(candidates: pl.DataFrame, fixed: Fixed) -> pl.DataFrame:
    """The candidates, and among them what is fixed, as it was worth when it was decided."""
    rest = candidates.join(fixed.assignments, on=["user", "task"], how="anti", maintain_order="left")
    return _stacked(fixed.assignments, rest)


def _stacked(fixed: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    old = fixed.select(each for each in rows.columns if each in fixed.columns)
    both = pl.concat([old, rows], how="diagonal_relaxed").select(rows.columns)
    return both.sort("user", "task", maintain_order=True)


def together(found: Allocation, limits: Limits, fixed: Fixed) -> Allocation:
    """The whole day: what is fixed and what was decided around it, under the limits as they are."""
    uses, told = {each.name: each for each in found.limits}, []
    for limit in limits.limits:
        used = used_of(limit, fixed.assignments)
        empty = LimitUse(name=limit.name, used=0.0, at_most=None, at_least=None, price=0.0)
        use = uses.get(limit.name, empty)
        kept = tuple(None if end is None else end + used for end in use.range) if use.range else None
        told.append(
            replace(
                use,
                used=use.used + used,
                at_most=limit.at_most,
                at_least=limit.at_least,
                range=None if kept is None else (kept[0], kept[1]),
            )
        )
    worth = math.fsum(fixed.assignments["value"])
    objective = None if found.objective is None else found.objective + worth
    bound = None if found.bound is None else found.bound + worth
    gap = found.gap
    if objective is not None and bound is not None:
        gap = (bound - objective) / max(abs(objective), 1e-9)
    return replace(
        found,
        objective=objective,
        bound=bound,
        gap=gap,
        limits=tuple(told),
        assignments=_stacked(fixed.assignments, found.assignments),
    )


def told_of(fixed: Fixed, of: int, limits: Limits) -> dict[str, Any]:
    """For `plan.json`."""
    only = {} if fixed.only is None else {"only": "=".join(fixed.only)}
    return {
        "of": of,
        "kept": fixed.assignments.height,
        "out": fixed.out,
        **only,
        "overspent": [
            each.name
            for each in limits.limits
            if each.at_most is not None and used_of(each, fixed.assignments) > each.at_most + 1e-6
        ],
    }
