"""What users would do at given prices, by one pass over their candidates on every core.

Once limits are priced, users do not meet any more: each one's best reply, its worth and what it uses are
found alone, and sums over users are all that a search for prices needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import numpy as np

from conflict import alternatives, kernels
from conflict.problem import Floats, Ints, Mask, Problem, Rules

T = TypeVar("T")

#: candidates of one piece of work
_PIECE = 400_000
#: other replies of one user that are looked at
_ROOM = 64


@dataclass(frozen=True, kw_only=True)
class Box:
    """Prices between which the best ones are looked for, [L] each."""

    at: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What all best replies come to at some prices."""

    #: Σ value less tolls, at most
    net: float
    #: Σ value
    gross: float
    #: what they use of every limit, [L]
    use: Floats


class Crowd(Protocol):
    """All candidates, wherever they are: in this process, or spread over a cluster."""

    @property
    def rules(self) -> Rules: ...
    @property
    def size(self) -> int: ...
    @property
    def users(self) -> int: ...
    @property
    def elsewhere(self) -> float: ...

    def sample(self, size: int, seed: int) -> Problem:
        """Users drawn at random with about `size` candidates, under bounds that shrink in proportion."""
        ...

    def narrowed(self, box: Box) -> Problem:
        """As the function of that name."""
        ...

    def worth(self, prices: Floats) -> Worth:
        """As the function of that name."""
        ...


@dataclass(frozen=True, kw_only=True)
class Here:
    """A crowd in this process."""

    problem: Problem

    @property
    def rules(self) -> Rules:
        return self.problem.rules

    @property
    def size(self) -> int:
        return self.problem.size

    @property
    def users(self) -> int:
        return self.problem.users

    @property
    def elsewhere(self) -> float:
        return self.problem.elsewhere

    def sample(self, size: int, seed: int) -> Problem:
        problem = self.problem
        wanted = max(1, round(problem.users * size / problem.size))
        users = np.unique(np.random.default_rng(seed).integers(0, problem.users, wanted))
        share = users.size / problem.users
        return problem.people(users).bounded(
            problem.rules.at_most * share, problem.rules.at_least * share, problem.elsewhere * share
        )

    def narrowed(self, box: Box) -> Problem:
        return narrowed(self.problem, box)

    def worth(self, prices: Floats) -> Worth:
        return worth(self.problem, prices)


@dataclass(frozen=True, kw_only=True)
class Rivals:
    """Replies that compete, user by user; each user's best one first."""

    #: user of each reply, [r], ascending
    owner: Ints
    #: reply j holds candidates members[starts[j]:starts[j+1]]
    starts: Ints
    members: Ints
    #: what it loses against the user's best, ≥ 0, [r]
    losses: Floats
    #: users who have more replies than are here
    cut: int


def worth(problem: Problem, prices: Floats, chosen: Mask | None = None) -> Worth:
    """Σ of best replies at prices [L]; `chosen` [n] is marked where given."""
    tolls = problem.rules.tolls(prices, problem.amounts.shape[0])
    mark = np.zeros(0, np.bool_) if chosen is None else chosen

    def piece(first: int, last: int) -> tuple[float, float, Floats]:
        table = np.zeros_like(tolls)
        net, gross = kernels.reply(first, last, *_columns(problem), tolls, table, mark)
        return net, gross, table

    nets, grosses, tables = zip(*_spread(problem, piece), strict=True)
    return Worth(net=float(sum(nets)), gross=float(sum(grosses)), use=problem.rules.use(sum(tables)))


def narrowed(problem: Problem, box: Box) -> Problem:
    """The users whose best reply may change inside the box, with those candidates that may matter there.

    What the others choose is taken off the bounds and added to `elsewhere`.
    """
    rows = problem.amounts.shape[0]
    at, low, high = (problem.rules.tolls(each, rows) for each in (box.at, box.low, box.high))

    def piece(first: int, last: int) -> tuple[float, Floats, Ints, Ints, Any, Any, Any]:
        begin, end = int(problem.starts[first]), int(problem.starts[last])
        kept, counts = np.zeros(end - begin, np.bool_), np.zeros(last - first, np.int64)
        table = np.zeros_like(at)
        settled = kernels.narrow(first, last, *_columns(problem), at, low, high, table, kept, counts)
        some, here = np.flatnonzero(counts), np.flatnonzero(kept)
        # taken here, as long as other pieces are worked on
        columns = (each[..., begin:end].take(here, axis=-1) for each in _by_candidate(problem))
        return settled, table, here + begin, counts[some], *columns

    pieces = list(zip(*_spread(problem, piece), strict=True))
    # one column after the other, so that no two of them are held in pieces and as a whole
    kind, amounts, value, counts, at_ = (np.concatenate(pieces.pop(), axis=-1) for _ in range(5))
    tables, settled = pieces.pop(), pieces.pop()
    use = problem.rules.use(sum(tables))
    return replace(
        problem.bounded(
            problem.rules.at_most - use,
            problem.rules.at_least - use,
            problem.elsewhere + float(sum(settled)),
        ),
        value=value,
        amounts=amounts,
        kind=kind,
        starts=np.r_[0, np.cumsum(counts)].astype(np.int64),
        origin=at_ if problem.origin is None else problem.origin[at_],
    )


def _by_candidate(problem: Problem) -> tuple[Any, Any, Any]:
    return problem.value, problem.amounts, problem.kind


def rivals(problem: Problem, box: Box, within: float = 0.0, room: int = _ROOM) -> Rivals:
    """Replies that are best somewhere in the box, or lose at most `within` more than that."""
    rows = problem.amounts.shape[0]
    tolls = [problem.rules.tolls(each, rows) for each in (box.at, box.low, box.high)]

    def piece(first: int, last: int) -> tuple[Ints, Ints, Ints, Floats, int]:
        size = 4 * (last - first) + 64
        wide = 2 * size
        while True:
            owner, lengths = np.zeros(size, np.int64), np.zeros(size, np.int64)
            members, losses = np.zeros(wide, np.int64), np.zeros(size)
            replies, many, cut = alternatives.rivals(
                first, last, *_columns(problem), *tolls, within, room, owner, lengths, members, losses
            )
            if replies <= size and many <= wide:
                return owner[:replies], lengths[:replies], members[:many], losses[:replies], cut
            size, wide = max(size, replies), max(wide, many)

    owner, lengths, members, losses, cut = zip(*_spread(problem, piece), strict=True)
    return Rivals(
        owner=np.concatenate(owner),
        starts=np.r_[0, np.cumsum(np.concatenate(lengths))].astype(np.int64),
        members=np.concatenate(members),
        losses=np.maximum(np.concatenate(losses), 0.0),
        cut=int(sum(cut)),
    )


def _columns(problem: Problem) -> tuple[Any, ...]:
    rules = problem.rules
    return (
        problem.starts, problem.value, problem.amounts, problem.kind,
        rules.slots, rules.caps, rules.max_tasks, rules.min_tasks, rules.nested,
    )  # fmt: skip


def _spread(problem: Problem, piece: Callable[[int, int], T]) -> list[T]:
    """A piece of work for each range of users, one thread a core; kernels let go of Python's lock."""
    edges = np.arange(_PIECE, problem.size, _PIECE)
    users = np.unique(np.r_[0, np.searchsorted(problem.starts, edges), problem.users])
    ranges = [(int(first), int(last)) for first, last in pairwise(users)]
    if len(ranges) <= 1:
        # also where there is nobody at all
        return [piece(0, problem.users)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(lambda each: piece(*each), ranges))
