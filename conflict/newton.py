"""Prices under very many limits: Newton's method on the Lagrangian bound.

Of a thousand limits some always press against any box, so that nested boxes hardly shrink. But one pass over
the candidates gives the bound's slope, and the replies that lose at most some width against the best say how
fast it bends: their number per unit of width is the density of users who are about to change their reply,
and each adds the product of what it changes with itself. The model so made is a quadratic whose least point
within the ends of prices is the next step; the width follows the steps down, and how far the model was off
sets how much it is trusted (Levenberg, 1944). Random samples of users come first, then everybody.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from conflict.core import changes
from conflict.problem import Floats, Mask, Rules
from conflict.reply import Box, Crowd, Here, Worth

#: candidates of the first sample for each limit; each sample is so many times the last, up to a most
_FIRST, _GROWTH, _LARGEST = 150, 8, 4_000_000
#: replies for each limit that tell how the bound bends, at least and about
_LEAST, _EACH = 8, 20
#: the first look is at so many times as many candidates
_WIDE = 5
#: part of the bound by which a step must better it to be followed by more, and so many may fall short
_LITTLE, _SHORT = 5e-8, 2
#: part of a typical value, for each limit and user, that a sample's bound is off by, and is worth a step
_NOISE = 0.03
#: how much the model may be corrected after one step, down and up
_CORRECTED = (0.4, 4.0)
#: next width, in changes of what replies pay in this step; how much it may change at once
_FOLLOWED, _NARROWER, _WIDER = 1.5, 0.2, 2.0
#: part of its own bend by which the model is stiffened at every limit
_STIFF = 0.01
#: steps on one sample, and corner changes within one quadratic, at most
_STEPS, _CORNERS = 60, 20
#: turns of one solve of a linear system, at most, and part of the error that may be left
_TURNS, _CLOSE = 200, 1e-5


@dataclass(kw_only=True)
class Newton:
    """A search for prices and where it has come to."""

    crowd: Crowd
    #: typical prices, [L], and value of a typical candidate
    units: Floats
    typical: float
    #: between which prices must be, [L]
    least: Floats
    most: Floats
    seed: int
    #: prices so far, [L]
    values: Floats
    #: what a reply may lose to tell of the bend; how much stronger the bend is than they say
    width: float
    curve: float = 1.0
    say: Callable[[str], None] = lambda _: None

    def samples(self, end: float, stop: Callable[[Floats], bool]) -> None:
        """On samples, each larger, until `end` (monotonic) or somebody says so of the prices."""
        size = _FIRST * self.crowd.rules.limits
        while 2 * size < min(self.crowd.size, _LARGEST) and time.monotonic() < end:
            part = Here(problem=self.crowd.sample(size, self.seed + size))
            self.descend(part, end, _NOISE * self.typical * self.values.size)
            self.say(f"prices of a sample of {part.size:,} candidates")
            if stop(self.values):
                return
            size *= _GROWTH

    def everybody(self, end: float) -> None:
        self.descend(self.crowd, end, 0.0)

    def box(self) -> Box:
        """Where the best prices probably are: so far that typical candidates pay the width more or less."""
        half = self.width / self.typical * self.units
        low, high = np.maximum(self.values - half, self.least), np.minimum(self.values + half, self.most)
        return Box(at=self.values, low=low, high=high)

    def descend(self, crowd: Crowd, end: float, enough: float) -> None:
        """Steps until some gain less than `enough`."""
        at = crowd.worth(self.values)
        bound, short = _bound(crowd, self.values, at), 0
        share = _WIDE * _EACH * self.values.size / crowd.size * self.typical / self.width
        share = min(1.0, share)
        enough = max(enough, _LITTLE * abs(bound))
        for step in range(_STEPS):
            if time.monotonic() >= end:
                return
            moves, share = self._moves(crowd, share, step)
            if not moves.shape[0]:
                return
            slope = self._slope(crowd.rules, at)
            bend = _Bend.of(moves, self.curve / (share * self.width))
            change = bend.least(slope, *self._room(slope))
            there = crowd.worth(self.values + change)
            gain = bound - _bound(crowd, self.values + change, there)
            half = 0.5 * float(change @ bend.times(change))
            off = (-gain - float(slope @ change)) / half if half > 0 else 1.0
            self.curve *= float(np.clip(off, *_CORRECTED))
            paid = float(np.sqrt(np.mean((moves @ change) ** 2)))
            narrow = max(_NARROWER, _LEAST * self.values.size * share / moves.shape[0])
            narrow = (
                max(narrow, min(1.0, _LEAST * self.values.size / moves.shape[0])) if share >= 1 else narrow
            )
            before = self.width
            self.width = float(np.clip(_FOLLOWED * paid, min(narrow, 1.0) * before, _WIDER * before))
            wanted = _EACH * self.values.size / moves.shape[0] * before / self.width
            share = float(np.clip(share * wanted, 1e-4, 1.0))
            self.say(f"prices, {moves.shape[0]:,} replies open")
            if gain > 0:
                self.values, at, bound = self.values + change, there, bound - gain
            short = short + 1 if gain < enough else 0
            if short >= _SHORT:
                return

    def _moves(self, crowd: Crowd, share: float, step: int) -> tuple[csr_matrix, float]:
        """What the replies that lose at most the width change, [c, L], in what part of the users."""
        if isinstance(crowd, Here) and share >= 1.0:
            part = crowd.problem
        else:
            part = crowd.sample(max(1, int(crowd.size * min(share, 0.5))), self.seed + step)
        here = Box(at=self.values, low=self.values, high=self.values)
        return changes(part, here, self.width), part.users / crowd.users

    def _slope(self, rules: Rules, at: Worth) -> Floats:
        """Of the bound; at a price of 0 towards where it falls, or 0."""
        above, below = rules.at_most - at.use, rules.at_least - at.use
        still = np.where(above < 0, above, np.where(below > 0, below, 0.0))
        return np.where(self.values > 0, above, np.where(self.values < 0, below, still))

    def _room(self, slope: Floats) -> tuple[Floats, Floats]:
        """How far prices may move before they change their sign or end, down and up."""
        up = (self.values > 0) | ((self.values == 0) & (slope < 0))
        down = (self.values < 0) | ((self.values == 0) & (slope > 0))
        low = np.where(down, self.least - self.values, -np.maximum(self.values, 0.0))
        high = np.where(up, self.most - self.values, -np.minimum(self.values, 0.0))
        return np.minimum(low, 0.0), np.maximum(high, 0.0)


def _bound(crowd: Crowd, prices: Floats, at: Worth) -> float:
    some = prices != 0
    side = np.where(prices > 0, crowd.rules.at_most, crowd.rules.at_least)
    return float(at.net + crowd.elsewhere + np.sum(prices[some] * side[some]))


@dataclass(frozen=True, kw_only=True)
class _Bend:
    """How fast the slope changes: the products of what replies change, summed, never written out."""

    moves: csr_matrix
    back: csr_matrix
    scale: float
    #: what is added at each limit by itself, and all that stands there, [L]
    stiff: Floats
    own: Floats

    @staticmethod
    def of(moves: csr_matrix, scale: float) -> _Bend:
        own = scale * np.asarray(moves.multiply(moves).sum(axis=0)).ravel()
        stiff = _STIFF * own + np.where(own > 0, 0.0, own[own > 0].mean() if own.any() else 1.0)
        return _Bend(moves=moves, back=moves.T.tocsr(), scale=scale, stiff=stiff, own=own + stiff)

    def times(self, change: Floats) -> Floats:
        return np.asarray(self.scale * (self.back @ (self.moves @ change)) + self.stiff * change)

    def least(self, slope: Floats, low: Floats, high: Floats) -> Floats:
        """The least point of slope·d + d·bend·d/2 between low ≤ 0 ≤ high, [L], by projected Newton steps.

        Bertsekas (1982).
        """
        at, rise, value = np.zeros(slope.size), slope, 0.0
        for _ in range(_CORNERS):
            free = ~(((at <= low) & (rise > 0)) | ((at >= high) & (rise < 0)))
            step = self._solved(-rise, free)
            far, moved = 1.0, False
            while far > 1e-3 and not moved:
                new = np.clip(at + far * step, low, high)
                bent = self.times(new)
                there = float(slope @ new + 0.5 * (new @ bent))
                if there < value - _CLOSE * abs(value):
                    at, rise, value, moved = new, slope + bent, there, True
                far /= 2
            if not moved:
                break
        return at

    def _solved(self, right: Floats, free: Mask) -> Floats:
        """Where bend·d is `right` among free limits, nearly.

        Conjugate gradients (Hestenes and Stiefel, 1952).
        """
        at, left = np.zeros(right.size), np.where(free, right, 0.0)
        scaled = left / self.own
        way, size = scaled, float(left @ scaled)
        first = size
        for _ in range(_TURNS):
            if size <= _CLOSE * first:
                break
            bent = np.where(free, self.times(way), 0.0)
            by = size / float(way @ bent)
            at, left = at + by * way, left - by * bent
            scaled = left / self.own
            size, before = float(left @ scaled), size
            way = scaled + size / before * way
        return at
