"""Users alike: those who stand before the very same choice count for one another.

Values on a grid and tiered costs make ties that no price can break, and with them many users who are open at
any price. What is open of a user is a few replies, though, and what those add and use differs in few ways:
one user of each sort, counted as often as it occurs, makes a small program with the same prices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from conflict.core import Core
from conflict.problem import Floats, Ints, Mask


@dataclass(frozen=True, kw_only=True)
class Sorts:
    """The users of a core by what they can choose between."""

    #: one user of each sort, counted
    core: Core
    #: the columns of the whole core, user by user, in an order that is the same for all of a sort, [c]
    order: Ints
    #: where each user's columns begin there, [users + 1]
    starts: Ints
    #: each user's sort, [users]
    sort: Ints
    #: where each sort's columns begin in `core`, [sorts + 1]
    firsts: Ints


def sorts_of(core: Core) -> Sorts:
    """Users whose columns add and use the same, in whatever order, are of one sort."""
    marks = core.marks()
    order = np.lexsort((marks, core.owner))
    owner = core.owner[order]
    begins = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]][: owner.size])
    starts = np.r_[begins, owner.size].astype(np.int64)
    mixed = marks[order]
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    sums = np.add.reduceat(mixed, begins) if begins.size else np.zeros(0, np.uint64)
    _, first, sort, counts = np.unique(sums, return_index=True, return_inverse=True, return_counts=True)
    lengths = np.diff(starts)[first]
    firsts = np.r_[0, np.cumsum(lengths)].astype(np.int64)
    columns = order[np.repeat(starts[:-1][first] - firsts[:-1], lengths) + np.arange(firsts[-1])]
    alike = replace(
        core.only(columns),
        owner=np.repeat(np.arange(lengths.size), lengths),
        times=np.repeat(counts, lengths).astype(np.int64),
    )
    return Sorts(core=alike, order=order, starts=starts, sort=sort.astype(np.int64), firsts=firsts)


def dealt(core: Core, sorts: Sorts, taken: Floats, seed: int) -> tuple[Mask, Mask]:
    """What each user takes [n], where `taken` says how many of a sort take each column.

    Fractions are rounded down; the second mask [users of the problem] says whose choice was whole. `seed`
    draws who gets what.
    """
    users = sorts.sort.size
    lot = np.random.default_rng(seed).random(users)
    line = np.lexsort((lot, sorts.sort))
    edges = np.searchsorted(sorts.sort[line], np.arange(sorts.firsts.size))
    rank = np.empty(users, np.int64)
    rank[line] = np.arange(users) - edges[sorts.sort[line]]
    counts = np.floor(taken + 1e-6).astype(np.int64)
    columns: list[Ints] = []
    decided = np.zeros(users, np.bool_)
    for sort in range(sorts.firsts.size - 1):
        mine = slice(sorts.firsts[sort], sorts.firsts[sort + 1])
        who = line[edges[sort] : edges[sort + 1]]
        given = 0
        for place, count in enumerate(counts[mine]):
            some = who[given : given + count]
            columns.append(sorts.order[sorts.starts[some] + place])
            given += int(count)
        # the base has what columns leave
        rest = who.size - float(taken[mine].sum())
        decided[who[: given + int(np.floor(rest + 1e-6))]] = True
    whole = np.ones(core.problem.users, np.bool_)
    whole[core.owner[sorts.order[sorts.starts[:-1][~decided]]]] = False
    return core.choice(np.concatenate([np.zeros(0, np.int64), *columns])), whole
