"""Amounts on a grid: where all that a limit sums are multiples of something, so is every total.

A budget of 100.10 for coupons of 0.25 each is one of 100.00: said so, it gives a tighter bound (the simplest
of the cuts of Chvátal and Gomory).
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd

import numpy as np
from numpy.typing import NDArray

from conflict.problem import Problem

#: units in which amounts are looked at: hundredths of a cent
_FINE = 10_000
#: whole numbers up to which there is no gap between floating ones
_EXACT = 2.0**53
#: candidates of the first look
_LOOK = 10_000
#: candidates at a time
_PIECE = 4_000_000


def on_grid(problem: Problem) -> Problem:
    """The same with limits without a penalty drawn in to the nearest total that can be."""
    rules = problem.rules
    steps = np.array([1.0, *(step_of(amounts) for amounts in problem.amounts)])[rules.summed]
    some = (steps > 0) & np.isinf(rules.penalty)
    grid = np.where(some, steps, 1.0)
    tight = replace(
        rules,
        at_most=np.where(some, np.floor(rules.at_most / grid + _slack(rules.at_most)) * grid, rules.at_most),
        at_least=np.where(
            some, np.ceil(rules.at_least / grid - _slack(rules.at_least)) * grid, rules.at_least
        ),
    )
    return replace(problem, rules=tight)


def _slack(bound: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a total may be off by rounding, in steps: less than what counts as passing the bound."""
    return np.where(np.isfinite(bound), np.maximum(1e-9, 1e-12 * np.abs(bound)), 0.0)


def step_of(amounts: NDArray[np.floating]) -> float:
    """What all amounts are multiples of; 0 where nothing that matters."""
    step = 0
    for first, last in [(0, min(_LOOK, amounts.size)), *_pieces(amounts.size)]:
        fine = amounts[first:last].astype(np.float64) * _FINE
        whole = np.rint(fine)
        if np.max(np.abs(whole), initial=0.0) > _EXACT:
            return 0.0
        # 32 bits hold 0.1 to seven digits
        if fine.size and (np.abs(fine - whole) > 1e-7 * np.maximum(np.abs(whole), 1.0)).any():
            return 0.0
        step = gcd(step, *np.unique(np.abs(whole)).astype(np.int64).tolist()) if whole.size else step
        if step == 1:
            return 1.0 / _FINE
    return step / _FINE


def _pieces(size: int) -> list[tuple[int, int]]:
    return [(first, min(first + _PIECE, size)) for first in range(0, size, _PIECE)]
