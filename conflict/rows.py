"""A small problem as a linear program: a variable a candidate, rows for limits and for users' rules."""

from __future__ import annotations

import numpy as np

from conflict.problem import Problem
from conflict.programs import Floats, Ints, Program

#: entries, length of each row, lower and upper bounds
_Block = tuple[Ints, Floats, Ints, Floats, Floats]


def program_of(problem: Problem, *, whole: bool) -> Program:
    """Limits first, in their order, then the rules of each user; rules that cannot bind are left out.

    After the candidates come, for each limit with a penalty, what it is passed by above and below.
    """
    rules = problem.rules
    soft = np.flatnonzero(np.isfinite(rules.penalty))
    blocks = [
        _limits(problem, soft),
        _tasks(problem),
        *(_family(problem, row) for row in range(rules.slots.shape[1])),
    ]
    columns, coefficients, lengths, low, high = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    n, extra = problem.size, 2 * soft.size
    return Program(
        value=np.r_[problem.value, -rules.penalty[soft], -rules.penalty[soft]],
        low=np.zeros(n + extra),
        high=np.r_[np.ones(n), np.full(extra, np.inf)],
        whole=np.r_[np.full(n, whole), np.zeros(extra, np.bool_)],
        starts=np.r_[0, np.cumsum(lengths)].astype(np.int64),
        columns=columns,
        coefficients=coefficients,
        row_low=low,
        row_high=high,
    )


def _limits(problem: Problem, soft: Ints) -> _Block:
    rules = problem.rules
    columns: list[Ints] = []
    coefficients: list[Floats] = []
    for limit in range(rules.limits):
        usage = problem.usage(limit)
        some = np.flatnonzero(usage)
        place = np.flatnonzero(soft == limit)
        columns.append(np.r_[some, problem.size + place, problem.size + soft.size + place])
        coefficients.append(np.r_[usage[some], -np.ones(place.size), np.ones(place.size)])
    return (
        np.concatenate([np.zeros(0, np.int64), *columns]),
        np.concatenate([np.zeros(0), *coefficients]),
        np.array([each.size for each in columns], np.int64),
        rules.at_least,
        rules.at_most,
    )


def _tasks(problem: Problem) -> _Block:
    most, least = problem.rules.max_tasks, problem.rules.min_tasks
    counts = np.diff(problem.starts)
    rows = np.flatnonzero((counts > most) | (least > 0))
    inside = np.isin(problem.user_of(), rows)
    columns = np.flatnonzero(inside)
    low = np.full(rows.size, float(least) if least else -np.inf)
    return columns, np.ones(columns.size), counts[rows], low, np.full(rows.size, float(most))


def _family(problem: Problem, family: int) -> _Block:
    caps = problem.rules.caps
    slot = problem.rules.slots[problem.kind, family].astype(np.int64)
    key = problem.user_of() * caps.size + slot
    some = np.flatnonzero(slot)
    some = some[np.argsort(key[some], kind="stable")]
    keys, counts = np.unique(key[some], return_counts=True)
    most = caps[keys % caps.size]
    binds = counts > most
    columns = some[np.repeat(binds, counts)]
    rows = int(binds.sum())
    return (
        columns,
        np.ones(columns.size),
        counts[binds].astype(np.int64),
        np.full(rows, -np.inf),
        most[binds].astype(np.float64),
    )
