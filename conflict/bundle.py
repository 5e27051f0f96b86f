"""Descent to the best prices where the linear program is too large: a cutting-plane method in a trust box.

The Lagrangian bound is convex in the prices, and one pass of best replies gives its value and a slope for
each block of users. A small linear program over all slopes so far proposes the next prices, no further from
the best ones than the box allows; the box grows with success and shrinks without (Marsten, Hogan and
Blankenship, 1975; Lemaréchal, 1978).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from conflict.problem import Floats, Problem
from conflict.programs import Program, Solver, solve
from conflict.reply import best_replies

#: blocks of users, each with slopes of its own
_BLOCKS = 8
#: slopes a block that are kept
_MEMORY = 60
#: part of the bound that a step must promise for the descent to go on
_ENOUGH = 2e-8
#: bound below 0, in typical candidates' worth, that is more than rounding
_PROOF = 1e-3


@dataclass(frozen=True, kw_only=True)
class _Slopes:
    """The bound at some prices, by block."""

    at: Floats
    #: Σ of best replies, [blocks]
    worth: Floats
    #: what they use, signed by side, [blocks, sides]
    use: Floats
    #: the bound
    bound: float


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Each ceiling and each floor as one price ≥ 0."""

    limit: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    #: +1 for a ceiling, −1 for a floor
    sign: Floats
    #: what one unit of price adds to the bound
    room: Floats

    def prices(self, at: Floats, limits: int) -> Floats:
        return np.bincount(self.limit, weights=self.sign * at, minlength=limits).astype(np.float64)


def sides_of(problem: Problem) -> Sides:
    above, below = np.isfinite(problem.at_most), np.isfinite(problem.at_least)
    return Sides(
        limit=np.r_[np.flatnonzero(above), np.flatnonzero(below)],
        sign=np.r_[np.ones(above.sum()), -np.ones(below.sum())],
        room=np.r_[problem.at_most[above], -problem.at_least[below]],
    )


def contradicts(problem: Problem, *, seconds: float) -> bool:
    """Whether prices prove that no choice keeps all limits (False: they do not, or time ended).

    With nothing to gain, a choice that keeps them is worth 0, so a bound below 0 is the proof (Farkas).
    """
    nothing = np.zeros(problem.summed.size)
    idle = replace(problem, value=np.zeros(problem.size))
    return descend(idle, nothing, 1.0, seconds=seconds, below=-_PROOF)[1] < -_PROOF


def descend(
    problem: Problem, start: Floats, box: float, *, seconds: float, below: float = -np.inf
) -> tuple[Floats, float]:
    """Prices [L] and the bound there, from `start` and within about `box` typical prices of it at first.

    Ends when no step promises enough, when the bound is under `below`, or after `seconds`.
    """
    end = time.monotonic() + seconds
    sides = sides_of(problem)
    unit = _units(problem)[sides.limit]
    size = unit * box
    best = _evaluate(problem, sides, np.maximum(sides.sign * start[sides.limit], 0.0))
    known = [best]
    while time.monotonic() < end and best.bound >= below:
        proposal, floor = _propose(known, best, sides, size, seconds=end - time.monotonic())
        promised = best.bound - floor
        if proposal is None or promised <= _ENOUGH * max(1.0, abs(best.bound)):
            break
        trial = _evaluate(problem, sides, proposal)
        known.append(trial)
        gained = best.bound - trial.bound
        if gained > 0:
            edge = np.abs(np.abs(proposal - best.at) - size) <= 1e-9 * size
            size = np.where(edge & (gained > 0.3 * promised), 2.0 * size, size)
            best = trial
        else:
            size = 0.6 * size
        if len(known) > _MEMORY:
            known = [each for each in known[-_MEMORY:] if each is not best] + [best]
    return sides.prices(best.at, problem.summed.size), best.bound


def _units(problem: Problem) -> Floats:
    """A typical price: what a candidate is worth for what it uses, [L]."""
    worth = float(np.mean(np.abs(problem.value))) or 1.0
    units = np.full(problem.summed.size, worth)
    for limit in range(units.size):
        usage = np.abs(problem.usage(limit))
        if usage.any():
            units[limit] = worth / float(usage[usage > 0].mean())
    return units


def _evaluate(problem: Problem, sides: Sides, at: Floats) -> _Slopes:
    prices = sides.prices(at, problem.summed.size)
    chosen, upper = best_replies(problem, problem.adjusted(prices))
    users = np.arange(problem.users) * _BLOCKS // max(1, problem.users)
    took = np.flatnonzero(chosen)
    block = np.searchsorted(problem.starts, took, side="right") - 1
    patterns = problem.member.shape[0]
    key = users[block] * patterns + problem.pattern[took]
    use = np.zeros((_BLOCKS, problem.summed.size))
    for row, amounts in enumerate(problem.amounts):
        summed = problem.summed == row
        if summed.any():
            table = np.bincount(key, weights=amounts[took], minlength=_BLOCKS * patterns)
            use[:, summed] = table.reshape(_BLOCKS, patterns) @ problem.member[:, summed]
    paid = use @ prices
    worth = np.bincount(users, weights=upper, minlength=_BLOCKS)
    return _Slopes(
        at=at,
        worth=worth + paid,
        use=use[:, sides.limit] * sides.sign,
        bound=float(worth.sum() + at @ sides.room),
    )


def _propose(
    known: list[_Slopes], best: _Slopes, sides: Sides, size: Floats, *, seconds: float
) -> tuple[Floats | None, float]:
    """Prices that minimise the model of the bound inside the box, and the model there."""
    count = sides.room.size
    use = np.concatenate([each.use for each in known])
    worth = np.concatenate([each.worth for each in known])
    block = np.tile(np.arange(_BLOCKS), len(known))
    # in units of the box around the best prices: theta_b + use·size·z ≥ worth − use·best, −1 ≤ z ≤ 1
    coefficients = np.column_stack([use * size, np.ones(block.size)])
    columns = np.column_stack([np.tile(np.arange(count), (block.size, 1)), count + block])
    width = count + 1
    low = np.maximum(-best.at / size, -1.0)
    solved = solve(
        Program(
            value=np.r_[-sides.room * size, -np.ones(_BLOCKS)],
            low=np.r_[low, np.full(_BLOCKS, -np.inf)],
            high=np.r_[np.ones(count), np.full(_BLOCKS, np.inf)],
            whole=np.zeros(count + _BLOCKS, np.bool_),
            starts=np.arange(block.size + 1) * width,
            columns=columns.ravel(),
            coefficients=coefficients.ravel(),
            row_low=worth - use @ best.at,
            row_high=np.full(block.size, np.inf),
        ),
        Solver.GLOP,
        seconds=seconds,
    )
    if solved.x is None:
        return None, best.bound
    at = np.maximum(best.at + size * solved.x[:count], 0.0)
    return at, -solved.objective + float(best.at @ sides.room)
