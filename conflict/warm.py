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

from conflict.alike import dealt, sorts_of
from conflict.core import core_of, program_of
from conflict.prices import Prices, bound_of
from conflict.problem import Floats, Mask, Problem, Rules
from conflict.programs import Solver, solve
from conflict.reply import Box, Here, Worth, narrowed, worth

#: most kinds × amounts for which tolls are looked at one by one
CELLS = 2_000
#: a small problem's first sample is such a part of it
_FIRST = 6
#: candidates of the first sample, and open ones that the next shall have
_SAMPLE, _OPEN = 12_000, 5_000
#: most columns that go to the linear program, and most candidates whose replies are looked at for it
_COLUMNS, _OPENED = 12_000, 40_000
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

    def room(self, at: Floats, half: Floats) -> Floats:
        """As wide a box around some tolls, up to `half`, as this one holds."""
        return np.minimum(half, self.half - np.abs(at - self.at))

    @staticmethod
    def whole(problem: Problem, tolls: Tolls) -> Level:
        cells = tolls.of.shape[1]
        return Level(
            problem=problem,
            at=np.zeros(cells),
            half=np.full(cells, np.inf),
            used=np.zeros(problem.rules.limits),
        )

    def worth(self, prices: Floats, whole: Problem) -> Worth:
        """What the best replies of everybody come to, if these prices are in the box."""
        here = worth(self.problem, prices)
        settled = self.problem.elsewhere - whole.elsewhere
        return Worth(
            net=here.net + settled - float(prices @ self.used),
            gross=here.gross + settled,
            use=here.use + self.used,
        )

    def within(self, tolls: Tolls, prices: Floats, half: Floats) -> Level:
        problem, used = tolls.narrowed(self.problem, prices, half)
        return Level(problem=problem, at=tolls.at(prices), half=half, used=self.used + used)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The answer of a linear program over the replies that are open in a box of tolls."""

    #: [L]
    prices: Floats
    #: whether they would go on past the edge of the box
    pressed: bool
    #: who is open
    part: Problem
    #: what they take, rounded, [its n], and whose choice was whole, [its users]; None for a sample
    taken: Mask | None = None
    decided: Mask | None = None


@dataclass(frozen=True, kw_only=True)
class Warm:
    """Prices found again."""

    #: with the users left open in the last box, and what they take, where all of them were in one program
    prices: Prices
    #: what all best replies come to at them
    at: Worth
    #: no choice is worth more
    bound: float
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
    at: Worth | None = None,
    say: Callable[[float], None] = lambda _: None,
) -> Warm:
    """Prices of the least bound, looked for around `start` [L] until `end` (monotonic).

    Once a step gains a small part of `gap` only, the next is the last. `levels` is the whole problem and
    narrower ones of it, under its bounds; `at` is what replies come to at `start`, where that is known; `say`
    is told each bound.
    """
    levels = list(levels)
    whole = levels[0].problem
    typical = typical_of(whole, tolls)
    best, radius, steps, last = start, _RADIUS, 0, False
    size = min(_SAMPLE, whole.size // _FIRST)
    _fit(levels, tolls.at(start), np.zeros(typical.size))
    at = levels[-1].worth(start, whole) if at is None else at
    bound = bound_of(whole.rules, start, at, whole.elsewhere)
    say(bound)
    found: _Found | None = None
    while steps < _STEPS and time.monotonic() < end:
        steps += 1
        half = radius * (np.abs(tolls.at(best)) + _FLOOR * typical)
        _fit(levels, tolls.at(best), half)
        now = levels[-1].problem
        all_ = last or 2 * size >= now.size
        steered = (
            now if all_ else _steered(Here(problem=now).sample(size, seed + steps), now, whole, best, at)
        )
        found, open_ = _follow(steered, tolls, best, half, seed, whole=all_)
        if found is None:
            radius, size = radius / 3, max(_SAMPLE // _FIRST, size // 2)
            continue
        prices = found.prices
        reach = np.abs(tolls.at(best)) + _FLOOR * typical
        moved = float(np.max(np.abs(tolls.at(prices) - tolls.at(best)) / reach, initial=0.0))
        wide = radius
        if found.pressed:
            radius = radius if all_ and open_ > _COLUMNS // 2 else 2 * radius
        else:
            radius = float(np.clip(_SHRINK * moved, 0.05 * radius, 0.5 * radius))
        half = radius * (np.abs(tolls.at(prices)) + _FLOOR * typical)
        _fit(levels, tolls.at(prices), half)
        part = max(open_, 50) / steered.size
        share = part * radius / wide
        narrower = not all_ and share < _WORTHWHILE and levels[-1].problem.size > 2 * _OPEN
        if narrower:
            # who is settled around the new prices need not be asked what it does there
            levels.append(levels[-1].within(tolls, prices, levels[-1].room(tolls.at(prices), _ROOM * half)))
        new = levels[-1].worth(prices, whole)
        gained = bound - bound_of(whole.rules, prices, new, whole.elsewhere)
        if gained > 0:
            best, bound, at = prices, bound - gained, new
            say(bound)
        elif narrower:
            levels.pop()
        if all_ and not found.pressed:
            break
        if not all_ and not found.pressed and abs(gained) < _LITTLE * gap * abs(bound):
            # from here on programs hold everybody: they say what they take, too
            last, radius = True, min(radius, wide * _OPEN / (part * now.size))
        size = int(np.clip(_OPEN * (_ROOM if narrower and gained > 0 else 1.0 / share), _SAMPLE, whole.size))
        if found.pressed:
            # far from there yet: a sample is followed further in one step
            size = min(size, levels[-1].problem.size // 3)
    exact = found is not None and found.taken is not None and not found.pressed
    told = replace(found, prices=best) if found is not None and exact else None
    prices_ = Prices(values=best, spread=np.zeros(best.size), exact=exact)
    if told is not None:
        box = Box(at=best, low=best, high=best)
        prices_ = replace(prices_, levels=((told.part, box),), taken=told.taken, whole=told.decided)
    return Warm(prices=prices_, at=at, bound=bound, levels=tuple(levels), steps=steps)


def _fit(levels: list[Level], at: Floats, half: Floats) -> None:
    """Drops the levels that do not hold a box of tolls."""
    while len(levels) > 1 and not levels[-1].holds(at, half):
        levels.pop()


def _follow(
    problem: Problem, tolls: Tolls, start: Floats, half: Floats, seed: int, *, whole: bool
) -> tuple[_Found | None, int]:
    """The best prices, and how many candidates were open.

    A sample is cheap: there the box moves along with the prices until they press no more.
    """
    found, open_ = None, 0
    for _ in range(1 if whole else _MOVES):
        part = tolls.narrowed(problem, start, half)[0]
        now = _program(part, tolls, start, half, seed, whole=whole) if part.size <= _OPENED else None
        if now is None:
            break
        found, open_ = now, part.size
        start = now.prices
        if not now.pressed:
            break
        if part.size < _COLUMNS // 8:
            half = 2.0 * half
    return found, open_


def typical_of(problem: Problem, tolls: Tolls) -> Floats:
    """What a candidate is worth for one and for a unit of each amount, by cell."""
    worth_ = float(np.mean(np.abs(problem.value[:100_000]))) if problem.size else 1.0
    rows = [1.0, *(float(np.mean(np.abs(each[:100_000]))) if each.size else 1.0 for each in problem.amounts)]
    return np.repeat([worth_ / (row or 1.0) for row in rows], tolls.rules.kinds)


def _steered(sample: Problem, problem: Problem, whole: Problem, prices: Floats, at: Worth) -> Problem:
    """A sample of a level; its bounds are as far from what it uses at the prices as everybody's, in part.

    `at` is what the best replies of everybody come to.
    """
    share = sample.users / problem.users
    mine = worth(sample, prices).use
    rules = whole.rules
    return sample.bounded(
        mine + share * (rules.at_most - at.use), mine + share * (rules.at_least - at.use), 0.0
    )


def _program(
    part: Problem, tolls: Tolls, at: Floats, half: Floats, seed: int, *, whole: bool
) -> _Found | None:
    """Prices with tolls in the box at which open replies are worth least; None where those are too many."""
    cells = tolls.at(at)
    core = core_of(replace(part, rules=tolls.rules), Box(at=cells, low=cells - half, high=cells + half))
    core = replace(core, problem=part, use=tolls.of @ core.use, used=tolls.of @ core.used)
    # without every reply that is open it is as good as a sample
    sorts = sorts_of(core) if whole and not core.rivals.cut else None
    some = core if sorts is None else sorts.core
    real = some.value.size
    if real > _COLUMNS:
        return None
    used = np.flatnonzero(tolls.of.any(axis=0))
    # a unit bought at the lowest toll or sold at the highest keeps tolls between them
    virtual = tolls.of[:, used]
    both = replace(
        some,
        value=np.r_[some.value, (cells - half)[used], -(cells + half)[used]],
        use=np.hstack([some.use, virtual, -virtual]),
        owner=np.r_[some.owner, part.users + real + np.arange(2 * used.size)],
        times=None if some.times is None else np.r_[some.times, np.ones(2 * used.size, np.int64)],
    )
    rules, base = part.rules, core.used
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
    pressed = bool((solved.x[real : both.value.size] > 1e-7).any())
    taken, decided = (None, None) if sorts is None else dealt(core, sorts, solved.x[:real], seed)
    return _Found(prices=prices, pressed=pressed, part=part, taken=taken, decided=decided)
