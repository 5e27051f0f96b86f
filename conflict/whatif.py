"""What other bounds would bring: a problem that was solved once is asked again, from the prices it had."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from pydantic import ValidationError

from conflict.allocate import allocate, asked_of, uses_of
from conflict.feasible import fine_of
from conflict.integers import Best, search
from conflict.prices import bound_of, start_of, units_of
from conflict.problem import Floats, Ints, Mask, Problem, compile_problem
from conflict.reply import Here, Worth, worth
from conflict.solve import PROVEN, Progress, Stop
from conflict.warm import CELLS, Level, Tolls, renewed, typical_of
from kernel.choices import Allocation, Limit, Limits, Status
from kernel.definitions import first_problem
from kernel.errors import NotFound

#: candidates up to which a problem is solved anew: that is quick, and proven
_SMALL = 3_000
#: candidates up to which integers are looked for among all; about how many are looked at otherwise
_ALL, _POOL = 200_000, 60_000
#: part of each toll, and of a typical one, by which tolls are expected to move at most
_REACH, _REACH_FLOOR = 0.2, 0.05
#: a bound that no limit has, and that still is one
_FAR = 1e300
#: typical prices beyond which a limit may be impossible to keep
_STRANGE = 30.0
#: what may be changed of a limit
_FIELDS = ("at_most", "at_least", "penalty")

#: limit → what of it → new value; None takes the bound away
Changes = Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """What does not depend on bounds."""

    candidates: pl.DataFrame
    #: all that may matter under any bounds; users in an order drawn by the seed
    problem: Problem
    #: row of each of its candidates in the frame, [n]
    rows: Ints
    tolls: Tolls
    units: Floats
    #: most that one candidate uses of each limit, [L]
    largest: Floats
    seed: int


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """A solved problem that answers for other bounds of its limits."""

    limits: Limits
    #: the answer under these limits
    allocation: Allocation
    #: from which the next search starts, [L]
    _prices: Floats
    #: None where every question is a new problem: few candidates, or very many kinds of them
    _ready: _Ready | None
    #: what the best replies of everybody come to at them
    _at: Worth | None
    #: users open around the prices that were found first
    _around: Level | None
    #: the candidates as they came
    _frame: pl.DataFrame

    def changed(self, changes: Changes, *, time_limit: float = 10.0, gap: float = PROVEN) -> Allocation:
        """The best choice when bounds are changed, such as `{"coupons": {"at_most": 5000}}`, with its proof.

        As `allocate`, from the prices at hand; the bound is that of one pass over all candidates. Raises
        BadInput for limits that there are not and bounds that contradict each other.
        """
        return self.moved(changes, time_limit=time_limit, gap=gap).allocation

    def moved(
        self, changes: Changes, *, time_limit: float = 10.0, gap: float = PROVEN, rows: bool = True
    ) -> WhatIf:
        """The same problem under changed limits, to be asked further; `rows`: whether to tell assignments."""
        started = time.monotonic()
        limits = changed_limits(self.limits, changes)
        found, at = None, None
        if self._ready is not None and self._around is not None and _alike(self._ready, limits):
            again = _again(
                self._ready, self._around, limits, self._prices, self._at, started, time_limit, gap, rows
            )
            found, at = again or (None, None)
        if found is None:
            # solved anew: contradictions are named, and prices far from the last ones found
            frame = self._frame
            seed = 0 if self._ready is None else self._ready.seed
            found = allocate(frame, limits, time_limit=time_limit, gap=gap, seed=seed)
            if not rows:
                found = replace(found, assignments=found.assignments.head(0))
        if found.objective is None:
            return replace(self, limits=limits, allocation=found)
        prices = np.array([use.price for use in found.limits])
        return replace(self, limits=limits, allocation=found, _prices=prices, _at=at)


def what_if(
    candidates: pl.DataFrame,
    limits: Limits,
    *,
    time_limit: float = 60.0,
    gap: float = PROVEN,
    seed: int = 0,
    stops: tuple[Stop, ...] = (),
    progress: Callable[[Progress], None] = lambda _: None,
) -> WhatIf:
    """Solves a problem so that it can be asked what other bounds would bring. As `allocate`."""
    first = allocate(
        candidates, limits, time_limit=time_limit, gap=gap, seed=seed, stops=stops, progress=progress
    )
    return asked_again(candidates, limits, first, seed=seed)


def asked_again(candidates: pl.DataFrame, limits: Limits, first: Allocation, *, seed: int = 0) -> WhatIf:
    """The same of a problem whose answer is at hand."""
    prices = np.array([use.price for use in first.limits], np.float64)
    ready = _ready(candidates, limits, seed) if first.objective is not None else None
    around, at = None, None
    if ready is not None:
        tolls, typical = ready.tolls, typical_of(ready.problem, ready.tolls)
        half = _REACH * np.abs(tolls.at(prices)) + _REACH_FLOOR * typical
        around = Level.whole(ready.problem, tolls).within(tolls, prices, half)
        at = around.worth(prices, ready.problem)
    return WhatIf(
        limits=limits,
        allocation=first,
        _prices=prices, _at=at, _ready=ready, _around=around, _frame=candidates,
    )  # fmt: skip


def changed_limits(limits: Limits, changes: Changes, where: str = "what-if") -> Limits:
    """The limits with some bounds changed. Raises BadInput for unknown ones and bounds that contradict."""
    known = {limit.name: limit for limit in limits.limits}
    for name, change in changes.items():
        if name not in known:
            raise NotFound("limit", name, known, where=where)
        for field in change:
            if field not in _FIELDS:
                raise NotFound("bound", field, _FIELDS, where=f"{where}: {name}")
        try:
            known[name] = Limit.model_validate({**known[name].model_dump(), **change})
        except ValidationError as error:
            raise first_problem(error, f"{where}: limit {name}") from None
    return Limits(per_user=limits.per_user, limits=tuple(known.values()))


def _ready(candidates: pl.DataFrame, limits: Limits, seed: int) -> _Ready | None:
    problem, rows = compile_problem(candidates, limits)
    rules = problem.rules
    if problem.size <= _SMALL or rules.kinds * (1 + problem.amounts.shape[0]) > CELLS:
        return None
    # whoever one bound or another would drop stays
    loose = np.where(np.isfinite(rules.at_most), _FAR, np.inf)
    asked = asked_of(problem.bounded(loose, rules.at_least), seed)
    place = np.arange(problem.size) if asked.origin is None else asked.origin
    asked = replace(asked.bounded(rules.at_most, rules.at_least), origin=None)
    if asked.size <= _SMALL:
        return None
    return _Ready(
        candidates=candidates,
        problem=asked,
        rows=place if rows is None else rows[place],
        tolls=Tolls.of_rules(rules, problem.amounts.shape[0]),
        units=units_of(Here(problem=asked).sample(4_000, seed)),
        largest=np.array([asked.usage(each).max(initial=0.0) for each in range(rules.limits)]),
        seed=seed,
    )


def _bounds(limits: Limits) -> tuple[Floats, Floats, Floats]:
    """at_most, at_least and penalty of each limit, infinite where there is none."""

    def column(field: str, none: float) -> Floats:
        values = [getattr(each, field) for each in limits.limits]
        return np.array([none if each is None else each for each in values], np.float64)

    return column("at_most", np.inf), column("at_least", -np.inf), column("penalty", np.inf)


def _alike(ready: _Ready, limits: Limits) -> bool:
    """Whether the same candidates matter under these limits."""
    at_most, at_least, penalty = _bounds(limits)
    rules = ready.problem.rules
    same = (
        (np.isfinite(at_most) == np.isfinite(rules.at_most)).all()
        and (np.isfinite(at_least) == np.isfinite(rules.at_least)).all()
        and (penalty == rules.penalty).all()
    )
    # a candidate that alone passes a ceiling is no candidate
    return bool(same and (np.isfinite(penalty) | (at_most >= ready.largest)).all())


def _again(
    ready: _Ready, around: Level, limits: Limits, start: Floats, at: Worth | None,
    started: float, time_limit: float, gap: float, rows: bool,
) -> tuple[Allocation, Worth] | None:  # fmt: skip
    """The answer from the prices at hand, and what replies come to at its own; None where there is none."""
    at_most, at_least, _ = _bounds(limits)
    whole = ready.problem.bounded(at_most, at_least)
    near_ = replace(around, problem=around.problem.bounded(at_most - around.used, at_least - around.used))
    end = started + time_limit
    warm = renewed(
        [Level.whole(whole, ready.tolls), near_], ready.tolls, start,
        seed=ready.seed, end=started + 0.5 * time_limit, gap=gap, at=at,
    )  # fmt: skip
    prices = warm.prices.values
    if (np.abs(prices) > _STRANGE * ready.units).any():
        return None
    chosen = np.zeros(whole.size, np.bool_)
    everybody = worth(whole, prices, chosen)
    bound = bound_of(whole.rules, prices, everybody, whole.elsewhere)
    prices_seconds = time.monotonic() - started
    pool = whole
    if whole.size > _ALL:
        pool = min(
            (level.problem for level in warm.levels), key=lambda each: abs(np.log(max(each.size, 1) / _POOL))
        )
    best = Best(problem=pool, complete=pool is whole, bound=bound)
    trace: list[tuple[float, float, float]] = []

    def changed(now: Best) -> None:
        trace.append((time.monotonic() - started, now.objective, now.bound))

    best.changed = changed
    method: dict[str, object] = {
        "candidates": ready.candidates.height,
        "prices": "exact, from those before" if warm.prices.exact else "nearly exact, from those before",
        "prices_seconds": round(prices_seconds, 3),
    }
    start_ = start_of(pool, warm.prices)
    units = np.maximum(ready.units, np.abs(prices))
    search(best, prices, units, start_, end=end, gap=gap, seed=ready.seed, method=method)
    if best.chosen is None:
        return None
    chosen = _spliced(whole, chosen, pool, best.chosen)
    taken = np.flatnonzero(chosen)
    used = whole.rules.use(whole.table(taken))
    fine = fine_of(whole.rules, used)
    if np.isinf(fine):
        return None
    objective = float(np.sum(whole.value[taken], dtype=np.float64)) + whole.elsewhere - fine
    bound = max(best.bound, objective)
    relative = (bound - objective) / max(abs(objective), 1e-9)
    place = np.sort(ready.rows[taken]) if rows else np.zeros(0, np.int64)
    found = Allocation(
        status=Status.OPTIMAL if relative <= PROVEN else Status.FEASIBLE,
        objective=objective,
        bound=bound,
        gap=relative,
        seconds=time.monotonic() - started,
        limits=uses_of(limits, whole.rules, used, prices),
        assignments=ready.candidates[place],
        method=method,
        trace=tuple(trace),
    )
    return found, everybody


def _spliced(whole: Problem, chosen: Mask, pool: Problem, inside: Mask) -> Mask:
    """The choice of everybody, with that of the pool's users in its place, [n]."""
    if pool is whole or pool.origin is None:
        return inside
    first = np.diff(pool.starts) > 0
    users = np.searchsorted(whole.starts, pool.origin[pool.starts[:-1][first]], side="right") - 1
    open_ = np.zeros(whole.users, np.bool_)
    open_[users] = True
    at = np.flatnonzero(chosen)
    chosen[at[open_[np.searchsorted(whole.starts, at, side="right") - 1]]] = False
    chosen[pool.origin[inside]] = True
    return chosen
