"""Better choices near the one at hand, among the columns of a core.

Four ways: the best pair of changes, again and again; the same after a few random changes; single changes that
may pass limits for a while; and branch and cut over some hundred columns with all others held (large
neighbourhood search, Shaw, 1998), drawn either at random or so that only a few limits are touched, where few
dimensions have to fit. Under very many limits: what a linear program takes whole, then up to four changes at
one limit after the other, also after a random one. All ways share their state, so they stand in one file.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_matrix

from conflict import fours, pairs, swaps
from conflict.core import Core, columns_of, relax, whole_program
from conflict.problem import Floats, Ints, Mask
from conflict.programs import Answer, Solver, solve
from conflict.reply import Box
from conflict.roam import roam

#: steps of one descent, from a start and from a kick
_STEPS, _KICK_STEPS = 400, 30
#: columns up to which a kick may take all its steps
_PAIRED = 2_000
#: seconds of one call
_SLICE = 0.3
#: columns of the first neighbourhood, the least, and the most
_FIRST, _LEAST, _MOST = 150, 40, 600
#: columns × limits from which on pairs are looked for limit by limit
_WIDE = 200_000
#: columns of one limit among which pairs are looked for at a time, and in a round of random changes
_AT_LIMIT, _SHAKEN = 120, 40
#: columns of one limit of which up to four change at a time, and in a round of forced changes
_FOURS, _FORCED = 120, 60
#: part of what a round of fours has gained at best that the next shall gain; limits of one call
_WORTHWHILE, _AT_ONCE = 0.02, 20
#: part of the time left that a linear program over the core may take, and how far prices may move in it,
#: as part of themselves and of typical ones
_RELAXING, _MOVING = 0.3, (0.5, 0.001)
#: typical prices that passing one of very many limits costs at first
_GENTLE = 3.0
#: seconds that a pair takes, about
_PAIR = 5e-8
#: limits that a neighbourhood may touch, besides those that do not bind or that nearly all columns touch
_TOUCHED = 8
#: part of the columns that touch a limit which nearly all touch
_BROAD = 0.5
#: columns among which to roam, one of these at random, and beyond which no pairs are looked for after it
_WIDTHS, _NARROW = (60, 100, 150, 225, 350, 600, 1_200, 2_400), 600
#: of the following each roaming draws one: steps, tenure, growth and decline of weights, part of what is left
#: over of limits that counts; and how often it starts from the best
_ROAMS, _TENURES = (500, 2_000, 8_000), (5, 10, 20)
_WEIGHTS = ((1.01, 0.9995), (1.02, 0.998), (1.05, 0.98), (1.1, 0.95))
_PARTS, _AGAIN = (0.05, 0.1, 0.2, 0.3), 0.6
#: numbers looked at in one roaming, about
_WORK = 50_000_000
#: what passing a limit without a price costs, as part of what is typical
_UNPRICED = 0.05
#: no bound is further
_FAR = 1e100


class Improver:
    """What is taken now from one core, and ways to better it."""

    def __init__(self, core: Core, prices: Floats, units: Floats, seed: int, end: float = np.inf) -> None:
        self.core, self.seed, self.end = core, seed, end
        self.rules = core.problem.rules
        users, self.owner = np.unique(core.owner, return_inverse=True)
        #: what each column adds, [c, L], and who touches each limit
        self.change = csr_matrix(core.use.T)
        touch = self.change.tocsc()
        self.firsts, self.members = touch.indptr.astype(np.int64), touch.indices.astype(np.int64)
        #: written out, where that is little
        self.dense = np.ascontiguousarray(core.use.T) if core.use.size <= _WIDE else None
        #: each user's column, or −1
        self.taken: Ints = np.full(users.size, -1)
        # a limit that may not be passed costs far more than anything can gain
        self.hard = np.isinf(self.rules.penalty)
        self.dear = np.where(self.hard, 20.0 * units, self.rules.penalty)
        if self.dense is None:
            # where many limits are passed a little at first, each is drawn in at no more than it is worth
            self.dear = np.where(self.hard, _GENTLE * units, self.rules.penalty)
        self.prices, self.units = prices, units
        #: who touches each limit, those that lose least first
        limit = np.repeat(np.arange(self.rules.limits), np.diff(self.firsts))
        self.near: Ints = self.members[np.lexsort((core.losses[self.members], limit))]
        self.rng = np.random.default_rng(seed)
        self.rounds, self.size = 1, _FIRST
        #: where roaming has come to
        self.reached: Ints = self.taken
        self.order = np.argsort(core.losses, kind="stable")

    @property
    def columns(self) -> Ints:
        return self.taken[self.taken >= 0]

    def choice(self) -> Mask:
        return self.core.choice(self.columns)

    def start(self, columns: Ints) -> None:
        """Go on from these columns and the best pairs, if that is better."""
        taken = np.full(self.taken.size, -1)
        taken[self.owner[columns]] = columns
        if self.dense is None and not columns.size:
            self._round(taken)
        self._descend(taken)

    def _round(self, taken: Ints) -> None:
        """Under very many limits: what the relaxed core takes whole, and up to four changes at each limit."""
        wide = _MOVING[0] * np.abs(self.prices) + _MOVING[1] * self.units
        least = np.where(np.isfinite(self.rules.at_least), -np.inf, 0.0)
        most = np.where(np.isfinite(self.rules.at_most), np.inf, 0.0)
        box = Box(
            at=self.prices,
            low=np.maximum(self.prices - wide, least),
            high=np.minimum(self.prices + wide, most),
        )
        left = min(self.end - time.monotonic(), 1e6)
        relaxed = relax(self.core, box, seconds=_RELAXING * left) if self.owner.size else None
        if relaxed is None:
            return
        whole = np.flatnonzero(relaxed[2] > 1 - 1e-6)
        taken[self.owner[whole]] = whole
        self._fill(taken)

    def kick(self) -> None:
        """The best after some random kicks."""
        if not self.owner.size:
            time.sleep(_SLICE)
            return
        began = time.monotonic()
        self.seed += 1
        if self.dense is None:
            if self._passed(self.taken):
                self._shake()
            else:
                self._force()
            return
        # a step looks at all pairs
        steps = max(3, int(_KICK_STEPS * min(1.0, (_PAIRED / self.owner.size) ** 2)))
        pairs.kick(
            self.dense,
            self.core.value,
            self.owner,
            self.taken,
            *self._bounds(),
            steps,
            self.rounds,
            self.seed,
        )
        took = time.monotonic() - began
        self.rounds = int(np.clip(self.rounds * _SLICE / max(took, 1e-3), 1, 2 * self.rounds))

    def roam(self, within: float = np.inf) -> None:
        """Swing about the brims of the limits among those that lose least and at most `within`.

        Each time in another manner.
        """
        if not self.owner.size:
            time.sleep(_SLICE)
            return
        if self.dense is None:
            # a thousand brims are too many to swing about
            self.kick()
            return
        end = min(time.monotonic() + _SLICE, self.end)
        while time.monotonic() < end:
            self._roam(within)

    def _roam(self, within: float) -> None:
        rng, rules = self.rng, self.rules
        if rng.random() < _AGAIN:
            self.reached = self.taken
        lose = int(np.searchsorted(self.core.losses[self.order], within, side="right"))
        near = self.order[: min(int(rng.choice(_WIDTHS)), lose)]
        here = np.unique(np.r_[near, self.columns, self.reached[self.reached >= 0]])
        if not here.size:
            return
        users, owner = np.unique(self.owner[here], return_inverse=True)
        place = np.full(self.owner.size + 1, -1)
        place[here] = np.arange(here.size)
        change, value = self.change[here].toarray(), self.core.value[here]
        some = change != 0
        now, close = place[self.reached[users]], place[self.taken[users]]
        steps = min(int(rng.choice(_ROAMS)), _WORK // max(1, int(some.sum())))
        grow, shrink = _WEIGHTS[rng.integers(len(_WEIGHTS))]
        holds, worth = self._score(self.taken)
        roam(
            np.searchsorted(owner, np.arange(users.size + 1)), np.r_[0, np.cumsum(some.sum(axis=1))],
            np.nonzero(some)[1], change[some], value, self.core.losses[here], now, self.core.used,
            np.maximum(rules.at_least, -_FAR), np.minimum(rules.at_most, _FAR), rules.penalty,
            *self._weights(), worth if holds else -np.inf, close,
            steps, int(rng.choice(_TENURES)), grow, shrink, int(rng.integers(2**31)),
        )  # fmt: skip
        back = np.r_[here, -1]
        self.reached = np.full(self.taken.size, -1)
        self.reached[users] = back[now]
        if here.size <= _NARROW and change.size <= _WIDE:
            pairs.descend(change, value, owner, close, *self._bounds(), _KICK_STEPS)
        found = np.full(self.taken.size, -1)
        found[users] = back[close]
        if self._score(found) > self._score(self.taken):
            self.taken = found

    def _weights(self) -> tuple[Floats, Floats, Floats]:
        """What roaming pays for a unit past a limit, and for one left below a ceiling or above a floor."""
        units = np.maximum(np.abs(self.prices), _UNPRICED * self.units) * np.exp(self.rng.uniform(-1, 1))
        # the price of what is over is in the losses
        soft = np.maximum(self.dear - np.abs(self.prices), 0.0)
        part = self.prices * self.rng.choice(_PARTS)
        unfilled = np.where(np.isfinite(self.rules.at_most), np.maximum(part, 0.0), 0.0)
        unspent = np.where(np.isfinite(self.rules.at_least), np.maximum(-part, 0.0), 0.0)
        return np.where(self.hard, units, soft), unfilled, unspent

    def look_around(self) -> None:
        """Decide a neighbourhood exactly, all else held."""
        if not self.owner.size:
            time.sleep(_SLICE)
            return
        free = np.zeros(self.taken.size, np.bool_)
        near = self._near() if self.rng.random() < 0.5 else None
        if near is None:
            near = self._least(np.arange(self.owner.size))
        free[self.owner[near]] = True
        # whoever is free may also keep what there is
        some = np.union1d(near, self.columns[free[self.owner[self.columns]]])
        held = self.columns[~free[self.owner[self.columns]]]
        part = replace(self.core.only(some), used=self._used(held))
        seconds = min(_SLICE, max(self.end - time.monotonic(), 0.01))
        solved = solve(whole_program(part), Solver.HIGHS, seconds=seconds, seed=self.seed)
        columns, quick = columns_of(part, solved), solved.answer is Answer.OPTIMAL
        self.size = int(np.clip(self.size * (1.2 if quick else 0.85), _LEAST, _MOST))
        if columns is not None:
            self.start(np.r_[held, some[columns]])

    def _near(self) -> Ints | None:
        """Columns that touch only a few of the limits that bind, those that lose least; None when too few."""
        part = np.diff(self.firsts) / max(1, self.owner.size)
        binding = np.flatnonzero((self.prices != 0) & (part < _BROAD))
        if binding.size <= _TOUCHED:
            return None
        others = np.zeros(part.size)
        others[np.setdiff1d(binding, self.rng.choice(binding, _TOUCHED, replace=False))] = 1.0
        inside = np.flatnonzero(abs(self.change) @ others == 0)
        if inside.size < _LEAST:
            return None
        return self._least(inside)

    def _least(self, some: Ints) -> Ints:
        """Of some columns those that lose least, with luck in it."""
        luck = self.rng.exponential(1.0, some.size)
        return np.sort(some[np.argsort(self.core.losses[some] * luck, kind="stable")[: self.size]])

    def _bounds(self) -> tuple[Floats, Floats, Floats, Floats]:
        return self.core.used, self.rules.at_least, self.rules.at_most, self.dear

    def _descend(self, taken: Ints) -> None:
        """The best pairs from `taken`; kept if better than what is taken now."""
        for _ in range(4 if self.owner.size else 0):
            if self.dense is not None:
                if self.owner.size > _PAIRED:
                    self._sweep(taken)
                self._pairs(self.dense, taken)
            else:
                if self._passed(taken):
                    self._sweep(taken)
                self._fill(taken)
            over = self._over(taken)
            if not (over[self.hard] > 1e-9).any() or time.monotonic() >= self.end:
                break
            self.dear = np.where((over > 1e-9) & self.hard, 10.0 * self.dear, self.dear)
        if self._score(taken) > self._score(self.taken):
            self.taken = taken

    def _pairs(self, change: Floats, taken: Ints) -> None:
        """The best pairs of all, until none gains; a few steps at a time."""
        left, steps = _STEPS, 1
        while left > 0 and time.monotonic() < self.end:
            before, began = taken.copy(), time.monotonic()
            pairs.descend(change, self.core.value, self.owner, taken, *self._bounds(), steps)
            if (taken == before).all():
                return
            left -= steps
            took = max(time.monotonic() - began, 1e-6)
            steps = int(np.clip(steps * _SLICE / took, 1, min(4 * steps, left) or 1))

    def _sweep(self, taken: Ints) -> None:
        """The best pairs at each limit in turn, until none gains; in slices of time."""
        many = np.minimum(np.diff(self.firsts), _AT_LIMIT).astype(np.float64)
        gained, wide = np.inf, _AT_LIMIT
        while gained > 0:
            limits = self.rng.permutation(np.flatnonzero(many))
            slices = np.cumsum(_PAIR * many[limits] ** 2) // (0.5 * _SLICE)
            gained = 0.0
            for some in np.split(limits, np.flatnonzero(np.diff(slices)) + 1):
                if time.monotonic() >= self.end:
                    return
                gained += swaps.sweep(some, self.firsts, self.members, wide, *self._state(taken))

    def _shake(self) -> None:
        """Random changes at limits, and what pairs then make of them."""
        began = time.monotonic()
        self.seed += 1
        taken = self.taken.copy()
        state = self._state(taken)
        swaps.shake(self.rounds, self.seed, self.firsts, self.members, _SHAKEN, *state)
        took = time.monotonic() - began
        self.rounds = int(np.clip(self.rounds * _SLICE / max(took, 1e-3), 1, 2 * self.rounds))
        if self._score(taken) > self._score(self.taken):
            self.taken = taken

    def _fill(self, taken: Ints) -> None:
        """Up to four changes at each limit that binds, until they gain little; in slices of time."""
        gained, most, binding = np.inf, 0.0, self._binding()
        while gained > _WORTHWHILE * most and time.monotonic() < self.end:
            gained = 0.0
            for some in np.array_split(self.rng.permutation(binding), max(1, binding.size // _AT_ONCE)):
                if time.monotonic() >= self.end:
                    return
                gained += fours.fill(some, *self._at_limits(taken, _FOURS))
            most = max(most, gained)

    def _force(self) -> None:
        """Random changes, and up to four at each limit that they touch."""
        began, binding = time.monotonic(), self._binding()
        self.seed += 1
        taken = self.taken.copy()
        if binding.size:
            fours.force(binding, *self._at_limits(taken, _FORCED, self.rounds, self.seed))
        took = time.monotonic() - began
        self.rounds = int(np.clip(self.rounds * _SLICE / max(took, 1e-3), 1, 2 * self.rounds))
        if self._score(taken) > self._score(self.taken):
            self.taken = taken

    def _passed(self, taken: Ints) -> bool:
        """Whether a limit is passed that may not be."""
        return bool((self._over(taken)[self.hard] > 1e-9).any())

    def _binding(self) -> Ints:
        return np.flatnonzero((self.prices != 0) & (np.diff(self.firsts) > 0))

    def _at_limits(self, taken: Ints, wide: int, *more: int) -> tuple[object, ...]:
        """What the kernels of four changes work on; limits passed at a price may stay so."""
        starts, rows, amounts, value, owner, _, use, low, high, _ = self._state(taken)
        soft = ~self.hard
        low, high = np.where(soft, np.minimum(low, use), low), np.where(soft, np.maximum(high, use), high)
        sides = np.where(self.prices < 0, -1.0, 1.0)
        columns = (starts, rows, amounts, value, owner)
        return sides, *more, wide, self.firsts, self.near, *columns, taken, use, low, high

    def _state(self, taken: Ints) -> tuple[Floats | Ints, ...]:
        """What the kernels of pairs at limits work on."""
        rows, starts = self.change.indices.astype(np.int64), self.change.indptr.astype(np.int64)
        use, low, high = self._used(taken[taken >= 0]), self.rules.at_least, self.rules.at_most
        columns = (starts, rows, self.change.data, self.core.value, self.owner)
        return *columns, taken, use, low, high, self.dear

    def _used(self, columns: Ints) -> Floats:
        """What is used of each limit when these columns are taken, [L]."""
        return np.asarray(self.core.used + np.asarray(self.change[columns].sum(axis=0)).ravel())

    def _over(self, taken: Ints) -> Floats:
        use = self._used(taken[taken >= 0])
        over = np.maximum(use - self.rules.at_most, 0.0) + np.maximum(self.rules.at_least - use, 0.0)
        return np.asarray(over, np.float64)

    def _score(self, taken: Ints) -> tuple[bool, float]:
        """Whether hard limits hold, which comes first, and value less what passing limits costs."""
        over = self._over(taken)
        worth = float(self.core.value[taken[taken >= 0]].sum() - over @ self.dear)
        return not bool((over[self.hard] > 1e-9).any()), worth
