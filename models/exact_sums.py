"""Sums that do not depend on the order in which threads meet: in whole numbers, exact to about 4e-15.

A number is so many 1024ths, and so many 2⁻³⁸ths of one: both add up exactly. Rounding afterwards would not
do: of sums that differ in their last digit, some always lie on two sides of an edge.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

_WHOLE, _REST = 2.0**10, 2.0**38


def parts(number: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """A column of numbers below 9e15 as two of whole numbers; missing, and no number, is missing."""
    scaled = number.cast(pl.Float64).fill_nan(None) * _WHOLE
    whole = scaled.round()
    return whole.cast(pl.Int64), ((scaled - whole) * _REST).round().cast(pl.Int64)


def joined(whole: pl.Expr, rest: pl.Expr) -> pl.Expr:
    """Sums of both parts as the sum of the numbers."""
    return (whole.cast(pl.Float64) + rest.cast(pl.Float64) / _REST) / _WHOLE


def exact_sum(number: pl.Expr) -> pl.Expr:
    """Of a column, or within groups; nothing sums to 0."""
    whole, rest = parts(number)
    return joined(whole.sum(), rest.sum())


def exact_total(numbers: NDArray[np.float64], times: NDArray[Any] | None = None) -> float:
    """The same of a few numbers in NumPy, none missing; `times`: whole numbers to multiply them by."""
    scaled = numbers * _WHOLE
    whole = _rounded(scaled)
    rest = _rounded((scaled - whole) * _REST)
    if times is not None:
        whole, rest = whole * times, rest * times
    return float((whole.sum() + rest.sum() / _REST) / _WHOLE)


def _rounded(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Halves away from zero, as Polars does; whole numbers that floats hold exactly, as do their sums."""
    return np.asarray(np.copysign(np.floor(np.abs(numbers) + 0.5), numbers))
