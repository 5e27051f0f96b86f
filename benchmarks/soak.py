"""Decisions for long: memory, and the tail as more and more is held of each user."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np

from benchmarks.case import Case, Line
from benchmarks.decide import Raw, asked, desk, learned
from benchmarks.decide_world import resident
from storage.journal import segments_of
from storage.journal_pruning import prune

_SECOND = 1_000_000
#: decisions between two looks at the clock, and raw predictions after them: how the machine is just then
_TURN, _RAW = 2_000, 200
_TENTHS = 10


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """Answers under keys are kept for a minute and journals pruned as they grow, so that what is held has a
    level; touches are held for a month, so of each user there are more and more."""
    chance, policy = random.Random(seed), learned(seed)  # noqa: S311  a benchmark's
    raw = Raw(chance)
    #: tenth → microsecond → how often it took so long; there from the beginning, lest it pass for a leak
    ours, bare = (np.zeros((_TENTHS, 10_000), dtype=np.int64) + 1 for _ in range(2))
    memory, disk = list[float](), list[int]()
    with desk(policy, keep=60 * _SECOND, segment=1 << 24) as (decider, store, folder):
        begun, number = time.perf_counter(), 0
        while (passed := max((time.perf_counter() - begun) / seconds, number / size)) < 1:
            tenth = int(passed * _TENTHS)
            for _ in range(min(_TURN, size)):
                request = asked(number, chance, given=False)
                before = time.perf_counter()
                decider.decide(request)
                _count(ours[tenth], before)
                number += 1
            for _ in range(_RAW):
                text = raw.text(request)
                before = time.perf_counter()
                raw(text)
                _count(bare[tenth], before)
            now = time.time_ns() // 1000
            store.sweep(now, 20_000)
            prune(folder / "journal", 1e12, {"w0": (segments_of(folder / "journal", "w0")[-1], 0)})
            if len(memory) <= tenth:
                memory.append(resident())
                disk.append(sum(path.stat().st_blocks for path in folder.rglob("*.log")) * 512)
        took = time.perf_counter() - begun
        held = [store.look(f"u{user}", now, key=None, session=None)[1].most for user in range(100)]
    first, last = _p99(ours[0]), _p99(ours[-1])
    notes: dict[str, object] = {
        "p99 µs, first tenth": first,
        "p99 µs, last tenth": last,
        "p50 µs, first tenth": _quantile(ours[0], 0.5),
        "p50 µs, last tenth": _quantile(ours[-1], 0.5),
        "MiB after a tenth": round(memory[min(1, len(memory) - 1)]),
        "MiB at the end": round(memory[-1]),
        "journal MiB, most": round(max(disk) / 2**20),
        "touches held of a user": round(float(np.mean(held))),
    }
    beside: dict[str, object] = {
        "p99 µs, first tenth": _p99(bare[0]),
        "p99 µs, last tenth": _p99(bare[-1]),
        "p50 µs, first tenth": _quantile(bare[0], 0.5),
        "p50 µs, last tenth": _quantile(bare[-1], 0.5),
    }
    return [
        Line(size=number, who="ours", ratio=1.0, times=1.0, seconds=took, notes=notes),
        Line(
            size=number * _RAW // _TURN,
            who="Vowpal Wabbit: parse, predict, draw",
            ratio=(last / first) / max(_p99(bare[-1]) / max(_p99(bare[0]), 1), 1e-9),
            times=1.0,
            seconds=took,
            notes=beside,
        ),
    ]


def _count(counts: Any, before: float) -> None:
    counts[min(int((time.perf_counter() - before) * 1e6), counts.size - 1)] += 1


def _p99(counts: Any) -> int:
    return _quantile(counts, 0.99)


def _quantile(counts: Any, share: float) -> int:
    """Microseconds."""
    passed = (counts - 1).cumsum()
    return int(np.searchsorted(passed, share * passed[-1]))


CASE = Case(
    about=(
        "Decisions of 5,000 users in a row, as in `decide`, in the process: its tail and anonymous memory in "
        "the first and the last tenth of the time; `--seconds 600` for ten minutes. In turns with them the "
        "bare predict and draw, which tells how the machine was just then."
    ),
    measure="growth of the tail, as a multiple of the bare predict's",
    sizes=(10_000_000,),
    smoke=1_000,
    run=run,
    packages=("vowpalwabbit", "lmdb"),
)
