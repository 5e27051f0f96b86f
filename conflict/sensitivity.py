"""How far the bound of each limit may move before its price changes, all other bounds as they are.

Prices stay optimal as long as some mix of the replies that are tied for best at them uses what complementary
slackness asks for: a limit with a price exactly its bound, one without no more than that. So the least and
the most that such mixes use of a limit are the ends of its range: two small linear programs for each limit
(Gal, 1979).
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from conflict.core import Core, core_of, program_of
from conflict.problem import Floats, Problem, Rules
from conflict.programs import Answer, Program, Solver, solve
from conflict.reply import Box

#: bounds between which a price stays; None: no end
Range = tuple[float | None, float | None]

#: parts of a typical value by which tied replies may differ
_TIED = (1e-10, 1e-9, 1e-8)
#: part of a bound that rounding may cost
_DUST = 1e-9
#: most limits and tied replies that are looked at
_LIMITS, _COLUMNS = 200, 3_000


def sensitivity(
    problem: Problem, prices: Floats, rules: Rules | None = None, *, seconds: float = 5.0
) -> tuple[Range | None, ...]:
    """The range of each limit's bound, [L]: of `at_least` where its price is negative or there is no other.

    `prices` are exact; `problem` holds at least every user with tied replies, and `rules` are those of the
    whole where it is a part only. None where it is not known: too many ties, or prices that are not exact.
    """
    whole = problem.rules if rules is None else rules
    unknown = (None,) * whole.limits
    if whole.limits > _LIMITS or not problem.size:
        return unknown
    end = time.monotonic() + seconds
    typical = float(np.mean(np.abs(problem.value)))
    for tied in _TIED:
        core = core_of(problem, Box(at=prices, low=prices, high=prices), tied * typical)
        if core.rivals.cut or core.value.size > _COLUMNS:
            return unknown
        found = _ranges(core, prices, whole, end)
        if found is not None:
            return found
    return unknown


def _ranges(core: Core, prices: Floats, whole: Rules, end: float) -> tuple[Range | None, ...] | None:
    """None where no mix of these replies goes with the prices."""
    rules = core.problem.rules
    low, high = _rows(rules, prices)
    dust = _DUST * np.maximum(1.0, np.abs(core.used))
    low, high = low - core.used - dust, high - core.used + dust
    never = np.full(rules.limits, np.inf)
    program = program_of(core, low, high, never, never, whole=False)
    if solve(program, Solver.GLOP, seconds=max(end - time.monotonic(), 0.01)).answer is not Answer.OPTIMAL:
        return None
    ranges: list[Range | None] = []
    for limit in range(rules.limits):
        floor = prices[limit] < 0 or not np.isfinite(rules.at_most[limit])
        # bounds of a part lack what the others use
        side = "at_least" if floor else "at_most"
        elsewhere = float(getattr(whole, side)[limit] - getattr(rules, side)[limit]) + float(core.used[limit])
        dearest = abs(prices[limit]) >= rules.penalty[limit]
        if prices[limit] == 0:
            # a bound that does not bind may be as loose as one likes
            wanted = (False, True) if floor else (True, False)
        else:
            # at its penalty a bound may be as tight as one likes
            wanted = (not dearest or floor, not dearest or not floor)
        found = [
            _most(program, core, limit, sign, prices[limit] == 0, floor, end) if want else None
            for sign, want in zip((-1.0, 1.0), wanted, strict=True)
        ]
        if any(np.isnan(each) for each in found if each is not None):
            ranges.append(None)
            continue
        least, most = (None if each is None else float(each) + elsewhere for each in found)
        ranges.append((least, most))
    return tuple(ranges)


def _rows(rules: Rules, prices: Floats) -> tuple[Floats, Floats]:
    """Between which complementary slackness wants the use of each limit."""
    low, high = rules.at_least.copy(), rules.at_most.copy()
    low = np.where(prices > 0, rules.at_most, low)
    high = np.where(prices < 0, rules.at_least, high)
    # at its penalty a limit may be passed
    high = np.where(prices >= rules.penalty, np.inf, high)
    low = np.where(prices <= -rules.penalty, -np.inf, low)
    return low, high


def _most(
    program: Program, core: Core, limit: int, sign: float, free: bool, floor: bool, end: float
) -> float:
    """The least (−1) or most (+1) that mixes use of a limit beyond the base, its own bound aside."""
    low, high = program.row_low.copy(), program.row_high.copy()
    if not free or floor:
        low[limit] = -np.inf
    if not free or not floor:
        high[limit] = np.inf
    value = np.zeros(program.value.size)
    value[: core.value.size] = sign * core.use[limit]
    if not value.any():
        return 0.0
    solved = solve(
        replace(program, value=value, row_low=low, row_high=high),
        Solver.GLOP,
        seconds=max(end - time.monotonic(), 0.01),
    )
    return sign * solved.objective if solved.answer is Answer.OPTIMAL else float("nan")
