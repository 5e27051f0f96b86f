"""What everybody takes, when the users who are settled are in a cluster and the others here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conflict.problem import Floats, Mask, Problem
from conflict.reply import Box, worth
from conflict.spark_chunks import places
from conflict.spark_job import Decided


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What everybody takes."""

    #: users who are not open take their best reply at these prices, [L]
    at: Floats
    #: those whose best reply may change inside it are open; None: nobody is
    box: Box | None = None
    #: the open users, as `narrowed` answered for the box
    pool: Problem | None = None
    #: what they take, [pool]
    chosen: Mask | None = None


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What a choice comes to, summed in 64 bits where the candidates are."""

    #: Σ value
    objective: float
    #: by limit, [L]
    used: Floats
    #: number of candidates taken
    chosen: int


def choice_of(levels: tuple[tuple[Problem, Box], ...], pool: Problem, chosen: Mask) -> Choice:
    """A choice among the users of one of `Prices.levels`, [pool], as one among those of the widest.

    Users between take what they were settled with: their best reply at the prices of the box in which that
    happened. At the prices of a later box an equally good one might be found, and limits would not add up.
    """
    place = next(
        level for level, (problem, _) in enumerate(levels) if np.array_equal(places(problem), places(pool))
    )
    for level in range(place, 0, -1):
        inner, box = levels[level]
        outer = levels[level - 1][0]
        wider = np.zeros(outer.size, np.bool_)
        worth(outer, box.at, wider)
        where = np.searchsorted(places(outer), places(inner))
        owner = outer.user_of()
        open_ = np.zeros(outer.users, np.bool_)
        open_[owner[where]] = True
        wider[open_[owner]] = False
        wider[where[chosen]] = True
        chosen = wider
    problem, box = levels[0]
    return Choice(at=box.at, box=box, pool=problem, chosen=chosen)


def decided(choice: Choice) -> Decided:
    if choice.pool is None or choice.chosen is None:
        return Decided(box=None, at=choice.at, chosen=np.zeros(0, np.int64))
    return Decided(box=choice.box, at=choice.at, chosen=places(choice.pool)[choice.chosen])
