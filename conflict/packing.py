"""Where each candidate may be taken or left and all share a few limits, choices are bred.

Candidates that lose more at the prices than is left to gain are settled (E. Balas, E. Zemel, 1980); a new
population takes the place of one that brings nothing new.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from conflict.pack import begin, breed
from conflict.problem import Floats, Ints, Mask, Problem

#: users × limits that are written out, at most
_CELLS = 400_000
#: choices of a population, and children in vain after which another one begins
_MEMBERS, _VAIN = 300, 300_000
#: children of the first slice; and the seconds of each
_CHILDREN, _SLICE = 500, 0.3
#: tries for each child
_TRIES = 20
#: seconds that must be left for the kernels to be compiled, which they are once on a machine
_COMPILING = 20.0
#: part of a loss that is rounding
_DUST = 1e-9


@dataclass(kw_only=True)
class Packing:
    """The problem as candidates by limits, and a population."""

    problem: Problem
    #: what each candidate uses, [n, L]
    use: Floats
    #: what each candidate is worth above its toll, and the toll, [n]
    gain: Floats
    toll: Floats
    #: no choice is worth more, by prices
    priced: float
    rng: np.random.Generator
    #: candidates that are open, their order, and what is settled, [n]
    open_: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    order: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    settled: Mask = field(default_factory=lambda: np.zeros(0, np.bool_))
    #: choices among those open, and what they are worth; of none: a new population begins
    members: Mask = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    worth: Floats = field(default_factory=lambda: np.zeros(0))
    #: children since the best one of the population, and those of the next slice
    vain: int = 0
    children: int = _CHILDREN

    @staticmethod
    def of(problem: Problem, prices: Floats, priced: float, seed: int) -> Packing | None:
        """None for other problems: a user with two candidates, a floor, a penalty, a use below 0."""
        rules = problem.rules
        if not problem.size or problem.size * rules.limits > _CELLS or not rules.limits or problem.elsewhere:
            return None
        if rules.min_tasks or rules.max_tasks < 1 or np.diff(problem.starts).max() > 1:
            return None
        if np.isfinite(rules.at_least).any() or np.isfinite(rules.penalty).any():
            return None
        if (rules.caps[rules.slots] < 1).any():
            return None
        use = np.array([problem.usage(limit) for limit in range(rules.limits)]).T
        toll = use @ prices
        if use.min() < 0 or toll.max() <= 0:
            return None
        return Packing(
            problem=problem, use=use, gain=problem.value - toll, toll=toll, priced=priced,
            rng=np.random.default_rng(seed),
        )  # fmt: skip

    def search(self, objective: float, end: float) -> Mask | None:
        """A choice worth more than `objective`, or None; for a slice of time, until `end` (monotonic)."""
        if not breed.signatures and end - time.monotonic() < _COMPILING:
            return None
        if not self.worth.size:
            self._begin(objective)
        if not self.open_.size:
            return None
        held = self.problem.value[self.settled].sum()
        room = self.problem.rules.at_most - self.use[self.settled].sum(axis=0)
        began, before = time.monotonic(), self.worth.max()
        born = breed(
            self.children, _TRIES * self.children, int(self.rng.integers(2**31)),
            self.problem.value[self.open_].astype(np.float64), self.use[self.open_], room, self.order,
            self.members, self.worth,
        )  # fmt: skip
        took = max(time.monotonic() - began, 1e-6)
        best = int(self.worth.argmax())
        self.vain = 0 if self.worth[best] > before else self.vain + born
        stale = self.vain > _VAIN or born < self.children
        self.children = int(np.clip(self.children * _SLICE / took, 1, 4 * self.children))
        chosen = self.settled.copy()
        chosen[self.open_[self.members[best]]] = True
        found = float(held + self.worth[best])
        if stale:
            self.worth = np.zeros(0)
        return chosen if found > objective else None

    def _begin(self, objective: float) -> None:
        """Another population, of those who lose no more than is left to gain."""
        left = max(self.priced - objective, 0.0)
        near = np.abs(self.gain) <= left + _DUST * max(1.0, abs(self.priced))
        # the worthless are never taken
        self.open_ = np.flatnonzero(near & (self.problem.value > 0))
        self.settled = np.asarray(~near & (self.gain > 0))
        toll, value = self.toll[self.open_], self.problem.value[self.open_].astype(np.float64)
        self.order = np.argsort(-value / np.maximum(toll, _DUST * float(self.toll.max())), kind="stable")
        self.members, self.worth = np.zeros((_MEMBERS, toll.size), np.bool_), np.zeros(_MEMBERS)
        self.vain = 0
        room = self.problem.rules.at_most - self.use[self.settled].sum(axis=0)
        begin(int(self.rng.integers(2**31)), value, self.use[self.open_], room, self.members, self.worth)
