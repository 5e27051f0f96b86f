"""The limits of the day: what the operator set, and the capacity that each resource brings with it."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from kernel.choices import DailyLimits, Limit, Limits, PerUser
from kernel.errors import BadInput
from kernel.work import Benefit, Touchpoint
from planner.compose import Resources


def day_limits(
    daily: DailyLimits | None, resources: Resources, candidates: pl.DataFrame, of_rules: Sequence[Limit] = ()
) -> Limits:
    """One set of limits for `conflict`: those of `all_limits` that are about candidates of today.

    A ceiling over a slice that has no candidate today binds nothing and is left out; a floor over such
    a slice cannot be met and is an error. Raises BadInput, also as `all_limits`.
    """
    return present(all_limits(daily, resources, of_rules), candidates)


def all_limits(daily: DailyLimits | None, resources: Resources, of_rules: Sequence[Limit] = ()) -> Limits:
    """Every capacity is a count named `RESOURCE_capacity`. Raises BadInput when an operator's limit has a
    capacity's name, or a rule's limit that of another."""
    own = daily or DailyLimits(name="none")
    limits = list(own.limits)
    taken = {limit.name for limit in limits}
    finite: tuple[Benefit | Touchpoint, ...] = (*resources.touchpoints, *resources.benefits)
    for resource in finite:
        if resource.capacity is None:
            continue
        name = f"{resource.name}_capacity"
        if name in taken:
            reason = f"is the name of the capacity of {resource.kind} {resource.name}"
            raise BadInput(reason, where="limits", field="name", value=name)
        taken.add(name)
        limits.append(Limit(name=name, where={resource.kind: resource.name}, at_most=resource.capacity))
    for limit in of_rules:
        if limit.name in taken:
            raise BadInput("is the name of a rule's limit", where="limits", field="name", value=limit.name)
        limits.append(limit)
    return Limits(per_user=own.per_user, limits=tuple(limits))


def present(limits: Limits, candidates: pl.DataFrame, *, floors: bool = True) -> Limits:
    """What is about any of the candidates; `floors`: whether one about none of them is an error."""
    return Limits(
        per_user=_present_rules(limits.per_user, candidates),
        limits=tuple(limit for limit in limits.limits if _selects(limit, candidates, floors)),
    )


def slice_of(limit: Limit, columns: Sequence[str]) -> pl.Expr:
    """The candidates that a limit is about. Raises BadInput for a column that candidates do not have."""
    chosen = pl.lit(value=True)
    for column, label in limit.where.items():
        if column not in columns:
            known = ", ".join(columns)
            raise BadInput(
                f"is no column of candidates; they have {known}", field=f"limit {limit.name}", value=column
            )
        labels = label if isinstance(label, tuple) else (label,)
        chosen = chosen & pl.col(column).cast(pl.String).is_in([str(each) for each in labels])
    return chosen


def _selects(limit: Limit, candidates: pl.DataFrame, floors: bool) -> bool:
    chosen = slice_of(limit, candidates.columns)
    if candidates.filter(chosen).height:
        return True
    if floors and (limit.at_least or 0) > 0:
        raise BadInput(
            "selects no candidate today, so its floor cannot be met",
            where=f"limit {limit.name}",
            field="at_least",
            value=limit.at_least,
        )
    return False


def _present_rules(rules: PerUser, candidates: pl.DataFrame) -> PerUser:
    """The rules less labels and tasks that no candidate has today: a rule about nothing holds."""
    max_by: dict[str, dict[str, int]] = {}
    for column, labels in rules.max_by.items():
        if column not in candidates.columns:
            raise BadInput(
                "candidates have no such column", where="limits", field="per_user.max_by", value=column
            )
        there = set(candidates[column].cast(pl.String).unique())
        max_by[column] = {label: most for label, most in labels.items() if label in there}
    tasks = set(candidates["task"].cast(pl.String).unique())
    together = [tuple(task for task in group if str(task) in tasks) for group in rules.never_together]
    return PerUser(
        max_tasks=rules.max_tasks,
        min_tasks=rules.min_tasks,
        max_by={column: labels for column, labels in max_by.items() if labels},
        never_together=tuple(group for group in together if len(group) > 1),
    )
