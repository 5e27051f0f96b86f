"""Which limits and rules cannot hold together, and by how little they would have to give way.

A set from which none can be left out is found by a deletion filter (Chinneck and Dravnieks, 1991): drop one
after the other; what cannot be dropped without the contradiction going away stays. Small problems are judged
by linear and integer programs. In large ones prices are the judge: with nothing to gain, any choice that
keeps all limits is worth 0, so prices whose bound is below 0 prove that there is none (Farkas, 1902). The
filter then runs on a sample of users, among those limits only that have a price in a proof there, and prices
prove what it finds for all users.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from conflict.integers import Best, search
from conflict.prices import Prices, bound_of, find_prices, pool_of, settle, start_of, units_of
from conflict.problem import Floats, Mask, Problem, Rules
from conflict.programs import Answer, Solver
from conflict.programs import solve as solve_program
from conflict.reply import Here, worth
from conflict.rows import program_of
from conflict.whole import linear_prices, solve_whole, wild
from kernel.choices import Limit, Limits, PerUser

#: most candidates that are judged by programs; above, by prices
_LINEAR = 30_000
#: candidates of the sample on which the filter runs
_SAMPLE = 25_000
#: candidates of the sample whose linear program gives prices of a proof
_FEW = 15_000
#: typical prices that passing a limit costs when the least relaxation is looked for
_DEAR = 100.0
#: part of what the limits come to by which a bound must be below 0 to be a proof
_PROOF = 1e-9

#: part of the time of a relaxation that is for prices; most candidates whose whole is looked at for integers
_PRICING, _POOL = 0.6, 1_000_000
#: part of what it costs to pass a limit below which it has no price
_PAID = 1e-7

#: rules of a smaller set of limits, for the same candidates
Without = Callable[[Limits], Rules]


def conflicting(
    problem: Problem, limits: Limits, without: Without, *, seed: int, seconds: float
) -> tuple[str, ...]:
    """Names of limits and of rules (`per_user.…`) that contradict each other.

    Minimal if there was time; what could not be judged in time is left in.
    """
    end = time.monotonic() + seconds
    names = [limit.name for limit in limits.limits if limit.penalty is None]
    kept = [*names, "per_user.max_tasks"]
    kept += ["per_user.min_tasks"] if limits.per_user.min_tasks else []
    kept += [f"per_user.max_by.{column}" for column in limits.per_user.max_by]
    kept += ["per_user.never_together"] if limits.per_user.never_together else []
    idle = idle_of(problem)
    many = int(np.diff(problem.starts).max(initial=1))

    def contradict(of: Problem, left: list[str], *, whole: bool = False) -> bool:
        rules = without(_only(limits, left, many))
        share = of.users / problem.users if problem.users else 1.0
        rules = replace(rules, at_most=rules.at_most * share, at_least=rules.at_least * share)
        return contradicts(replace(of, rules=rules), whole=whole, end=end)

    def fewest(of: Problem, left: list[str], *, whole: bool = False) -> list[str]:
        for each in reversed(tuple(left)):
            fewer = [other for other in left if other != each]
            if time.monotonic() < end and contradict(of, fewer, whole=whole):
                left = fewer
        return left

    if problem.size > 2 * _SAMPLE:
        sample = Here(problem=idle).sample(_SAMPLE, seed)
        if contradict(sample, kept):
            rules = [each for each in kept if each not in names]
            paid = [name for name in _paying(sample, limits, end) if name in names] + rules
            found = fewest(sample, paid if contradict(sample, paid) else kept)
            # what holds for a sample is a guess: the proof is about everybody
            if contradict(idle, found):
                return tuple(found)
    # candidates are whole: more contradicts among them than among fractions
    return tuple(fewest(idle, kept, whole=problem.size <= _LINEAR and not contradict(idle, kept)))


def _paying(idle: Problem, limits: Limits, end: float) -> list[str]:
    """Limits that have a price where passing costs: the support of a ray that proves a contradiction."""
    soft = softened(idle)
    values, _, _ = linear_prices(soft, seconds=end - time.monotonic())
    some = np.abs(values) > _PAID * soft.rules.penalty
    return [limit.name for limit, paid in zip(limits.limits, some, strict=True) if paid]


def contradicts(idle: Problem, *, whole: bool, end: float) -> bool:
    """Whether no choice, not even of fractions (`whole`: of whole candidates), keeps all limits and rules.

    `idle` has no values. Where time (monotonic) ends or numbers are too close to tell, the answer is no.
    """
    if idle.size <= _LINEAR and not wild(idle):
        program = program_of(idle, whole=whole)
        solver = Solver.HIGHS if whole else Solver.GLOP
        return solve_program(program, solver, seconds=end - time.monotonic()).answer is Answer.INFEASIBLE
    # what limits would pay to be passed, on a sample: prices of a linear program that always has an answer
    soft = softened(idle)
    here = Here(problem=soft)
    values, _, _ = linear_prices(here.sample(_FEW, 0), seconds=end - time.monotonic())
    if proves(idle.rules, values, here, least=0.0):
        return True
    spread = 0.5 * np.maximum(np.abs(values), 0.1 * soft.rules.penalty)
    start = Prices(values=values, spread=spread, exact=False)
    values = settle(here, start, soft.rules.penalty, 1.0, seed=0, end=end).values
    return proves(idle.rules, values, here, least=0.0)


def idle_of(problem: Problem) -> Problem:
    """The same with nothing to gain."""
    return replace(problem, value=np.zeros(problem.size, problem.value.dtype), elsewhere=0.0)


def softened(idle: Problem) -> Problem:
    """The same with every limit passable, at a price that makes parts of bounds comparable."""
    rules = idle.rules
    size = np.maximum(
        np.where(np.isfinite(rules.at_most), np.abs(rules.at_most), 0.0),
        np.where(np.isfinite(rules.at_least), np.abs(rules.at_least), 0.0),
    )
    return replace(idle, rules=replace(rules, penalty=1.0 / np.maximum(size, 1.0)))


def proves(rules: Rules, prices: Floats, crowd: Here, *, least: float) -> bool:
    """Whether the bound at some prices is below the least that any choice could be worth."""
    some = prices != 0
    side = np.where(prices > 0, rules.at_most, rules.at_least)
    size = float(np.sum(np.abs(prices[some] * side[some])))
    return bound_of(rules, prices, worth(crowd.problem, prices)) < least - _PROOF * max(size, abs(least))


def relaxation(
    problem: Problem, limits: Limits, guilty: tuple[str, ...], *, seed: int, seconds: float
) -> dict[str, float]:
    """By how much the guilty limits would have to give way so that all can hold, each where it must.

    The least, a unit of each limit weighed by what a typical candidate is worth for it. Where others, too,
    contradict each other, all give way. Empty when not found in time, or where the rules of users alone
    contradict each other.
    """
    end = time.monotonic() + seconds
    named = np.array([limit.name in guilty for limit in limits.limits], np.bool_)
    found = _given(problem, limits, named, seed=seed, end=time.monotonic() + 0.5 * seconds)
    if not found and not named.all():
        found = _given(problem, limits, np.ones(named.size, np.bool_), seed=seed, end=end)
    return found


def _given(problem: Problem, limits: Limits, gives: Mask, *, seed: int, end: float) -> dict[str, float]:
    """The least by which some limits [L] give way; those with a penalty have theirs."""
    few = Here(problem=problem).sample(_FEW, seed) if problem.size > _FEW else problem
    rules, units = problem.rules, units_of(few)
    gives = gives & np.isinf(rules.penalty)
    soft = replace(problem, rules=replace(rules, penalty=np.where(gives, _DEAR * units, rules.penalty)))
    if problem.size <= _LINEAR:
        chosen = solve_whole(soft, seconds=end - time.monotonic(), gap=1e-3, seed=seed).chosen
    else:
        here = Here(problem=soft)
        half = time.monotonic() + _PRICING * (end - time.monotonic())
        prices = find_prices(here, seed=seed, end=half, trusting=True)
        prices, soft = pool_of(here, prices, _POOL)
        bound = bound_of(here.rules, prices.values, here.worth(prices.values))
        best = Best(problem=soft, complete=False, bound=bound)
        units = np.maximum(units, np.abs(prices.values))
        start = start_of(soft, prices)
        search(best, prices.values, units, start, end=end, gap=1e-3, seed=seed, method={})
        chosen = best.chosen
    if chosen is None:
        return {}
    # what others use, who are settled, is taken off the bounds
    used, bounds = soft.used(chosen), soft.rules
    over = np.maximum(used - bounds.at_most, 0.0) + np.maximum(bounds.at_least - used, 0.0)
    return {
        limit.name: float(by)
        for limit, by, gave in zip(limits.limits, over, gives, strict=True)
        if gave and by > 1e-9
    }


def _only(limits: Limits, kept: list[str], many: int) -> Limits:
    """The limits and rules of which the names are kept; the others bind nobody."""
    rules = limits.per_user
    most = rules.max_tasks if "per_user.max_tasks" in kept else max(many, rules.min_tasks)
    return Limits(
        per_user=PerUser(
            max_tasks=most,
            min_tasks=rules.min_tasks if "per_user.min_tasks" in kept else 0,
            max_by={c: by for c, by in rules.max_by.items() if f"per_user.max_by.{c}" in kept},
            never_together=rules.never_together if "per_user.never_together" in kept else (),
        ),
        limits=tuple(_loose(limit, limit.name in kept) for limit in limits.limits),
    )


def _loose(limit: Limit, kept: bool) -> Limit:
    if kept:
        return limit
    return limit.model_copy(update={"at_most": np.inf, "at_least": None, "penalty": None})
