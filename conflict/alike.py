"""Users alike: those with the very same candidates stand for one another.

Values on a grid and tiered costs make ties that no price can break, and with them many users who are open at
any price. What is open of a user is a few candidates, though, and there are few different ones of those: one
user of each sort, counted as often as it occurs, makes a small problem with the same prices.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from conflict.core import Core
from conflict.problem import Floats, Ints, Mask, Problem


def _hash_python(starts: Any, bits: Any, kind: Any, out: Any) -> None:
    """A number for the candidates of each user: `bits` [rows, n] are values and amounts as whole numbers."""
    for user in range(starts.size - 1):
        mixed = np.uint64(0x9E3779B97F4A7C15)
        for each in range(starts[user], starts[user + 1]):
            for row in range(bits.shape[0] + 1):
                part = np.uint64(kind[each]) if row == bits.shape[0] else bits[row, each]
                mixed = (mixed ^ part) * np.uint64(0xBF58476D1CE4E5B9)
                mixed = mixed ^ (mixed >> np.uint64(29))
        out[user] = mixed


_hash = numba.njit(nogil=True, cache=True)(_hash_python)


def gathered(problem: Problem) -> tuple[Problem, Ints]:
    """One user of each sort, counted, and the place of each user's sort in it, [U]."""
    columns = np.vstack([problem.value[None, :], problem.amounts]).astype(np.float64)
    marks = np.zeros(problem.users, np.uint64)
    _hash(problem.starts, columns.view(np.uint64), problem.kind, marks)
    _, first, sort, counts = np.unique(marks, return_index=True, return_inverse=True, return_counts=True)
    if first.size == problem.users:
        return problem, np.arange(problem.users)
    times = counts
    if problem.times.size:
        times = np.bincount(sort, weights=problem.times).astype(np.int64)
    # in the order in which they first occur, so that places mean the same to whoever narrows further
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    alike = problem.people(first[order])
    return Problem(**{**vars(alike), "times": times[order].astype(np.int64)}), place[sort].astype(np.int64)


def dealt(problem: Problem, sort: Ints, core: Core, taken: Floats, seed: int) -> tuple[Mask, Mask]:
    """What each of the alike takes [n], where `taken` says how many of a sort take each column of its core.

    Fractions are rounded down; the second mask [U] says whose choice was whole. `seed` draws who gets what.
    """
    alike = core.problem
    chosen = np.zeros(problem.size, np.bool_)
    lot = np.random.default_rng(seed).random(problem.users)
    order = np.lexsort((lot, sort))
    edges = np.searchsorted(sort[order], np.arange(alike.users + 1))
    counts = np.floor(taken + 1e-6).astype(np.int64)
    some = np.flatnonzero(counts)
    given = np.zeros(alike.users, np.int64)
    for column in some:
        user, reply = core.owner[column], core.reply[column]
        held = (
            core.rivals.members[core.rivals.starts[reply] : core.rivals.starts[reply + 1]]
            - alike.starts[user]
        )
        first = edges[user] + given[user]
        last = min(first + counts[column], edges[user + 1])
        who = order[first:last]
        chosen[np.add.outer(problem.starts[who], held).ravel()] = True
        given[user] += last - first
    # the base has what columns leave
    times = alike.times if alike.times.size else np.ones(alike.users, np.int64)
    rest = times - np.bincount(core.owner, weights=taken, minlength=alike.users)
    rank = np.empty(problem.users, np.int64)
    rank[order] = np.arange(problem.users) - edges[sort[order]]
    keeps = rank >= given[sort]
    whole = rank < (given + np.floor(rest + 1e-6).astype(np.int64))[sort]
    within = np.arange(problem.size) - np.repeat(problem.starts[:-1], np.diff(problem.starts))
    owner = problem.user_of()
    base = core.base[alike.starts[sort[owner]] + within]
    return np.asarray(np.where(keeps[owner], base, chosen)) & whole[owner], whole
