"""Why a user got this and not that, in values and prices."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from conflict.labels import slice_of
from kernel.choices import Allocation, Limits
from kernel.errors import NotFound

#: below this part of a value, a difference is rounding
_DUST = 1e-9


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One candidate of a user, and why it was chosen or not."""

    task: object
    #: what it adds to the objective
    value: float
    #: limit → price × usage, where that is not 0
    pays: dict[str, float]
    #: value less all that it pays
    adjusted: float
    chosen: bool
    #: task that took its place; None when none did
    beaten_by: object | None
    #: by how much adjusted value that task is ahead
    behind: float | None
    #: all of it, for a person
    sentence: str


def explain(candidates: pl.DataFrame, limits: Limits, allocation: Allocation, user: object) -> list[Reason]:
    """Every candidate of the user, best adjusted value first.

    Raises NotFound for a user who has no candidate.
    """
    own = candidates.filter(pl.col("user") == pl.lit(user)) if _comparable(candidates, user) else None
    if own is None or own.is_empty():
        raise NotFound("user", user, candidates["user"].head(8), where="candidates", field="user")
    chosen = set(allocation.assignments.filter(pl.col("user") == pl.lit(user))["task"])
    pays = _pays(own, limits, allocation)
    adjusted = {
        task: value - sum(pays[task].values()) for task, value in own.select("task", "value").iter_rows()
    }
    reasons = [
        _reason(row, pays[row["task"]], adjusted, chosen, own, limits, allocation)
        for row in own.iter_rows(named=True)
    ]
    return sorted(reasons, key=lambda each: (-each.adjusted, str(each.task)))


def _comparable(candidates: pl.DataFrame, user: object) -> bool:
    dtype = candidates.schema["user"]
    return (
        isinstance(user, int) and not isinstance(user, bool) if dtype.is_integer() else isinstance(user, str)
    )


def _pays(own: pl.DataFrame, limits: Limits, allocation: Allocation) -> dict[object, dict[str, float]]:
    pays: dict[object, dict[str, float]] = {task: {} for task in own["task"]}
    for limit, use in zip(limits.limits, allocation.limits, strict=True):
        if use.price == 0:
            continue
        usage = pl.lit(1.0) if limit.sum is None else pl.col(limit.sum).cast(pl.Float64)
        tolls = own.filter(slice_of(limit, own)).select("task", toll=usage * use.price)
        for task, toll in tolls.iter_rows():
            if toll:
                pays[task][limit.name] = toll
    return pays


def _reason(
    row: dict[str, object],
    pays: dict[str, float],
    adjusted: dict[object, float],
    chosen: set[object],
    own: pl.DataFrame,
    limits: Limits,
    allocation: Allocation,
) -> Reason:
    task, value = row["task"], float(str(row["value"]))
    worth = adjusted[task]
    tolls = ", ".join(f"{name} {toll:.4g}" for name, toll in pays.items())
    sum_ = f"value {value:.4g} − price {value - worth:.4g}{f' ({tolls})' if tolls else ''} = {worth:.4g}"
    winner: object | None = None
    if task in chosen:
        why = "chosen" if worth >= -_DUST else "chosen below its price, because a limit or rule needed it"
    else:
        rule, winner = _winner(row, adjusted, chosen, own, limits)
        short = _short_of(row, limits, allocation, own)
        if worth <= _DUST * max(1.0, abs(value)):
            winner, why = None, "not chosen: it is not worth its price"
        elif winner is not None and adjusted[winner] >= worth - _DUST:
            why = f"beaten by {winner} by {adjusted[winner] - worth:.4g} ({rule})"
        elif winner is not None:
            why = f"not chosen: {winner} stands in its place ({rule}), as whole numbers had to fit the limits"
        elif short:
            why = f"not chosen: too little of {short} is left for it"
        else:
            why = "not chosen: limits had to be met in whole numbers"
    return Reason(
        task=task,
        value=value,
        pays=pays,
        adjusted=worth,
        chosen=task in chosen,
        beaten_by=winner,
        behind=None if winner is None else adjusted[winner] - worth,
        sentence=f"{task}: {sum_}; {why}",
    )


def _winner(
    row: dict[str, object],
    adjusted: dict[object, float],
    chosen: set[object],
    own: pl.DataFrame,
    limits: Limits,
) -> tuple[str, object | None]:
    """The rule that kept a candidate out, and the weakest of those who fill it."""
    rules = limits.per_user
    blocked: list[tuple[str, set[object]]] = []
    for tasks in rules.never_together:
        if row["task"] in tasks and chosen & set(tasks):
            blocked.append(("never together", chosen & set(tasks)))
    for column, labels in rules.max_by.items():
        label = (
            own.filter(pl.col("task") == pl.lit(row["task"])).select(pl.col(column).cast(pl.String)).item()
        )
        same = set(own.filter(pl.col(column).cast(pl.String) == label)["task"]) & chosen
        if label in labels and len(same) >= labels[label] and same:
            blocked.append((f"at most {labels[label]} of {column} {label}", same))
    if len(chosen) >= rules.max_tasks and chosen:
        blocked.append((f"at most {rules.max_tasks} a user", chosen))
    if not blocked:
        return "", None
    # the rule whose weakest holder is strongest is the one hardest to get past
    weakest = [(rule, min(tasks, key=lambda each: (adjusted[each], str(each)))) for rule, tasks in blocked]
    return max(weakest, key=lambda each: adjusted[each[1]])


def _short_of(
    row: dict[str, object], limits: Limits, allocation: Allocation, own: pl.DataFrame
) -> str | None:
    """The limit that one more of this candidate would break; one with a penalty only costs."""
    one = own.filter(pl.col("task") == pl.lit(row["task"]))
    for limit, use in zip(limits.limits, allocation.limits, strict=True):
        if limit.at_most is None or limit.penalty is not None:
            continue
        if not one.select(slice_of(limit, one)).to_series().item():
            continue
        usage = 1.0 if limit.sum is None else float(str(row[limit.sum]))
        if use.used + usage > limit.at_most:
            return limit.name
    return None
