"""Tests of values: which of them NULL fulfils, and what they say of a number that is known here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from insight.conditions import OPPOSITE, Test

#: digits to which sums and averages are compared
DIGITS = 6


def positive(test: Test) -> Test:
    """The test that NULL fails: itself, or the one whose complement it is."""
    return Test(op=OPPOSITE.get(test.op, test.op), value=test.value)


def passes(test: Test, number: float) -> bool:
    """The test of a number that is known here."""
    value: Any = test.value
    answers: dict[str, Callable[[], bool]] = {
        "eq": lambda: number == value,
        "ne": lambda: number != value,
        "in": lambda: number in value,
        "not_in": lambda: number not in value,
        "lt": lambda: number < value,
        "le": lambda: number <= value,
        "gt": lambda: number > value,
        "ge": lambda: number >= value,
        "between": lambda: value[0] <= number <= value[1],
    }
    return answers[test.op]()


def rounded(value: Any) -> Any:
    """A number, or each of several, to the digits that sums and averages are compared to.

    Half a unit goes up, in doubles, as `insight.sources.dialects` asks of every engine.
    """
    if isinstance(value, tuple):
        return tuple(rounded(each) for each in value)
    scaled = value * 10.0**DIGITS + 0.5
    return math.floor(scaled) / 10.0**DIGITS if math.isfinite(scaled) else value
