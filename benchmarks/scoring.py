"""Users × tasks scored by boosted trees, beside LightGBM's own C code on the same blocks."""

from __future__ import annotations

import resource
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from benchmarks.case import Case, Line
from models.scoring_trees import Tasks, compile_forest, prepare, raw_scores

Floats = NDArray[np.float64]
#: features of the user and of the task; tasks; users of a block
USER, TASK, TASKS, BLOCK = 80, 20, 20, 16_384
_ROUNDS, _LEAVES, _LEARNED = 200, 31, 20_000
#: users that the peer scores where all would take too long; its time is in proportion
MOST_OF_PEER = 20_000
_THREADS = 2


@lru_cache(maxsize=2)
def booster(rounds: int) -> lgb.Booster:
    """LightGBM as it comes (31 leaves), on users, tasks and what they have together."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(_LEARNED, USER + TASK))
    x[rng.random(x.shape) < 0.05] = np.nan
    filled = np.nan_to_num(x)
    score = filled[:, 0] + filled[:, USER] * filled[:, 1] + 0.5 * filled[:, 2] * filled[:, 3]
    y = (score + rng.normal(size=_LEARNED) > 0).astype(float)
    told = {"objective": "binary", "num_leaves": _LEAVES, "verbose": -1, "num_threads": _THREADS, "seed": 1}
    return lgb.train(told, lgb.Dataset(x, y), rounds)


@lru_cache(maxsize=4)
def _drawn(seed: int) -> Floats:
    x = np.random.default_rng(seed).standard_normal((USER, BLOCK))
    x[:, ::17] = np.nan
    return x


def block(number: int, size: int, seed: int) -> Floats:
    """Features × users: for each block the same numbers, of other users for each feature."""
    x = np.roll(_drawn(seed), 7 * number, axis=1)
    x[number % USER] *= -1
    return np.ascontiguousarray(x[:, :size])


def ours(tasks: Tasks, size: int, seed: int) -> tuple[float, float]:
    """Seconds in the scorer, blocks side by side on all cores; and the sum of all scores."""
    nothing = np.empty((TASKS, 0, 0))

    def one(users: Floats) -> float:
        out = np.zeros((TASKS, users.shape[1]))
        raw_scores(tasks, users, nothing, out)
        return float(out.sum())

    return _timed(one, size, seed)


def theirs(model: lgb.Booster, given: Floats, size: int, seed: int) -> tuple[float, float]:
    """The same rows built for LightGBM, whose own threads share a block; building them is not counted."""
    seconds, total = 0.0, 0.0
    for number, begin in enumerate(range(0, size, BLOCK)):
        users = block(number, min(BLOCK, size - begin), seed)
        rows = np.empty((users.shape[1] * TASKS, USER + TASK))
        rows[:, :USER] = np.repeat(users.T, TASKS, axis=0)
        rows[:, USER:] = np.tile(given, (users.shape[1], 1))
        begun = time.perf_counter()
        found = model.predict(rows, raw_score=True, num_threads=_THREADS)
        seconds += time.perf_counter() - begun
        total += float(np.asarray(found).sum())
    return seconds, total


def _timed(score: Any, size: int, seed: int) -> tuple[float, float]:
    seconds, total = 0.0, 0.0
    begins = range(0, size, BLOCK)
    with ThreadPoolExecutor(_THREADS) as pool:
        for first in range(0, len(begins), _THREADS):
            some = [
                block(number, min(BLOCK, size - begins[number]), seed)
                for number in range(first, min(first + _THREADS, len(begins)))
            ]
            begun = time.perf_counter()
            total += sum(pool.map(score, some))
            seconds += time.perf_counter() - begun
    return seconds, total


def farthest(model: lgb.Booster, tasks: Tasks, given: Floats, seed: int) -> float:
    """The greatest difference of a score on one block."""
    users = block(0, 512, seed)
    out = np.zeros((TASKS, users.shape[1]))
    raw_scores(tasks, users, np.empty((TASKS, 0, 0)), out)
    rows = np.concatenate([np.repeat(users.T, TASKS, axis=0), np.tile(given, (users.shape[1], 1))], axis=1)
    return float(np.abs(np.asarray(model.predict(rows, raw_score=True)).reshape(-1, TASKS).T - out).max())


def run(size: int, seed: int, seconds: float) -> list[Line]:
    model = booster(_ROUNDS if size >= 10_000 else 10)
    given = np.random.default_rng([seed, 7]).normal(size=(TASKS, TASK))
    names = model.feature_name()
    tasks = prepare(compile_forest([model], names), given, names[USER:])
    ours(tasks, min(size, 1000), seed)  # compiled before it is timed
    took, total = ours(tasks, size, seed)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    some = min(size, MOST_OF_PEER)
    part, checked = theirs(model, given, some, seed)
    if some == size:
        assert abs(total - checked) <= 1e-6 * max(abs(total), 1.0)
    whole = part * size / some
    worst = farthest(model, tasks, given, seed)
    return [
        _line("ours", size, took, took, {"peak GiB": round(peak, 2), "greatest difference": f"{worst:.1e}"}),
        _line("LightGBM's predict", size, whole, took, {"users that it scored": some}),
    ]


def _line(who: str, size: int, seconds: float, us: float, notes: dict[str, object]) -> Line:
    return Line(
        size=size,
        who=who,
        ratio=us / seconds,
        times=seconds / us,
        seconds=seconds,
        notes={"rows a second": round(size * TASKS / seconds), "rows": size * TASKS, **notes},
    )


CASE = Case(
    about=f"Users × {TASKS} tasks by {_ROUNDS} trees of {_LEAVES} leaves over {USER} features of the user "
    f"and {TASK} of the task, in blocks of {BLOCK:,} users, two threads each; making them is not counted. "
    f"LightGBM scores the product of users and tasks, at most {MOST_OF_PEER:,} users of it: its seconds for "
    "more are in proportion.",
    measure="rows a second",
    sizes=(1_000_000, 10_000_000),
    smoke=300,
    run=run,
    packages=("lightgbm", "numba"),
)
