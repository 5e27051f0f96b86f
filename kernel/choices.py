"""Candidates, limits and the allocation: what `conflict` is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import polars as pl
from pydantic import Field, model_validator

from kernel.definitions import Definition, Frozen, Name

#: columns that every candidate frame has; others are numbers to sum or labels to select on
CANDIDATE_COLUMNS = ("user", "task", "value")


class PerUser(Frozen):
    """Rules that hold for every user."""

    #: most tasks a user
    max_tasks: int = Field(default=1, ge=0)
    #: fewest tasks a user; binds users who have a candidate
    min_tasks: int = Field(default=0, ge=0)
    #: column → label → most tasks with that label a user
    max_by: dict[str, dict[str, int]] = {}
    #: tasks of which one user may get at most one
    never_together: tuple[tuple[str | int, ...], ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> PerUser:
        if self.min_tasks > self.max_tasks:
            raise ValueError(f"min_tasks {self.min_tasks} is above max_tasks {self.max_tasks}")
        for column, labels in self.max_by.items():
            for label, most in labels.items():
                if most < 0:
                    raise ValueError(f"max_by {column} {label} = {most} is negative")
        for tasks in self.never_together:
            if len(set(tasks)) < 2:
                raise ValueError("never_together needs two different tasks")
        return self


class Limit(Frozen):
    """A bound on the use of something over a slice of candidates."""

    name: Name
    #: column that is summed; absent: candidates are counted
    sum: str | None = None
    #: column → label, or labels, that select the slice; absent: all candidates
    where: dict[str, str | int | float | bool | tuple[str | int | float | bool, ...]] = {}
    at_most: float | None = None
    at_least: float | None = None
    #: what each unit past a bound costs in value; absent: it may not be passed
    penalty: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _bounded(self) -> Limit:
        if self.at_most is None and self.at_least is None:
            raise ValueError("needs at_most or at_least")
        if self.at_most is not None and self.at_least is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least} is above at_most {self.at_most}")
        if self.sum is None and (self.at_most or 0) < 0:
            raise ValueError(f"at_most {self.at_most} is negative, and a count cannot be")
        return self


class Limits(Frozen):
    """The limits file of `growth allocate`."""

    per_user: PerUser = PerUser()
    limits: tuple[Limit, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Limits:
        names = [limit.name for limit in self.limits]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"limit {name!r} is named twice")
        return self


class DailyLimits(Definition, Limits):
    """The limits that every day's plan obeys, as a definition."""

    kind: str = "limits"


class Status(StrEnum):
    OPTIMAL = "OPTIMAL"  # proven: bound equals objective within 1e-6 relative
    FEASIBLE = "FEASIBLE"  # every limit and rule holds; the gap says how far from the optimum at most
    INFEASIBLE = "INFEASIBLE"  # proven that nothing satisfies all limits and rules
    INVALID = "INVALID"  # the input contradicts itself
    UNKNOWN = "UNKNOWN"  # time ended before anything was known


@dataclass(frozen=True, kw_only=True)
class LimitUse:
    """What an allocation uses of a limit, and what one more unit would be worth."""

    name: str
    used: float
    at_most: float | None
    at_least: float | None
    #: gain in objective per unit by which the limit is loosened; ≥ 0 for a ceiling that binds,
    #: ≤ 0 for a floor that binds, 0 for one that does not
    price: float
    #: by how much a limit with a penalty is passed
    passed: float = 0.0
    #: what each unit past a bound costs; None where it may not be passed
    penalty: float | None = None
    #: bounds between which the price stays what it is, all other bounds as they are; None at an end: there is
    #: none. None where it is not known, as when prices are not exact
    range: tuple[float | None, float | None] | None = None

    @property
    def fine(self) -> float:
        """What it costs that the limit is passed."""
        return self.passed * self.penalty if self.passed and self.penalty is not None else 0.0


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The chosen set with its proof."""

    status: Status
    #: Σ value of what was chosen, less penalties; None when nothing was
    objective: float | None
    #: no allocation can be worth more; None when unknown
    bound: float | None
    #: (bound − objective) / max(|objective|, 1e-9)
    gap: float | None
    #: time in the allocator
    seconds: float
    limits: tuple[LimitUse, ...]
    #: the chosen candidates, all their columns, in the order of the candidates
    assignments: pl.DataFrame
    #: how many were chosen, where `assignments` does not hold them because they went straight to files
    elsewhere: int = 0
    #: limits that cannot hold together, when infeasible
    conflicting: tuple[str, ...] = ()
    #: limit → by how much it would have to give way so that all can hold, when infeasible
    relaxation: dict[str, float] = field(default_factory=dict)
    #: what the allocator did, for the curious
    method: dict[str, Any] = field(default_factory=dict)
    #: seconds, objective and bound after every improvement
    trace: tuple[tuple[float, float, float], ...] = ()

    @property
    def chosen(self) -> int:
        """How many candidates."""
        return self.assignments.height + self.elsewhere

    def as_json(self) -> dict[str, Any]:
        """The contents of `allocation.json`."""
        return {
            "status": str(self.status),
            "objective": self.objective,
            "bound": self.bound,
            "gap": self.gap,
            "seconds": round(self.seconds, 6),
            "limits": [vars(use) for use in self.limits],
            "conflicting": list(self.conflicting),
            "relaxation": self.relaxation,
            "chosen": self.chosen,
            "method": self.method,
        }


@dataclass(frozen=True, kw_only=True)
class Violation:
    """Something that an allocation breaks, found without a solver."""

    #: name of the limit or rule
    rule: str
    #: the user, where the rule is per user
    user: object | None
    #: what it came to
    found: float
    #: what was allowed
    allowed: float
