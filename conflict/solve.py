"""The method: prices, what they leave open, and the proof, for candidates in this process or elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from conflict.greedy import greedy
from conflict.grid import on_grid
from conflict.infeasible import contradicts, idle_of
from conflict.integers import Best, dust_of, near, search
from conflict.prices import Prices, bound_of, find_prices, pool_of, start_of, units_of
from conflict.problem import Mask, Problem
from conflict.reply import Crowd, Here, worth
from conflict.whole import linear_prices, solve_whole, wild

#: relative gap at which an optimum counts as proven
PROVEN = 1e-6
#: most candidates that go to branch and cut at once
_SMALL = 4_000
#: seconds that it gets before others search beside it
_AT_ONCE = 1.0
#: most candidates whose whole is looked at for integers; above, those still open in the widest box
_POOL = 3_000_000
#: part of the time that is for prices
_PRICING = 0.7
#: most candidates among which one is chosen after the other where nothing better was found
_GREEDY = 10_000_000
#: candidates summed at a time
_PIECE = 4_000_000
#: most candidates that branch and cut ever gets as they are, when nothing else found a choice
_WHOLE = 100_000


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a search has come."""

    #: since it began
    seconds: float
    #: what it is doing
    phase: str
    #: of the best choice so far; None when there is none
    objective: float | None
    #: no choice is worth more; None when unknown
    bound: float | None
    #: improvements of choice or bound
    rounds: int

    @property
    def gap(self) -> float | None:
        """Relative; None when unknown."""
        if self.objective is None or self.bound is None:
            return None
        return (self.bound - self.objective) / max(abs(self.objective), 1e-9)


#: asked after every step; True ends the search with the best so far
Stop = Callable[[Progress], bool]


@dataclass(frozen=True, kw_only=True)
class Solution:
    """What to do about every candidate, and what is known of it."""

    #: users whose integers were decided; its `origin` says where its candidates are
    pool: Problem
    #: what they take, [pool]; None when nothing was found
    chosen: Mask | None
    objective: float
    bound: float
    infeasible: bool
    prices: Prices
    interrupted: bool
    method: dict[str, object] = field(default_factory=dict)
    #: seconds, objective, bound after every improvement
    trace: tuple[tuple[float, float, float], ...] = ()

    def within(self, gap: float) -> bool:
        return near(self.objective, self.bound, gap, dust_of(self.pool))


class _Enough(Exception):
    """A stop rule said so."""


@dataclass(kw_only=True)
class _Watch:
    """Tells of progress and asks the stop rules."""

    say: Callable[[Progress], None]
    stops: tuple[Stop, ...]
    start: float
    phase: str = "prices"
    objective: float = -np.inf
    bound: float = np.inf
    trace: list[tuple[float, float, float]] = field(default_factory=list)

    def step(self, phase: str | None = None) -> None:
        self.phase = phase or self.phase
        progress = Progress(
            seconds=time.monotonic() - self.start,
            phase=self.phase,
            objective=self.objective if np.isfinite(self.objective) else None,
            bound=self.bound if np.isfinite(self.bound) else None,
            rounds=len(self.trace),
        )
        self.say(progress)
        # every rule hears of every step
        if [stop for stop in self.stops if stop(progress)]:
            raise _Enough

    def changed(self, best: Best) -> None:
        self.objective, self.bound = best.objective, best.bound
        self.trace.append((time.monotonic() - self.start, best.objective, best.bound))
        self.step("choices")


def solve(
    crowd: Crowd,
    *,
    seconds: float,
    gap: float,
    seed: int,
    say: Callable[[Progress], None] = lambda _: None,
    stops: tuple[Stop, ...] = (),
) -> Solution:
    """The best choice and its proof, until the gap is met, time ends, or a stop rule says enough."""
    began = time.monotonic()
    if isinstance(crowd, Here):
        crowd = Here(problem=on_grid(crowd.problem))
    watch = _Watch(say=say, stops=stops, start=began)
    run = _Run(crowd=crowd, seconds=seconds, gap=gap, seed=seed, watch=watch, end=began + seconds)
    interrupted = False
    try:
        run.go()
    except _Enough:
        pass
    except KeyboardInterrupt:
        interrupted = True
    return run.solution(interrupted)


@dataclass(kw_only=True)
class _Run:
    """One search, which can be broken off anywhere and still answers."""

    crowd: Crowd
    seconds: float
    gap: float
    seed: int
    watch: _Watch
    end: float
    prices: Prices | None = None
    best: Best | None = None
    bound: float = np.inf
    infeasible: bool = False
    #: what solvers say of it proves nothing
    unsure: bool = False
    method: dict[str, object] = field(default_factory=dict)

    def go(self) -> None:
        crowd = self.crowd
        if isinstance(crowd, Here) and crowd.size <= _SMALL:
            self._small(crowd.problem)
            return
        prices = self._prices(trusting=False)
        if prices.diverging:
            self.watch.step("contradictions")
            if isinstance(crowd, Here) and contradicts(idle_of(crowd.problem), whole=False, end=self.end):
                self.prices, self.infeasible = prices, True
                return
            prices = self._prices(trusting=True)
        self.prices = prices
        at = crowd.worth(prices.values)
        self.bound = bound_of(crowd.rules, prices.values, at, crowd.elsewhere)
        self.method |= {"prices": "exact" if prices.exact else "nearly exact"}
        self.method["prices_seconds"] = round(time.monotonic() - self.watch.start, 3)
        self.watch.bound = self.bound
        self.watch.step("choices")
        pool = self._pool(crowd, prices)
        units = units_of(crowd.sample(4_000, self.seed)) if crowd.size else np.zeros(0)
        # −inf: a user's own rules leave no reply
        if self.bound == -np.inf or self.bound < self._least() - 1e-9 * abs(self.bound):
            self.infeasible = True
            return
        self.unsure = wild(pool)
        self.best = Best(
            problem=pool, complete=pool.size == crowd.size and not self.unsure, bound=self.bound,
            changed=self.watch.changed, asked=self.watch.step,
        )  # fmt: skip
        search(
            self.best, prices.values, np.maximum(units, np.abs(prices.values)), start_of(pool, self.prices),
            end=self.end, gap=self.gap, seed=self.seed, method=self.method,
        )  # fmt: skip
        self.infeasible = self.best.infeasible
        if self.best.chosen is None and self.best.complete and pool.size <= _WHOLE and not self.infeasible:
            self._whole(self.best)

    def _small(self, problem: Problem) -> None:
        """All at once; then prices, to say what limits are worth."""
        self.unsure = wild(problem)
        self.best = Best(
            problem=problem, complete=not self.unsure, changed=self.watch.changed, asked=self.watch.step
        )
        values, bound, self.infeasible = linear_prices(problem, seconds=max(0.3 * self.seconds, 0.05))
        if self.unsure:
            self.infeasible = False
            bound = bound_of(problem.rules, values, worth(problem, values), problem.elsewhere)
        self.prices = Prices(values=values, spread=np.zeros(values.size), exact=True)
        if self.infeasible:
            return
        self.best.limit(bound)
        self._whole(self.best, seconds=_AT_ONCE)
        self.method["integers"] = "branch and cut on the whole"
        if not (self.infeasible or self.best.within(self.gap) or time.monotonic() >= self.end):
            search(
                self.best, values, np.maximum(units_of(problem), np.abs(values)),
                end=self.end, gap=self.gap, seed=self.seed, method=self.method,
            )  # fmt: skip
            self.infeasible = self.best.infeasible
        self.infeasible = self.infeasible and self.best.chosen is None

    def _whole(self, best: Best, *, seconds: float = np.inf) -> None:
        left = max(self.end - time.monotonic(), 0.05)
        found = solve_whole(best.problem, seconds=min(seconds, left), gap=self.gap, seed=self.seed)
        best.offer(found.chosen)
        if not self.unsure:
            best.limit(max(found.bound, best.objective))
            self.infeasible = found.infeasible and best.chosen is None
        self.bound = min(self.bound, best.bound)

    def _prices(self, *, trusting: bool) -> Prices:
        return find_prices(
            self.crowd, seed=self.seed, end=time.monotonic() + _PRICING * (self.end - time.monotonic()),
            trusting=trusting, say=self.watch.step,
        )  # fmt: skip

    def _pool(self, crowd: Crowd, prices: Prices) -> Problem:
        """Whose integers are decided: everybody, or those open in the widest box that is not too large."""
        self.prices, pool = pool_of(crowd, prices, _POOL)
        return pool

    def _anything(self) -> None:
        """A choice without search where a search was broken off before it had one."""
        if self.best is None and isinstance(self.crowd, Here) and self.crowd.size <= _GREEDY:
            self.best = Best(problem=self.crowd.problem, complete=True, bound=self.bound)
        best = self.best
        if best is not None and best.chosen is None and not self.infeasible and best.problem.size <= _GREEDY:
            value = best.problem.value.astype(np.float64)
            # nobody is asked any more
            best.changed = lambda _: None
            best.offer(greedy(best.problem, value, np.zeros(best.problem.size, np.bool_)))

    def _least(self) -> float:
        """No choice that keeps all limits is worth less."""
        if not isinstance(self.crowd, Here) or np.isfinite(self.crowd.rules.penalty).any():
            return -np.inf
        value = self.crowd.problem.value
        # piece by piece: a column beside a billion candidates is a third more memory
        return sum(
            float(np.minimum(value[at : at + _PIECE], 0.0).sum(dtype=np.float64))
            for at in range(0, value.size, _PIECE)
        )

    def solution(self, interrupted: bool) -> Solution:
        limits = self.crowd.rules.limits
        empty = np.zeros(limits)
        self._anything()
        best = self.best
        objective = -np.inf if best is None else best.objective
        bound = min(self.bound, np.inf if best is None else best.bound)
        return Solution(
            pool=best.problem if best is not None else Problem.nothing(self.crowd.rules),
            chosen=None if best is None else best.chosen,
            objective=objective,
            bound=max(bound, objective),
            infeasible=self.infeasible,
            prices=self.prices or Prices(values=empty, spread=empty, exact=False),
            interrupted=interrupted,
            method=self.method,
            trace=tuple(self.watch.trace),
        )
