"""Ten million users × two hundred possible tasks, brought down to the ten that can matter for each."""

from __future__ import annotations

import resource
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.case import Case, Line
from benchmarks.pruning_world import TASKS, frame_of, labels, limits, made
from conflict.api import allocate
from conflict.problem import Problem, compile_rules
from conflict.reply import Here
from conflict.solve import solve
from kernel.choices import Allocation
from planner.pruning import (
    Columns,
    Fates,
    Pruner,
    box_of,
    pruner,
    scaled,
    scarce_floors,
    signed,
    typical_of,
)

Ints = NDArray[np.int64]
#: pairs, what became of them, seconds in which they were made
_Chunk = tuple[Columns, Fates, float]
#: kept of a user, at most
MOST = 10
#: users of each sample that tells prices, of the one that is allocated with and without pruning, of a chunk
_TELLS, _SAMPLES, _JUDGED, _CHUNK = 4_000, 3, 50_000, 20_000
#: relative gap that prices of a sample need, and that the judged need
_NEAR, _PROVEN = 1e-3, 1e-5


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size` users. Ours: everything pruned, then allocated. Judged on a sample that told no prices, against
    all of its candidates, and against the same number kept by value."""
    drawn = np.random.default_rng(seed).permutation(size)
    tells = min(_TELLS, size // 8)
    began = time.perf_counter()
    pruned = _pruner(drawn[: _SAMPLES * tells].reshape(_SAMPLES, tells), size, seed)
    learnt = time.perf_counter() - began

    began = time.perf_counter()
    every = _everybody(pruned, size, seed)
    took = time.perf_counter() - began
    everybody, making = every.kept, every.making
    began = time.perf_counter()
    problem = Problem(
        rules=compile_rules(labels(), limits(size), ["cost"]),
        value=everybody.value,
        amounts=everybody.amounts,
        kind=everybody.kind.astype(np.uint16),
        starts=everybody.starts,
    )
    solution = solve(Here(problem=problem), seconds=seconds, gap=1e-4, seed=seed)
    allocated = time.perf_counter() - began
    prices = dict(zip([each.name for each in limits(size).limits], solution.prices.values, strict=True))
    bound = pruned.bound(pruned.worth(everybody, prices), every.lost, prices)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    judged = np.sort(drawn[_SAMPLES * tells :][: min(_JUDGED, size // 2)])
    lines = _judged(pruned, judged, size, seed, seconds)
    ours = lines[0]
    notes: dict[str, object] = {
        "a user": f"{everybody.value.size / size:.1f} of {every.possible / size:.0f}",
        "prices s": f"{learnt:.1f}",
        "making s": f"{making:.0f}",
        "pruning s": f"{took - making:.0f}",
        "allocation s": f"{allocated:.0f}",
        "behind all candidates at most": f"{(bound - solution.objective) / solution.objective:.4%}",
        "peak GiB": f"{peak:.1f}",
    }
    whole = Line(size=size, who="ours", ratio=1.0, times=1.0, seconds=took, notes={**notes, **ours.notes})
    return [
        whole,
        *(
            replace(line, size=judged.size, times=line.seconds / max(ours.seconds, 1e-9))
            for line in lines[1:]
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class _Every:
    """Everybody's candidates after pruning."""

    kept: Columns
    possible: int
    lost: float
    #: seconds in which pairs were made, which no planner does, over two threads
    making: float


def _pruner(samples: Ints, size: int, seed: int) -> Pruner:
    """From prices of samples [samples, users], their limits scaled."""
    share = samples.shape[1] / size
    whole, found = limits(size), list[dict[str, float]]()
    for users in samples:
        columns = made(np.sort(users), seed)
        frame = frame_of(columns, np.sort(users))
        answer = allocate(frame, scaled(whole, share), time_limit=20.0, gap=_NEAR, seed=seed)
        found.append({use.name: use.price for use in answer.limits})
    box = signed(box_of(found, typical_of(frame, whole)), whole)
    pruned = pruner(labels(), whole, box, MOST)
    return replace(pruned, scarce=scarce_floors(pruned, columns, pruned.prune(columns), share))


def _everybody(pruned: Pruner, size: int, seed: int) -> _Every:
    """In chunks on two threads; what is kept stays in 32 bits."""
    value, cost, kind, many = list[pl.Series](), list[pl.Series](), list[pl.Series](), list[Ints]()
    possible, lost, making = 0, 0.0, 0.0

    def one(users: Ints) -> _Chunk:
        began = time.perf_counter()
        columns = made(users, seed)
        spent = time.perf_counter() - began
        return columns, pruned.prune(columns), spent

    for columns, fates, spent in _ahead(one, size):
        kept = fates.kept
        value.append(pl.Series(columns.value[kept]))
        cost.append(pl.Series(columns.amounts[0][kept]))
        kind.append(pl.Series(columns.kind[kept].astype(np.uint8)))
        sums = np.concatenate([[0], np.cumsum(kept)])
        many.append(np.diff(sums[columns.starts]))
        possible, lost, making = possible + kept.size, lost + fates.lost, making + spent / 2
    starts = np.concatenate([[0], np.cumsum(np.concatenate(many))])
    return _Every(
        kept=Columns(
            starts=starts.astype(np.int64),
            value=pl.concat(value, rechunk=True).to_numpy(),
            amounts=pl.concat(cost, rechunk=True).to_numpy().reshape(1, -1),
            kind=pl.concat(kind, rechunk=True).to_numpy(),
        ),
        possible=possible,
        lost=lost,
        making=making,
    )


def _ahead(one: Callable[[Ints], _Chunk], size: int) -> Iterator[_Chunk]:
    """In order; three chunks are held."""
    with ThreadPoolExecutor(2) as pool:
        waiting: deque[Future[_Chunk]] = deque()
        for begin in range(0, size, _CHUNK):
            waiting.append(pool.submit(one, np.arange(begin, min(begin + _CHUNK, size))))
            if len(waiting) > 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _judged(pruned: Pruner, users: Ints, size: int, seed: int, seconds: float) -> list[Line]:
    """The same users with what ours keeps, with everything, and with as many by value."""
    columns = made(users, seed)
    frame, mine = frame_of(columns, users), scaled(limits(size), users.size / size)
    by_value = pl.col("value").rank("ordinal", descending=True).over("user") <= MOST
    contestants = {
        "ours": frame.filter(pruned.prune(columns).kept),
        "all candidates": frame,
        f"the {MOST} of most value": frame.filter(by_value),
    }
    lines = list[Line]()
    found = dict[str, Allocation]()
    for who, some in contestants.items():
        found[who] = allocate(some, mine, time_limit=seconds, gap=_PROVEN, seed=seed)
    ours, best = found["ours"].objective or 0.0, found["all candidates"].bound or 0.0
    for who, answer in found.items():
        worth = answer.objective
        told = "no choice keeps the floors" if worth is None else f"{(best - worth) / best:.4%}"
        lines.append(
            Line(
                size=users.size, who=who, ratio=None if worth is None else worth / ours, times=1.0,
                seconds=answer.seconds,
                notes={"sample's candidates": contestants[who].height, "behind the bound of all": told},
            )
        )  # fmt: skip
    return lines


CASE = Case(
    about=(
        f"Users × {TASKS} tasks, a quarter of pairs not eligible, many worth nothing; money, channels and a "
        f"benefit scarce, two floors, two tasks a user. Pruned to {MOST} a user in chunks by prices of three "
        f"samples of {_TELLS:,} users, then allocated. Below: {_JUDGED:,} other users under the same limits, "
        "scaled: what pruning loses of what all their candidates would bring, proven. Seconds of ours: all "
        "pairs made and pruned."
    ),
    measure="objective",
    sizes=(10_000_000,),
    smoke=2_000,
    run=run,
    packages=("ortools", "numba", "numpy", "polars"),
)
