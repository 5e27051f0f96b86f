"""Rounds over the chunks of a crowd, in the workers of a cluster.

A round makes a `Problem` of each chunk and runs the very same functions as in one process. Every answer names
its chunk by partition and first candidate, with the chunk's seal.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from conflict.problem import Floats, Ints, Mask, Problem, Rules
from conflict.reply import Box, narrowed, worth
from conflict.spark_chunks import (
    PARTITION,
    Batches,
    Changed,
    Columns,
    Round,
    chunks_of,
    places,
    problem_of_rows,
    problems,
    row_of,
    seal_of,
)

#: answer to `worths`
WORTH = "partition int, first long, seal long, net double, gross double, use binary"
#: answer to `narrowings` and `samples`
SOME = (
    "partition int, first long, seal long, settled double, use binary, "
    "counts binary, value binary, amounts binary, kind binary, origin binary"
)
#: answer to `totals`
TOTALS = (
    "partition int, first long, seal long, chosen long, objective double, use binary, open long, mark long"
)


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What the driver has decided about users who were left open."""

    #: users settled in this box take their best reply at `box.at`; None: everybody does
    box: Box | None
    at: Floats
    #: places of the candidates that the others take, ascending
    chosen: Ints


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Users drawn at random: the same ones in every process."""

    of: int
    wanted: int
    seed: int

    def users(self) -> Ints:
        """Ascending, each once; fewer than wanted where one was drawn twice."""
        return np.unique(np.random.default_rng(self.seed).integers(0, self.of, self.wanted))


def worths(rules: Rules, width: str, prices: Floats) -> Round:
    def run(batches: Batches) -> Batches:
        for chunk, problem in problems(batches, rules, width):
            at = worth(problem, prices)
            yield row_of(WORTH, **_head(chunk), net=at.net, gross=at.gross, use=at.use.tobytes())

    return run


def narrowings(rules: Rules, width: str, box: Box) -> Round:
    def run(batches: Batches) -> Batches:
        for chunk, problem in problems(batches, rules, width):
            yield _some(chunk, narrowed(problem, box))

    return run


def samples(rules: Rules, width: str, draw: Draw, before: dict[tuple[int, int], int]) -> Round:
    """`before` has for each chunk (partition, first) how many users stand before it in the crowd."""

    def run(batches: Batches) -> Batches:
        drawn = draw.users()
        for chunk, problem in problems(batches, rules, width):
            start = before[chunk["partition"], chunk["first"]]
            low, high = np.searchsorted(drawn, [start, start + problem.users])
            yield _some(chunk, problem.people(drawn[low:high] - start))

    return run


def totals(rules: Rules, width: str, decided: Decided) -> Round:
    def run(batches: Batches) -> Batches:
        for chunk, problem in problems(batches, rules, width):
            chosen, open_ = _choice(problem, chunk["partition"], chunk["first"], decided)
            at = np.flatnonzero(chosen)
            yield row_of(
                TOTALS,
                **_head(chunk),
                chosen=at.size,
                objective=float(problem.value[at].sum(dtype=np.float64)),
                use=rules.use(problem.table(at)).tobytes(),
                open=open_.size,
                mark=zlib.crc32(open_.tobytes()),
            )

    return run


def writing(columns: Columns, decided: Decided, seals: dict[tuple[int, int], int]) -> Round:
    """Rows by user and task → those that are chosen, as they are; `seals` by (partition, first)."""

    def run(batches: Batches) -> Batches:
        for partition, first, rows in chunks_of(batches, columns):
            problem, _ = problem_of_rows(rows, columns)
            if seals.get((partition, first)) != seal_of(problem):
                raise Changed
            chosen, _ = _choice(problem, partition, first, decided)
            yield from rows.filter(pa.array(chosen)).combine_chunks().to_batches()

    return run


def _choice(problem: Problem, partition: int, first: int, decided: Decided) -> tuple[Mask, Ints]:
    """What a chunk's users take, [n], and the places in the crowd of open users' candidates."""
    chosen = np.zeros(problem.size, np.bool_)
    base = (partition << PARTITION) + first
    worth(problem, decided.at, chosen)
    if decided.box is None:
        return chosen, np.zeros(0, np.int64)
    place = places(narrowed(problem, decided.box))
    owner = problem.user_of()
    open_ = np.zeros(problem.users, np.bool_)
    open_[owner[place]] = True
    chosen[open_[owner]] = False
    low, high = np.searchsorted(decided.chosen, [base, base + problem.size])
    chosen[decided.chosen[low:high] - base] = True
    return chosen, place + base


def _some(chunk: dict[str, Any], part: Problem) -> pa.RecordBatch:
    """Some of a chunk's users; what the others choose, under bounds of 0, is what is taken off those."""
    base = (chunk["partition"] << PARTITION) + chunk["first"]
    return row_of(
        SOME,
        **_head(chunk),
        settled=part.elsewhere,
        use=(-part.rules.at_most).tobytes(),
        counts=np.diff(part.starts).tobytes(),
        value=part.value.tobytes(),
        amounts=part.amounts.tobytes(),
        kind=part.kind.tobytes(),
        origin=(places(part) + base).tobytes(),
    )


def _head(chunk: dict[str, Any]) -> dict[str, Any]:
    return {key: chunk[key] for key in ("partition", "first", "seal")}
