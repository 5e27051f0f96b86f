"""The allocation of a frame of candidates: checked, compiled, solved, and told in the frame's own rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl

from conflict.feasible import passed
from conflict.infeasible import Without, conflicting, relaxation
from conflict.limits import check_limits
from conflict.problem import (
    Floats,
    Mask,
    Problem,
    Rules,
    compile_problem,
    compile_rules,
    kinds_of,
    label_columns,
    summed_columns,
)
from conflict.reply import Box, Here, worth
from conflict.sensitivity import Range, sensitivity
from conflict.solve import PROVEN, Progress, Solution, Stop, solve
from kernel.choices import Allocation, Limits, LimitUse, Status
from kernel.errors import BadInput

#: candidates up to which users are shuffled
_DRAWN = 3_000_000
#: candidates among which ranges of bounds are looked for, at most
_RANGED = 100_000


def allocate(
    candidates: pl.DataFrame,
    limits: Limits,
    *,
    time_limit: float = 60.0,
    gap: float = PROVEN,
    seed: int = 0,
    stops: tuple[Stop, ...] = (),
    progress: Callable[[Progress], None] = lambda _: None,
) -> Allocation:
    """The most valuable choice of candidates that keeps every limit and rule, with its proof.

    Lagrangian prices on the limits make users independent and bound the optimum; what prices leave open is
    decided by pairs of changes and branch and cut, until the relative gap is at most `gap`, `time_limit`
    seconds are over, or one of `stops` says so; an interrupt (Ctrl-C) ends it with the best so far. Status
    OPTIMAL means a gap of at most 1e-6 whatever was asked for. Rows may come in any order; `seed` draws
    samples and decides between equals. Raises BadInput for candidates or limits that make no sense.
    """
    start = time.monotonic()
    if not (time_limit > 0 and gap >= 0):
        raise BadInput("must be above 0 (time_limit) and not negative (gap)", field="time_limit, gap",
                       value=(time_limit, gap))  # fmt: skip
    check_limits(candidates, limits)
    problem, rows = compile_problem(candidates, limits)
    asked = asked_of(problem, seed)
    solution = solve(
        Here(problem=replace(asked, origin=None)),
        seconds=time_limit, gap=gap, seed=seed, say=progress, stops=stops,
    )  # fmt: skip
    chosen = choice_of(asked, solution)
    if chosen is not None and asked.origin is not None:
        found = chosen
        chosen = np.zeros(problem.size, np.bool_)
        chosen[asked.origin[found]] = True

    guilty: tuple[str, ...] = ()
    relaxed: dict[str, float] = {}
    if solution.infeasible:
        kinds, _ = kinds_of(candidates, label_columns(limits))

        def without(fewer: Limits) -> Rules:
            return compile_rules(kinds, fewer, summed_columns(limits))

        guilty, relaxed = conflicts_of(problem, limits, without, seed, time_limit)
    at = np.flatnonzero(chosen) if chosen is not None else np.zeros(0, np.int64)
    return told(
        limits, problem, solution, problem.rules.use(problem.table(at)), guilty, relaxed,
        candidates[np.sort(at if rows is None else rows[at])], start,
    )  # fmt: skip


def conflicts_of(
    problem: Problem, limits: Limits, without: Without, seed: int, seconds: float
) -> tuple[tuple[str, ...], dict[str, float]]:
    """Which limits contradict each other, and by how much they would have to give way."""
    guilty = conflicting(problem, limits, without, seed=seed, seconds=max(seconds, 10.0))
    return guilty, relaxation(problem, limits, guilty, seed=seed, seconds=min(max(seconds, 2.0), 10.0))


def asked_of(problem: Problem, seed: int) -> Problem:
    """The candidates that matter; where cheap, users in an order drawn by `seed`: places favour nobody."""
    if problem.size > _DRAWN:
        # what no price makes attractive is settled by the first box, without a column of its own
        return problem
    problem = problem.people(np.random.default_rng(seed).permutation(problem.users))
    useful = useful_of(problem)
    return problem if useful.all() else problem.keep(useful)


def useful_of(problem: Problem) -> Mask:
    """Candidates that some best choice may hold: no other is dropped, [n]."""
    rules = problem.rules
    open_: Mask = np.asarray((rules.caps[rules.slots] > 0).all(axis=1))
    usable = open_[problem.kind] & (rules.max_tasks > 0)
    wanted = problem.value > 0
    if rules.min_tasks:
        wanted = np.ones(problem.size, np.bool_)
    for limit in range(rules.limits):
        usage = problem.usage(limit)
        if rules.at_least[limit] > -np.inf:
            wanted = wanted | (usage > 0)
        if rules.at_most[limit] < np.inf:
            wanted = wanted | (usage < 0)
            if usage.min(initial=0.0) >= 0 and np.isinf(rules.penalty[limit]):
                most = rules.at_most[limit]
                usable &= usage <= most + PROVEN * max(1.0, abs(most))
    return np.asarray(usable & wanted)


def choice_of(problem: Problem, solution: Solution) -> Mask | None:
    """What everybody takes, [n]; None when nothing was found."""
    if solution.chosen is None:
        return None
    if solution.pool.origin is None or solution.pool.size == problem.size:
        return solution.chosen
    # users settled on the way to the pool take what they were settled with: where replies tie, prices of a
    # later box may find another one just as good, and limits would not add up
    open_, levels = solution.pool.origin, solution.prices.levels
    place = next(
        row
        for row, (each, _) in enumerate(levels)
        if each.origin is not None and np.array_equal(each.origin, open_)
    )
    outers = [replace(problem, origin=None), *(each for each, _ in levels)]
    chosen = solution.chosen
    for row in range(place, -1, -1):
        chosen = _widened(outers[row], *levels[row], chosen)
    return chosen


def _widened(outer: Problem, inner: Problem, box: Box, chosen: Mask) -> Mask:
    """A choice among those who are open in a box [inner] with what all others were settled with, [outer]."""
    wider = np.zeros(outer.size, np.bool_)
    worth(outer, box.at, wider)
    where = np.arange(inner.size) if inner.origin is None else inner.origin
    if outer.origin is not None:
        where = np.searchsorted(outer.origin, where)
    for_open = np.zeros(outer.users, np.bool_)
    for_open[np.searchsorted(outer.starts, where, side="right") - 1] = True
    taken = np.flatnonzero(wider)
    wider[taken[for_open[np.searchsorted(outer.starts, taken, side="right") - 1]]] = False
    wider[where[chosen]] = True
    return wider


def told(
    limits: Limits, problem: Problem, solution: Solution, used: Floats, guilty: tuple[str, ...],
    relaxed: dict[str, float], assignments: pl.DataFrame, start: float, elsewhere: int = 0,
) -> Allocation:  # fmt: skip
    """A solution in the words of the frame; `elsewhere` counts assignments that are not held here."""
    objective = solution.objective if solution.chosen is not None else None
    bound = None if solution.infeasible or not np.isfinite(solution.bound) else solution.bound
    # those of a pool have bounds of their own
    rules = problem.rules
    return Allocation(
        status=status_of(solution, objective is not None),
        objective=objective,
        bound=bound,
        gap=None if objective is None or bound is None else (bound - objective) / max(abs(objective), 1e-9),
        seconds=time.monotonic() - start,
        limits=uses_of(
            limits, rules, used, solution.prices.values, ranges_of(problem, solution)
        ),
        assignments=assignments,
        elsewhere=elsewhere,
        conflicting=guilty,
        relaxation=relaxed,
        method={"candidates": problem.size, "users": problem.users, **solution.method,
                **({"interrupted": True} if solution.interrupted else {})},
        trace=solution.trace,
    )  # fmt: skip


def ranges_of(problem: Problem, solution: Solution) -> tuple[Range | None, ...]:
    """How far each bound may move before its price does, where prices are exact and that is quick to tell."""
    prices = solution.prices
    if solution.chosen is None or not prices.exact or solution.interrupted:
        return ()
    part = prices.levels[-1][0] if prices.levels else solution.pool
    return sensitivity(part, prices.values, problem.rules) if part.size <= _RANGED else ()


def status_of(solution: Solution, known: bool) -> Status:
    if solution.infeasible:
        return Status.INFEASIBLE
    if not known:
        return Status.UNKNOWN
    return Status.OPTIMAL if solution.within(PROVEN) else Status.FEASIBLE


def uses_of(
    limits: Limits, rules: Rules, used: Floats, prices: Floats, ranges: tuple[Range | None, ...] = ()
) -> tuple[LimitUse, ...]:
    by = np.abs(passed(rules, used))
    return tuple(
        LimitUse(
            name=limit.name,
            used=float(used[row]),
            at_most=limit.at_most,
            at_least=limit.at_least,
            price=float(prices[row]) + 0.0,
            passed=float(by[row]),
            penalty=limit.penalty,
            range=ranges[row] if ranges else None,
        )
        for row, limit in enumerate(limits.limits)
    )
