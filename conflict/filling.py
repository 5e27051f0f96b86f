"""Where each candidate uses one limit at most, whole choices are found by filling limit after limit.

And bounded by pricing users instead of limits, which also tells what candidates no better choice can hold.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from conflict.fill import beam
from conflict.grid import step_of
from conflict.problem import Floats, Ints, Mask, Problem
from conflict.sacks import eased, forced

#: users × limits that are written out, at most, and limits
_CELLS, _LIMITS = 400_000, 200
#: steps of a limit's grid up to which its use is counted out
_STEPS = 4_000
#: candidates a user that are looked at, on average
_NEAR = 9
#: states kept, one of these at random; ways that each goes on, and of the last few limits
_WIDTHS, _WAYS, _LAST = (4, 10, 25, 60, 150, 400), 4, 30
#: disturbance of relative costs, as parts of what the last one looked at loses
_NOISE = (0.004, 0.007, 0.012, 0.04)
#: rounds of prices after each limit, and the first step as part of a typical price
_ROUNDS, _STEP = 20, 0.05
#: part of the searches that fills all limits anew; the others empty at least so many of the best choice
_ANEW, _SOME = 0.5, 5
#: seconds of one search, about
_SLICE = 1.0
#: seconds that must be left for the kernel to be compiled, which it is once on a machine
_COMPILING = 20.0
#: part of a unit of worth that is rounding
_DUST = 1e-9
#: part of the time left that is for prices on users
_PART = 0.1
#: steps to the best prices on users, at most; steps in vain after which they get shorter, by this, until they
#: are so short; and how much of the last direction each keeps
_PRICED, _STUCK, _SHORTER, _SHORTEST, _KEEPING = 2_000, 20, 0.7, 1e-4, 0.3
#: part of the bound that is aimed at above it while no choice is known
_AIM = 0.003
#: numbers of the table that tells what each candidate costs at least
_TABLE = 8_000_000


@dataclass(kw_only=True)
class Filling:
    """The problem as users by limits, and searches in it."""

    problem: Problem
    #: what a user costs at a limit (inf: may not), what it uses there in steps of the grid, [U, L]
    cost: Floats
    use: Floats
    #: which candidate that is, [U, L]; −1: none
    place: Ints
    #: what a user costs without any limit (inf: must have one) and the candidate, −1: none at all, [U]
    none: Floats
    without: Ints
    #: how much there is of each limit, in steps, and what a step is worth, [L]
    room: Floats
    price: Floats
    #: candidates that lose more than this are not looked at
    reach: float
    rng: np.random.Generator
    #: seconds for a state kept, as the last search had it
    pace: float = field(default=np.inf)
    #: what users are worth to the limit that takes them, [U]; empty: not looked for yet
    worth: Floats = field(default_factory=lambda: np.zeros(0))
    #: of the next step to better ones, as part of the distance to what is aimed at
    length: float = 1.0

    @staticmethod
    def of(problem: Problem, prices: Floats, seed: int) -> Filling | None:
        """None for other problems: where a candidate uses two limits, or two of a user the same one."""
        rules, users = problem.rules, problem.users
        if rules.max_tasks != 1 or not users or users * rules.limits > _CELLS or problem.elsewhere:
            return None
        if np.isfinite(rules.at_least).any() or np.isfinite(rules.penalty).any():
            return None
        owner = problem.user_of()
        columns, rooms, tolls = [], [], []
        for limit in range(rules.limits):
            usage, most = problem.usage(limit), float(rules.at_most[limit])
            grid = step_of(usage)
            largest = np.zeros(users)
            np.maximum.at(largest, owner, usage)
            if usage.min(initial=0.0) < 0:
                return None
            if largest.sum() <= most:
                continue
            if grid <= 0 or most / grid > _STEPS:
                return None
            columns.append(np.rint(usage / grid))
            rooms.append(np.floor(most / grid + _DUST * max(1.0, most / grid)))
            tolls.append(float(prices[limit]) * grid)
        used = np.array(columns).reshape(len(columns), problem.size)
        if not 2 <= len(columns) <= _LIMITS or ((used > 0).sum(axis=0) > 1).any() or max(tolls) <= 0:
            return None
        limited = np.flatnonzero(used.any(axis=0))
        at = np.argmax(used[:, limited], axis=0)
        shape = (users, len(columns))
        place = np.full(shape, -1)
        place[owner[limited], at] = limited
        if np.count_nonzero(place >= 0) < limited.size:
            return None
        cost, use = np.full(shape, np.inf), np.zeros(shape)
        cost[owner[limited], at], use[owner[limited], at] = -problem.value[limited], used[at, limited]
        none, without = np.full(users, np.inf if rules.min_tasks else 0.0), np.full(users, -1)
        for each in np.setdiff1d(np.arange(problem.size), limited):
            if -problem.value[each] < none[owner[each]]:
                none[owner[each]], without[owner[each]] = -problem.value[each], each
        price = np.array(tolls)
        all_ = np.column_stack([cost + price * use, none])
        losses = all_ - all_.min(axis=1, keepdims=True)
        losses = np.sort(losses[np.isfinite(losses)])
        return Filling(
            problem=problem, cost=cost, use=use, place=place, none=none, without=without,
            room=np.array(rooms), price=price, rng=np.random.default_rng(seed),
            reach=max(float(losses[min(_NEAR * users, losses.size - 1)]), _DUST),
        )  # fmt: skip

    def search(self, chosen: Mask | None, least_gain: float, end: float) -> Mask | None:
        """A choice worth more by `least_gain` than `chosen`, or None; until `end` (monotonic), about."""
        if not beam.signatures and end - time.monotonic() < _COMPILING:
            return None
        users, limits = self.cost.shape
        where, open_ = np.full(users, -1, np.int16), np.ones(limits, np.bool_)
        least, spent = np.inf, 0.0
        if chosen is not None:
            least = -float(self.problem.value[chosen].sum()) - max(least_gain, 0.0)
            least -= _DUST * max(1.0, abs(least))
            if limits > _SOME and self.rng.random() > _ANEW:
                # all else stays
                many = int(self.rng.integers(_SOME, limits))
                open_[:] = False
                open_[self.rng.choice(limits, many, replace=False)] = True
                held = np.where(self.place >= 0, chosen[self.place], False) & ~open_
                user, limit = np.nonzero(held)
                where[user] = limit
                spent = float(self.cost[user, limit].sum())
        left = min(_SLICE, end - time.monotonic())
        widths = [each for each in _WIDTHS if each * self.pace <= left] or [_WIDTHS[0]]
        width = int(self.rng.choice(widths))
        began = time.monotonic()
        found = beam(
            self.cost, self.use, self.none, self.room, self.price, where, open_, width, _WAYS, _LAST,
            float(self.rng.choice(_NOISE)) * self.reach, self.reach, _ROUNDS,
            _STEP * float(self.price.mean()), int(self.rng.integers(2**31)), least - spent,
        )  # fmt: skip
        took = (time.monotonic() - began) / width
        if open_.all():
            self.pace = took
        return self._choice(where.astype(np.int64)) if found < least - spent else None

    def bound(self, objective: float, end: float) -> float:
        """No choice is worth more. Prices on users are looked for (and kept) for a part of the time left.

        `objective` is that of the best choice so far, or −inf. Steps are those of B. Polyak (1969).
        """
        if not eased.signatures and end - time.monotonic() < _COMPILING:
            return np.inf
        users, most = self.cost.shape[0], int(self.room.max())
        if not self.worth.size:
            tolls = self.cost + self.price * self.use
            self.worth = np.minimum(tolls.min(axis=1), self.none)
            self.worth = np.where(np.isfinite(self.worth), self.worth, 0.0)
        row, takes = np.empty(most + 1), np.empty((users, most + 1), np.bool_)
        slope, way, at = np.empty(users), np.zeros(users), self.worth
        best, stuck, until = -np.inf, 0, end
        for turn in range(_PRICED):
            bound = eased(at, self.cost, self.use, self.none, self.room, slope, row, takes)
            if turn == 0:
                # not counting that it is compiled
                until = _PART * end + (1.0 - _PART) * time.monotonic()
            if bound > best + _DUST * abs(bound):
                best, self.worth, stuck = bound, at, 0
            else:
                stuck += 1
            aim = -objective if np.isfinite(objective) else best + _AIM * max(abs(best), 1.0)
            if stuck == _STUCK:
                self.length, stuck, at = _SHORTER * self.length, 0, self.worth
            steep = float(slope @ slope)
            if steep == 0.0 or bound >= aim or self.length < _SHORTEST or time.monotonic() >= until:
                break
            way = slope + _KEEPING * way
            at = at + self.length * (aim - bound) / max(float(way @ slope), 0.1 * steep) * way
        return -best

    def least(self) -> Floats:
        """What all must cost at least if a candidate is taken, at the prices on users so far, [n].

        Of a user's candidates without a limit only the best has a figure; empty where tables are too large.
        """
        users, limits = self.cost.shape
        most = int(self.room.max())
        if not self.worth.size or (users + 1) * (most + 1) > _TABLE:
            return np.zeros(0)
        row, takes, slope = np.empty(most + 1), np.empty((users, most + 1), np.bool_), np.empty(users)
        bound = eased(self.worth, self.cost, self.use, self.none, self.room, slope, row, takes)
        inside, outside = np.empty((limits, users)), np.empty((limits, users))
        ahead, rest = np.empty((users + 1, most + 1)), np.empty(most + 1)
        for limit in range(limits):
            forced(
                limit, self.worth, self.cost, self.use, self.room, inside[limit], outside[limit], ahead, rest
            )
        # who is taken at one limit is not at any other, and not left out
        left_out = np.maximum(self.worth - self.none, 0.0)
        others = outside.sum(axis=0)
        taken = bound + (inside + others - outside + left_out).T
        idle = bound + np.maximum(self.none - self.worth, 0.0) + others
        least = np.full(self.problem.size, np.inf)
        least[self.place[self.place >= 0]] = taken[self.place >= 0]
        least[self.without[self.without >= 0]] = idle[self.without >= 0]
        return least

    def open_for(self, least: Floats, objective: float, step: float) -> Mask:
        """The candidates that a choice worth more than `objective`, by `step`, may hold, [n]."""
        enough = -objective - max(step, 0.0)
        return np.asarray(least <= enough + _DUST * max(1.0, abs(enough), float(np.abs(self.worth).sum())))

    def nearest(self, least: Floats, many: int, chosen: Mask) -> Mask:
        """About `many` candidates with which all may cost least, and those that are chosen, [n]."""
        many = min(many, least.size)
        return np.asarray((least <= np.partition(least, many - 1)[many - 1]) & np.isfinite(least)) | chosen

    def _choice(self, where: Ints) -> Mask:
        """The candidates of users at their limits, [n]."""
        chosen = np.zeros(self.problem.size, np.bool_)
        at = np.where(where >= 0, self.place[np.arange(where.size), where], self.without)
        chosen[at[at >= 0]] = True
        return chosen
