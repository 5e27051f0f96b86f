"""Prices after bounds have changed, from those before.

Prices of limits that overlap can move far while what each candidate pays hardly does, so the search is held
in a box around those *tolls*, one for each kind and amount. Each step solves a linear program over the
replies of a sample of users that are open in the box. The sample's bounds are such that it uses at the last
prices as much of its own as everybody does of theirs: what is left of the error is second order (control
variates). As the box shrinks the samples grow, until the last one is everybody and the prices are exact.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from conflict.core import core_of, program_of
from conflict.prices import bound_of
from conflict.problem import Floats, Problem, Rules
from conflict.programs import Solver, solve
from conflict.reply import Box, Here, Worth, narrowed, worth

#: most kinds × amounts for which tolls are looked at one by one
CELLS = 2_000
#: a small problem's first sample is such a part of it
_FIRST = 6
#: candidates of the first sample, and open ones that the next shall have
_SAMPLE, _OPEN = 12_000, 5_000
#: most columns that go to the linear program
_COLUMNS = 12_000
#: part of a toll by which it may move in the first step; part of a step's move by which the next may move
_RADIUS, _SHRINK = 0.1, 0.25
#: part of a typical toll that is added, so that a toll of 0 may move
_FLOOR = 0.1
#: a level is so many times wider than the next box
_ROOM = 3.0
#: part of a level that must be open at most so that a narrower one is worth its time
_WORTHWHILE = 0.25
#: part of the gap by which a step must better the bound to be followed by another
_LITTLE = 0.1
#: programs of one sample, at most
_MOVES = 8
#: steps, at most
_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class Tolls:
    """A problem whose limits are replaced by one for each kind and amount, so that prices are tolls."""

    #: what each unit in a cell uses of each limit, [L, cells]
    of: Floats
    rules: Rules

    @staticmethod
    def of_rules(rules: Rules, rows: int) -> Tolls:
        kinds = rules.kinds
        summed = np.repeat(np.arange(1 + rows), kinds)
        kind = np.tile(np.arange(kinds), 1 + rows)
        of = rules.member[kind].T & (rules.summed[:, None] == summed[None, :])
        size = summed.size
        free = np.full(size, np.inf)
        member = np.arange(kinds)[:, None] == kind[None, :]
        mine = replace(
            rules, member=member, summed=summed, at_most=np.zeros(size), at_least=np.zeros(size), penalty=free
        )
        return Tolls(of=of.astype(np.float64), rules=mine)

    def at(self, prices: Floats) -> Floats:
        """[cells]"""
        return prices @ self.of

    def narrowed(self, problem: Problem, prices: Floats, half: Floats) -> tuple[Problem, Floats]:
        """Who is open within `half` [cells] of the tolls at some prices, and what the others use, [L]."""
        at = self.at(prices)
        box = Box(at=at, low=at - half, high=at + half)
        left = narrowed(replace(problem, rules=self.rules), box)
        used = self.of @ -left.rules.at_most
        rules = problem.rules
        return replace(
            left,
            rules=replace(rules, at_most=rules.at_most - used, at_least=rules.at_least - used),
        ), used


@dataclass(frozen=True, kw_only=True)
class Level:
    """A problem that answers for the whole while tolls stay in a box."""

    problem: Problem
    #: middle and half width of the box, [cells]
    at: Floats
    half: Floats
    #: what those use of each limit who are settled, [L]
    used: Floats

    def holds(self, at: Floats, half: Floats) -> bool:
        return bool((np.abs(at - self.at) + half <= self.half).all())

    @staticmethod
    def whole(problem: Problem, tolls: Tolls) -> Level:
        cells = tolls.of.shape[1]
        return Level(
            problem=problem,
            at=np.zeros(cells),
            half=np.full(cells, np.inf),
            used=np.zeros(problem.rules.limits),
        )

    def within(self, tolls: Tolls, prices: Floats, half: Floats) -> Level:
        problem, used = tolls.narrowed(self.problem, prices, half)
        return Level(problem=problem, at=tolls.at(prices), half=half, used=self.used + used)


@dataclass(frozen=True, kw_only=True)
class Warm:
    """Prices found again."""

    #: [L]
    values: Floats
    #: no choice is worth more
    bound: float
    #: the last program held everybody and pressed against no edge of its box
    exact: bool
    #: how far the tolls of the best prices may be, [cells]
    half: Floats
    #: the whole problem and narrower ones that hold them
    levels: tuple[Level, ...]
    steps: int


def renewed(
    levels: list[Level],
    tolls: Tolls,
    start: Floats,
    *,
    seed: int,
    end: float,
    gap: float = 0.0,
    say: Callable[[float], None] = lambda _: None,
) -> Warm:
    """Prices of the least bound, looked for around `start` [L] until `end` (monotonic).

    Ends before they are exact where a step gains a small part of `gap` only. `levels` is the whole problem
    and narrower ones of it, under its bounds; `say` is told each bound.
    """
    levels = list(levels)
    typical = typical_of(levels[0].problem, tolls)
    best, radius, exact, steps = start, _RADIUS, False, 0
    size = min(_SAMPLE, levels[0].problem.size // _FIRST)
    _fit(levels, tolls.at(start), np.zeros(typical.size))
    at = worth(levels[-1].problem, start)
    bound = bound_of(levels[-1].problem.rules, start, at, levels[-1].problem.elsewhere)
    say(bound)
    while steps < _STEPS and time.monotonic() < end:
        steps += 1
        reach = np.abs(tolls.at(best)) + _FLOOR * typical
        _fit(levels, tolls.at(best), radius * reach)
        now = levels[-1].problem
        whole = 2 * size >= now.size
        steered = now
        if not whole:
            at = worth(now, best)
            steered = _steered(Here(problem=now).sample(size, seed + steps), now, best, at)
        prices, pressed, open_ = _follow(steered, tolls, best, radius * reach, whole=whole)
        if prices is None:
            radius, size = radius / 3, max(_SAMPLE // _FIRST, size // 2)
            continue
        moved = float(np.max(np.abs(tolls.at(prices) - tolls.at(best)) / reach, initial=0.0))
        _fit(levels, tolls.at(prices), np.zeros(typical.size))
        now = levels[-1].problem
        new = bound_of(now.rules, prices, worth(now, prices), now.elsewhere)
        gained = bound - new
        if gained > 0:
            best, bound = prices, new
            say(bound)
        if not pressed and (whole or abs(gained) < _LITTLE * gap * abs(bound)):
            exact = whole
            break
        wide = radius
        radius = 2 * radius if pressed else float(np.clip(_SHRINK * moved, 0.05 * radius, 0.5 * radius))
        half = radius * (np.abs(tolls.at(best)) + _FLOOR * typical)
        _fit(levels, tolls.at(best), half)
        share = max(open_, 50) / steered.size * radius / wide
        if share < _WORTHWHILE and levels[-1].problem.size > 2 * _OPEN:
            levels.append(levels[-1].within(tolls, best, _ROOM * half))
            share = 1.0 / _ROOM
        size = int(np.clip(_OPEN / share, _SAMPLE, levels[0].problem.size))
    return Warm(
        values=best, bound=bound, exact=exact, half=radius * typical, levels=tuple(levels), steps=steps
    )


def _fit(levels: list[Level], at: Floats, half: Floats) -> None:
    """Drops the levels that do not hold a box of tolls."""
    while len(levels) > 1 and not levels[-1].holds(at, half):
        levels.pop()


def _follow(
    problem: Problem, tolls: Tolls, start: Floats, half: Floats, *, whole: bool
) -> tuple[Floats | None, bool, int]:
    """The best prices, whether they press against the box, and how many candidates were open.

    A sample is cheap: there the box moves along with the prices until they press no more.
    """
    prices, pressed, open_ = None, True, 0
    for _ in range(1 if whole else _MOVES):
        part, _ = tolls.narrowed(problem, start, half)
        found = _program(part, tolls, start, half) if part.size <= _COLUMNS else None
        if found is None:
            break
        prices, pressed = found
        start, open_ = prices, part.size
        if not pressed:
            break
        if part.size < _COLUMNS // 8:
            half = 2.0 * half
    return prices, pressed, open_


def typical_of(problem: Problem, tolls: Tolls) -> Floats:
    """What a candidate is worth for one and for a unit of each amount, by cell."""
    worth_ = float(np.mean(np.abs(problem.value[:100_000]))) if problem.size else 1.0
    rows = [1.0, *(float(np.mean(np.abs(each[:100_000]))) if each.size else 1.0 for each in problem.amounts)]
    return np.repeat([worth_ / (row or 1.0) for row in rows], tolls.rules.kinds)


def _steered(sample: Problem, problem: Problem, prices: Floats, at: Worth) -> Problem:
    """A sample with bounds as far from what it uses at the prices as everybody's are, in proportion."""
    share = sample.users / problem.users
    mine = worth(sample, prices).use
    return sample.bounded(
        mine + share * (problem.rules.at_most - at.use), mine + share * (problem.rules.at_least - at.use), 0.0
    )


def _program(part: Problem, tolls: Tolls, at: Floats, half: Floats) -> tuple[Floats, bool] | None:
    """Prices with tolls in the box at which the open replies are worth least; whether they press its edge."""
    cells = tolls.at(at)
    core = core_of(replace(part, rules=tolls.rules), Box(at=cells, low=cells - half, high=cells + half))
    if core.value.size > _COLUMNS:
        return None
    used = np.flatnonzero(tolls.of.any(axis=0))
    # a unit bought at the lowest toll or sold at the highest keeps tolls between them
    virtual = tolls.of[:, used]
    real = core.value.size
    both = replace(
        core,
        problem=part,
        value=np.r_[core.value, (cells - half)[used], -(cells + half)[used]],
        use=np.hstack([tolls.of @ core.use, virtual, -virtual]),
        owner=np.r_[core.owner, part.users + np.arange(2 * used.size)],
    )
    rules, base = part.rules, tolls.of @ core.used
    program = program_of(
        both, rules.at_least - base, rules.at_most - base, rules.penalty, rules.penalty, whole=False
    )
    high = program.high.copy()
    high[real : both.value.size] = np.inf
    solved = solve(replace(program, high=high), Solver.GLOP, seconds=30.0)
    if solved.prices is None or solved.x is None:
        return None
    prices = solved.prices[: rules.limits]
    prices = np.where(np.isinf(rules.at_most), np.minimum(prices, 0.0), prices)
    prices = np.where(np.isinf(rules.at_least), np.maximum(prices, 0.0), prices)
    prices = np.clip(np.where(np.abs(prices) < 1e-12, 0.0, prices), -rules.penalty, rules.penalty)
    return prices, bool((solved.x[real : both.value.size] > 1e-7).any())
