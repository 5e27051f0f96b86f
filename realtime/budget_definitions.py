"""Budgets as definitions: what may be spent of a resource in real time, every day."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal, Self

from pydantic import Field, model_validator

from kernel.definitions import Definition
from realtime.pacing import Budget


class BudgetDefinition(Definition):
    """Of the resource that it is named after, each calendar day; beside what the day's plan gives away."""

    kind: Literal["budget"] = "budget"
    #: most uses a day
    at_most: float = Field(ge=0, le=9e9)
    #: what the gain of a use differs by from use to use, in major units: the size of the price's moves
    worth: float = Field(gt=1e-9, le=9e9)
    #: where the price begins when no plan has one, in major units
    price: float = Field(default=0.0, ge=0, le=9e9)
    #: shares of it that are due in parts of equal length of the day, such as 24 hours
    path: tuple[float, ...] = Field(default=(1.0,), min_length=1, max_length=1440)
    #: decisions a day; given, the path is followed by their number and not by the clock
    expected: int | None = Field(default=None, ge=1)
    #: uses that there shall be at least, and how far below zero the price may fall for that
    at_least: float = Field(default=0.0, ge=0)
    subsidy: float = Field(default=0.0, ge=0, le=9e9)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least:g} is above at_most {self.at_most:g}")
        if self.at_least and not self.subsidy:
            raise ValueError(f"at_least {self.at_least:g} needs a subsidy above 0")
        if not all(each >= 0 for each in self.path) or not any(self.path):
            raise ValueError("path is not shares of a budget: none may be negative, and one must be above 0")
        return self


def budgets(
    definitions: Iterable[BudgetDefinition], prices: Mapping[str, float], opens: datetime, closes: datetime
) -> tuple[Budget, ...]:
    """Those of one day, each beginning at the plan's price where there is one."""
    return tuple(
        Budget(
            name=each.name,
            at_most=each.at_most,
            price=max(0.0, prices.get(each.name, each.price)),
            worth=each.worth,
            opens=opens,
            closes=closes,
            path=each.path,
            expected=each.expected,
            at_least=each.at_least,
            subsidy=each.subsidy,
        )
        for each in definitions
    )
