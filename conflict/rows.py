"""A problem as a linear program: a variable a candidate, a row a limit, rows for the rules of each user."""

from __future__ import annotations

import numpy as np

from conflict.problem import Problem
from conflict.programs import Floats, Ints, Program

#: entries, length of each row, lower and upper bounds
_Block = tuple[Ints, Floats, Ints, Floats, Floats]


def program_of(problem: Problem, *, whole: bool) -> Program:
    """Limits first, in their order, then the rules of each user; rules that cannot bind are left out."""
    blocks = [
        _limits(problem),
        _tasks(problem),
        *(_family(problem, row) for row in range(len(problem.slots))),
    ]
    columns, coefficients, lengths, low, high = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return Program(
        value=problem.value,
        low=np.zeros(problem.size),
        high=np.ones(problem.size),
        whole=np.full(problem.size, whole),
        starts=np.r_[0, np.cumsum(lengths)].astype(np.int64),
        columns=columns,
        coefficients=coefficients,
        row_low=low,
        row_high=high,
    )


def _limits(problem: Problem) -> _Block:
    usage = [problem.usage(limit) for limit in range(problem.summed.size)]
    at = [np.flatnonzero(each) for each in usage]
    return (
        np.concatenate([np.zeros(0, np.int64), *at]),
        np.concatenate([np.zeros(0), *(each[some] for each, some in zip(usage, at, strict=True))]),
        np.array([some.size for some in at], np.int64),
        problem.at_least,
        problem.at_most,
    )


def _tasks(problem: Problem) -> _Block:
    counts = np.diff(problem.starts)
    rows = np.flatnonzero((counts > problem.max_tasks) | (problem.min_tasks > 0))
    inside = np.isin(problem.user_of(), rows)
    columns = np.flatnonzero(inside)
    low = np.full(rows.size, float(problem.min_tasks) if problem.min_tasks else -np.inf)
    return columns, np.ones(columns.size), counts[rows], low, np.full(rows.size, float(problem.max_tasks))


def _family(problem: Problem, family: int) -> _Block:
    slot = problem.slots[family].astype(np.int64)
    key = problem.user_of() * problem.caps.size + slot
    some = np.flatnonzero(slot)
    some = some[np.argsort(key[some], kind="stable")]
    keys, counts = np.unique(key[some], return_counts=True)
    most = problem.caps[keys % problem.caps.size]
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
