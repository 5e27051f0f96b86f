"""The allocation: prices, what they leave open, and the whole of it where that is small."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import polars as pl

from conflict.greedy import greedy
from conflict.infeasible import conflicting
from conflict.limits import check_limits
from conflict.part import feasible, solve_part
from conflict.prices import Prices, find_prices
from conflict.problem import Floats, Mask, Problem, compile_problem
from conflict.programs import Answer
from conflict.reply import best_replies, flip_losses
from kernel.choices import Allocation, Limits, LimitUse, Status
from kernel.errors import BadInput

#: relative gap at which an optimum counts as proven
PROVEN = 1e-6
#: most candidates that go to branch and cut at once, from the first
_SMALL = 3_000
#: most candidates that ever do
_WHOLE = 100_000
#: candidates first left open around the prices; the next core is twice as large
_CORE = 400


@dataclass(kw_only=True)
class _Best:
    """The best choice so far and what nothing can exceed."""

    problem: Problem
    chosen: Mask | None = None
    objective: float = -np.inf
    bound: float = np.inf
    infeasible: bool = False

    def offer(self, chosen: Mask | None) -> None:
        if chosen is None:
            return
        objective = float(self.problem.value[chosen].sum())
        if objective > self.objective and feasible(self.problem, chosen):
            self.chosen, self.objective = chosen, objective

    def limit(self, bound: float) -> None:
        self.bound = min(self.bound, bound)

    def within(self, gap: float) -> bool:
        return self.bound - self.objective <= gap * max(1.0, abs(self.objective))


def allocate(
    candidates: pl.DataFrame,
    limits: Limits,
    *,
    time_limit: float = 60.0,
    gap: float = PROVEN,
    seed: int = 0,
) -> Allocation:
    """The most valuable choice of candidates that keeps every limit and rule, with its proof.

    Lagrangian prices on the limits make users independent and bound the optimum; candidates whose choice
    could change it are decided by branch and cut, first a few around the prices, then more, until the
    relative gap is at most `gap` or `time_limit` seconds are over (small programs may take a little longer).
    Status OPTIMAL means a gap of at most 1e-6 whatever was asked for. With the same seed the same answer,
    in whatever order the rows come; `seed` also decides between equals. Raises BadInput for candidates or
    limits that make no sense.
    """
    start = time.monotonic()
    if not (time_limit > 0 and gap >= 0):
        raise BadInput("must be above 0 (time_limit) and not negative (gap)", field="time_limit, gap",
                       value=(time_limit, gap))  # fmt: skip
    check_limits(candidates, limits)
    problem = compile_problem(candidates, limits, seed)
    best = _Best(problem=problem)
    useful = np.flatnonzero(_useful(problem))
    small = problem.keep(_mask(useful, problem.size))
    prices = find_prices(small, seconds=0.5 * time_limit)
    method = {
        "candidates": problem.size,
        "users": problem.users,
        "useful": small.size,
        "prices": prices.method,
    }
    best.infeasible = prices.infeasible
    if not best.infeasible:
        inner = _Best(problem=small, bound=prices.bound)
        _search(inner, prices, end=start + time_limit, gap=min(gap, 0.5) * 0.9, seed=seed, method=method)
        best.limit(inner.bound)
        best.infeasible = inner.infeasible
        if inner.chosen is not None:
            best.offer(_mask(useful[inner.chosen], problem.size))
    names = tuple(limit.name for limit in limits.limits)
    guilty: tuple[str, ...] = ()
    if best.infeasible:
        guilty = conflicting(problem, names, seconds=max(time_limit, 10.0))
    return _allocation(candidates, limits, best, prices.values, guilty, method, start)


def _search(
    best: _Best, prices: Prices, *, end: float, gap: float, seed: int, method: dict[str, object]
) -> None:
    """Better and better choices, until the gap is met or time ends."""
    problem = best.problem
    everything = np.ones(problem.size, np.bool_)
    nothing = np.zeros(problem.size, np.bool_)
    if problem.size <= _SMALL:
        _branch(best, everything, nothing, end=end, gap=gap, seed=seed, whole=True)
        method["integers"] = "branch and cut on the whole"
        if best.chosen is None and not best.infeasible:
            best.offer(greedy(problem, problem.adjusted(prices.values), nothing))
        return
    adjusted = problem.adjusted(prices.values)
    reply, upper = best_replies(problem, adjusted)
    ceiling = _dual(problem, prices.values, upper)
    best.limit(ceiling)
    best.offer(reply)
    best.offer(greedy(problem, adjusted, reply))
    best.offer(greedy(problem, adjusted, nothing))
    losses = flip_losses(problem, adjusted, reply, upper)
    order = np.argsort(losses, kind="stable")
    method["integers"] = "core around the prices"
    for size in _sizes(problem.size):
        if best.within(gap) or time.monotonic() >= end:
            return
        # better than the best so far is only what differs where a flip loses no more than the gap
        open_ = losses <= (ceiling - best.objective) * (1 + PROVEN) + 1e-9
        last = int(open_.sum()) <= size
        core = open_ if last else _mask(order[:size], problem.size)
        left = end - time.monotonic()
        stop = end if last or size == problem.size else time.monotonic() + 0.3 * left
        method["core"] = int(core.sum())
        # while much is open elsewhere, a core need not be settled to the last digit
        open_gap = (
            (ceiling - best.objective) / max(1.0, abs(best.objective)) if best.chosen is not None else 1.0
        )
        enough = gap if last else max(gap, min(0.05 * open_gap, 1e-4))
        _branch(best, core, reply, end=stop, gap=enough, seed=seed, whole=last)
        if last or best.infeasible:
            return


def _sizes(size: int) -> list[int]:
    """How many candidates are left open, one attempt after the other."""
    if size <= _WHOLE:
        return [_CORE, 2 * _CORE, 4 * _CORE, size]
    return [_CORE * 2**step for step in range(5)]


def _branch(best: _Best, free: Mask, fixed: Mask, *, end: float, gap: float, seed: int, whole: bool) -> None:
    """Branch and cut on the free candidates; `whole`: no better choice differs elsewhere."""
    part = solve_part(best.problem, free, fixed, seconds=end - time.monotonic(), gap=gap, seed=seed)
    best.offer(part.chosen)
    if whole:
        if part.answer is Answer.INFEASIBLE and best.chosen is None:
            best.infeasible = True
        elif part.answer is not Answer.INFEASIBLE:
            best.limit(max(part.bound, best.objective))


def _dual(problem: Problem, prices: Floats, upper: Floats) -> float:
    """The Lagrangian bound: what users would get, and what the limits are worth, at these prices."""
    side = np.where(prices > 0, problem.at_most, problem.at_least)
    return float(upper.sum() + np.sum(prices[prices != 0] * side[prices != 0]))


def _useful(problem: Problem) -> Mask:
    """Candidates that some best choice may hold: no other is dropped."""
    usable = (problem.caps[problem.slots] > 0).all(axis=0) & (problem.max_tasks > 0)
    wanted = problem.value > 0
    if problem.min_tasks:
        wanted[:] = True
    for limit in range(problem.summed.size):
        usage = problem.usage(limit)
        if problem.at_least[limit] > -np.inf:
            wanted |= usage > 0
        if problem.at_most[limit] < np.inf:
            wanted |= usage < 0
            if usage.min(initial=0.0) >= 0:
                most = problem.at_most[limit]
                usable &= usage <= most + PROVEN * max(1.0, abs(most))
    return usable & wanted


def _mask(at: np.ndarray[tuple[int, ...], np.dtype[np.int64]], size: int) -> Mask:
    mask = np.zeros(size, np.bool_)
    mask[at] = True
    return mask


def _allocation(
    candidates: pl.DataFrame,
    limits: Limits,
    best: _Best,
    prices: Floats,
    guilty: tuple[str, ...],
    method: dict[str, object],
    start: float,
) -> Allocation:
    chosen = best.chosen if best.chosen is not None else np.zeros(best.problem.size, np.bool_)
    known = best.chosen is not None
    objective = best.objective if known else None
    bound = None if best.infeasible or not np.isfinite(best.bound) else max(best.bound, best.objective)
    if best.infeasible:
        status = Status.INFEASIBLE
    elif not known:
        status = Status.UNKNOWN
    else:
        status = Status.OPTIMAL if best.within(PROVEN) else Status.FEASIBLE
    used = best.problem.used(chosen)
    return Allocation(
        status=status,
        objective=objective,
        bound=bound,
        gap=None if objective is None or bound is None else (bound - objective) / max(abs(objective), 1e-9),
        seconds=time.monotonic() - start,
        limits=tuple(
            LimitUse(
                name=limit.name,
                used=float(used[row]),
                at_most=limit.at_most,
                at_least=limit.at_least,
                price=float(prices[row]) + 0.0,
            )
            for row, limit in enumerate(limits.limits)
        ),
        assignments=candidates[np.sort(best.problem.rows[chosen])],
        conflicting=guilty,
        method=method,
    )
