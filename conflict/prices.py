"""Prices of the limits: the multipliers at which the Lagrangian bound is least.

The bound is convex in the prices and one pass over the candidates gives it and its slope. Prices are found
on random samples of users first, each eight times the last; a sample tells the box in which those of the
next will be. Inside a box nearly every user's best reply is settled, so the search goes on among the others
only, in nested boxes each a twelfth of the last, by L-BFGS-B (Byrd, Lu, Nocedal and Zhu, 1995), until a
linear program over the replies still open gives the last digits. A box that turns out too small at an edge
is moved and widened there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from conflict.alike import Sorts, dealt, sorts_of
from conflict.core import Core, core_of, relax
from conflict.descend import descend
from conflict.newton import Newton
from conflict.problem import Floats, Mask, Problem, Rules
from conflict.reply import Box, Crowd, Here, Worth, worth

#: limits from which on prices are found by Newton's method, if each has so many candidates
_MANY, _MANY_EACH = 150, 150
#: candidates of the first sample, at least; and how many for each limit
_SAMPLE, _SAMPLE_LIMIT = 4_000, 60
#: samples are no larger than half of this; where ties are known, those still open are sampled next
_LARGEST, _LARGEST_TIED = 40_000_000, 8_000_000
#: each sample is so many times the last
_GROWTH = 8
#: most candidates whose replies go to the linear program
_LINEAR = 6_000
#: most columns of a program of sorts of users
_SORTS = 30_000
#: the same where each stands for so many replies at least: ties make such programs quick
_SORTS_TIED, _ALIKE = 120_000, 3.0
#: errors of a sample's prices that the next box reaches; among ties the first two, where prices jump
_SURE, _SURE_TIED = 3.0, (6.0, 0.75)
#: open candidates among ties from which on a sample of them says where to look
_OPEN = 1_000_000
#: typical prices from 0 within which the best are looked for, in samples and in the whole
_FAR_SAMPLE, _FAR = 1e2, 1e5
#: typical prices beyond which limits are asked whether they contradict each other
_STRANGE = 30.0
#: most candidates among which sorts of users are looked for where ties keep them open
_TIED = 4_000_000
#: part of the candidates that a box must settle
_SHRINKING = 0.7
#: widest box, in typical prices, in which a program on a sample is asked, and candidates of that sample
_LINEAR_BOX, _LINEAR_SAMPLE = 1.0, 8_000
#: each nested box is so much smaller
_SHRINK = 12.0
#: nested boxes, at most
_DEEPEST = 9
#: steps after which a search for prices settles for what it has
_STEPS = 60


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What one unit of each limit is worth."""

    #: ≥ 0 for a ceiling, ≤ 0 for a floor, in value per unit, [L]
    values: Floats
    #: how far from there the best ones may be, [L]
    spread: Floats
    #: whether the last linear program found them exact
    exact: bool
    #: the users left open in each nested box, widest first, and the box
    levels: tuple[tuple[Problem, Box], ...] = ()
    #: what users open in the narrowest box take in the linear program, rounded, [its n]; None when not exact
    taken: Mask | None = None
    #: whose choice there is whole, [its users]
    whole: Mask | None = None
    #: prices ran so far away that limits may contradict each other
    diverging: bool = False
    #: replies that each column of the last program stood for
    alike: float = 1.0


def bound_of(rules: Rules, prices: Floats, at: Worth, elsewhere: float = 0.0) -> float:
    """The Lagrangian bound: what users get at these prices, and what the limits are worth."""
    some = prices != 0
    side = np.where(prices > 0, rules.at_most, rules.at_least)
    return float(at.net + elsewhere + np.sum(prices[some] * side[some]))


def find_prices(
    crowd: Crowd,
    *,
    seed: int,
    end: float,
    start: Prices | None = None,
    trusting: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Prices:
    """Prices of the least bound, from `start` or from samples drawn by `seed`; until `end` (monotonic).

    Stops where prices diverge, unless `trusting` that limits do not contradict each other.
    """
    first = max(_SAMPLE, _SAMPLE_LIMIT * crowd.rules.limits)
    sample = crowd.sample(min(first, crowd.size), seed)
    units = units_of(sample)
    if start is None and crowd.rules.limits > _MANY and crowd.size > _MANY_EACH * crowd.rules.limits:
        return _by_newton(crowd, sample, units, seed=seed, end=end, trusting=trusting, say=say)
    if start is None:
        start = Prices(values=np.zeros(units.size), spread=2.0 * units, exact=False)
        size = first
        while 2 * size < min(crowd.size, _largest(start)) and time.monotonic() < end:
            part = sample if size == first else crowd.sample(size, seed + size)
            found = settle(Here(problem=part), start, units, _FAR_SAMPLE, seed=seed, end=end, say=say)
            if (np.abs(found.values) > _STRANGE * units).any() and not trusting:
                return replace(found, diverging=True)
            if start.exact:
                sure = _SURE_TIED[0] if found.alike >= _ALIKE else _SURE
                spread = sure * _error(found.values, start.values, units)
            else:
                spread = 0.3 * np.maximum(np.abs(found.values), 0.1 * units)
            start = replace(found, spread=spread, levels=(), taken=None, whole=None)
            say(f"prices of a sample of {part.size:,} candidates")
            size *= _GROWTH
    return settle(crowd, start, units, _FAR, seed=seed, end=end, say=say)


def _largest(start: Prices) -> int:
    return _LARGEST_TIED if start.alike >= _ALIKE else _LARGEST


def _error(found: Floats, before: Floats, units: Floats) -> Floats:
    """About how far off prices of a sample are, from those of one before, `_GROWTH` times smaller, [L]."""
    # the error of a sample's prices shrinks with the root of its size
    moved = np.abs(found - before)
    scale = float(np.sqrt(np.sum((moved / units) ** 2) / max(1, units.size)))
    return np.asarray(np.maximum(moved, scale * units) / np.sqrt(_GROWTH), np.float64)


def _by_newton(
    crowd: Crowd, sample: Problem, units: Floats, *,
    seed: int, end: float, trusting: bool, say: Callable[[str], None],
) -> Prices:  # fmt: skip
    """Where limits are so many that some always press against any box."""
    typical = float(np.mean(np.abs(sample.value))) or 1.0
    least, most = ends(crowd.rules, units * _FAR_SAMPLE)
    search = Newton(
        crowd=crowd, units=units, typical=typical, least=least, most=most, seed=seed,
        values=np.zeros(units.size), width=typical, say=say,
    )  # fmt: skip

    def strange(values: Floats) -> bool:
        return not trusting and bool((np.abs(values) > _STRANGE * units).any())

    search.samples(end, strange)
    none = Prices(values=search.values, spread=np.zeros(units.size), exact=False)
    if strange(search.values):
        return replace(none, diverging=True)
    search.everybody(end)
    box = search.box()
    return replace(none, values=box.at, spread=(box.high - box.low) / 2, levels=((crowd.narrowed(box), box),))


def units_of(problem: Problem) -> Floats:
    """A typical price: what a candidate is worth for what it uses, [L]."""
    typical = float(np.mean(np.abs(problem.value))) if problem.size else 1.0
    units = np.full(problem.rules.limits, typical or 1.0)
    for limit in range(units.size):
        usage = np.abs(problem.usage(limit))
        if usage.any():
            units[limit] /= float(usage[usage > 0].mean())
    return units


def pool_of(crowd: Crowd, prices: Prices, most: int) -> tuple[Prices, Problem]:
    """Whose integers are decided: everybody, or those open in the widest box with `most` candidates at most.

    With the prices, which know that box.
    """
    if isinstance(crowd, Here) and crowd.size <= most:
        return prices, crowd.problem
    if not prices.levels:
        at = prices.values
        # a cluster hands over no more than it must
        half = prices.spread if isinstance(crowd, Here) else np.zeros(at.size)
        box = Box(at=at, low=at - half, high=at + half)
        prices = replace(prices, levels=((crowd.narrowed(box), box),))
    fitting = [level for level, _ in prices.levels if level.size <= most]
    return prices, fitting[0] if fitting else prices.levels[-1][0]


def start_of(pool: Problem, prices: Prices) -> Mask:
    """What everybody takes at the prices, and in the linear program who is open in the last box, [pool]."""
    chosen = np.zeros(pool.size, np.bool_)
    worth(pool, prices.values, chosen)
    if prices.taken is None or prices.whole is None or not prices.levels:
        return chosen
    open_ = prices.levels[-1][0]
    if open_.origin is None or not open_.size:
        return chosen
    at = open_.origin if pool.origin is None else np.searchsorted(pool.origin, open_.origin)
    at = at[np.repeat(prices.whole, np.diff(open_.starts))]
    users = np.unique(np.searchsorted(pool.starts, at, side="right") - 1)
    for_open = np.zeros(pool.users, np.bool_)
    for_open[users] = True
    taken = np.flatnonzero(chosen)
    chosen[taken[for_open[np.searchsorted(pool.starts, taken, side="right") - 1]]] = False
    chosen[at[prices.taken[np.repeat(prices.whole, np.diff(open_.starts))]]] = True
    return chosen


def settle(
    crowd: Crowd,
    start: Prices,
    units: Floats,
    far: float,
    *,
    seed: int,
    end: float,
    say: Callable[[str], None] = lambda _: None,
) -> Prices:
    """The best prices no further than `far` typical ones from 0, looked for around `start` first."""
    least, most = ends(crowd.rules, units * far)
    box = _box(start.values, start.spread, least, most)
    # the problem in ever smaller boxes: each holds the next
    nest: list[tuple[Crowd, Box]] = [(crowd, Box(at=box.at, low=least, high=most))]
    best, exact, taken, whole = box.at, False, None, None
    last: tuple[Here, Box] | None = None
    moved, alike, tied = 0, start.alike, start.alike >= _ALIKE
    for _ in range(_STEPS):
        if time.monotonic() >= end:
            break
        outer, held = nest[-1]
        box = Box(at=box.at, low=np.maximum(box.low, held.low), high=np.minimum(box.high, held.high))
        if tied and len(nest) == 1:
            # among ties a descent is slow and coarse; a narrower box is as good, from one that has room
            half = (box.high - box.low) / 2
            wide = _box(box.at, _SURE_TIED[0] / _SURE_TIED[1] * half, least, most) if moved else box
            nest.append((Here(problem=outer.narrowed(wide)), wide))
            box = box if moved else _guess(nest[-1][0], wide, units, far, alike, seed=seed + 1, end=end)
            continue
        inner, shrink = outer.narrowed(box), _SHRINK
        if len(nest) == 1:
            last = (Here(problem=inner), box)
        near = float(np.sum((box.high - box.low) / units)) < _LINEAR_BOX * max(1, units.size)
        tight = tied or moved > 1 or (inner.size >= _SHRINKING * outer.size and near)
        sorts = _sorts(inner, box, _TIED if tight else _LINEAR)
        relaxed = relax(sorts[1].core, box) if sorts is not None else None
        if relaxed is not None and sorts is not None:
            best, stuck, columns = relaxed
            alike = sorts[0].value.size / max(1, columns.size)
        else:
            best, stuck = descend(inner, box)
            stuck &= _edges(best, box, least, most)
            if stuck.any() and moved and near:
                # where ties make the bound too edgy for a descent, a program on a sample is not misled
                part = Here(problem=inner).sample(_LINEAR_SAMPLE, seed + len(nest))
                told = relax(core_of(part, box), box)
                best, stuck = told[:2] if told is not None else (best, stuck)
                shrink = _SHRINK / 3
        exact = relaxed is not None
        stuck &= _edges(best, box, least, most)
        say(f"prices among {inner.size:,} candidates still open")
        if exact and not stuck.any():
            nest.append((Here(problem=inner), box))
            if sorts is not None:
                taken, whole = dealt(*sorts, columns, seed)
            break
        if stuck.any():
            # the best lies outside: move there, wider, from the problem that still holds it
            half = np.where(stuck, 4.0 if moved < 4 else 12.0, 1.0) * (box.high - box.low) / 2
            box = _box(best, half, least, most)
            while len(nest) > 1 and not (
                _holds(nest[-1][1], box) or (tied and not _edges(best, nest[-1][1], least, most).any())
            ):
                nest.pop()
            exact, moved = False, moved + 1
            continue
        if len(nest) > _DEEPEST:
            # what is still open is too much for a program and does not get less
            break
        nest.append((Here(problem=inner), box))
        moved = 0
        box = _box(best, (box.high - box.low) / 2 / shrink, least, most)
    if len(nest) == 1 and last is not None:
        nest.append(last)
    levels = tuple((level.problem, held) for level, held in nest[1:] if isinstance(level, Here))
    return Prices(
        values=best, spread=(box.high - box.low) / 2, exact=exact, levels=levels, taken=taken, whole=whole,
        alike=alike,
    )  # fmt: skip


def _guess(
    inner: Crowd, box: Box, units: Floats, ends: float, alike: float, *, seed: int, end: float
) -> Box:  # fmt: skip
    """Where among ties the best prices in a box probably are, by a sample of those open if they are many."""
    far, close = _SURE_TIED
    near, at = (box.high - box.low) / 2 * close / far, box.at
    if inner.size > _OPEN:
        part = inner.sample(inner.size // _GROWTH, seed)
        told = Prices(values=at, spread=(box.high - box.low) / 2, exact=True, alike=alike)
        found = settle(Here(problem=part), told, units, ends, seed=seed, end=end)
        if found.exact:
            near = np.minimum(near, close * _error(found.values, at, units))
            at = found.values
    return _box(at, near, box.low, box.high)


def _sorts(inner: Problem, box: Box, most: int) -> tuple[Core, Sorts] | None:
    """The replies still open and the sorts of users they make; None where that is too much for a program."""
    if inner.size > most:
        return None
    core = core_of(inner, box)
    if core.rivals.cut:
        return None
    sorts = sorts_of(core)
    columns = sorts.core.value.size
    fits = columns <= _SORTS or (columns <= _SORTS_TIED and core.value.size >= _ALIKE * columns)
    return (core, sorts) if fits else None


def ends(rules: Rules, far: Floats) -> tuple[Floats, Floats]:
    """Between which each price must be: no less than a floor's penalty, no more than a ceiling's."""
    dearest = np.minimum(rules.penalty, far)
    return (
        np.where(np.isfinite(rules.at_least), -dearest, 0.0),
        np.where(np.isfinite(rules.at_most), dearest, 0.0),
    )


def _box(at: Floats, half: Floats, least: Floats, most: Floats) -> Box:
    at = np.clip(at, least, most)
    return Box(at=at, low=np.maximum(at - half, least), high=np.minimum(at + half, most))


def _edges(at: Floats, box: Box, least: Floats, most: Floats) -> Mask:
    """Where prices press against an edge of the box that is not an end of what prices may be."""
    tiny = 1e-9 * (box.high - box.low)
    below = (at <= box.low + tiny) & (box.low > least)
    above = (at >= box.high - tiny) & (box.high < most)
    return below | above


def _holds(outer: Box, inner: Box) -> bool:
    return bool((inner.low >= outer.low).all() and (inner.high <= outer.high).all())
