"""The made-up day of campaigns as compact columns, made where they stand: for sizes that no frame holds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import polars as pl

from benchmarks.campaigns import CAMPAIGNS, CHANNELS, PER_USER, campaigns
from conflict.problem import Problem, compile_rules
from kernel.choices import Limits

#: users made at a time
_CHUNK = 1_000_000


def crowd(users: int, seed: int, *, tied: bool = False, many: int = CAMPAIGNS) -> tuple[Problem, Limits]:
    """`users` × 10 candidates in 32 bits under the limits of `campaigns`, scaled.

    `many`: campaigns.

    `tied`: values on a grid of 0.1 and costs in tiers of 0.25, so that nearly every candidate has equals.
    """
    frame, limits = campaigns(20_000, seed, many)
    scale = users / 20_000
    scaled = [
        each.model_copy(
            update={
                side: round(bound * scale, 2)
                for side, bound in (("at_most", each.at_most), ("at_least", each.at_least))
                if bound is not None
            }
        )
        for each in limits.limits
    ]
    rng = np.random.default_rng(seed)
    appeal = rng.lognormal(0.0, 0.4, many).astype(np.float32)
    rng.lognormal(0.0, 0.5, 20_000)
    cost = frame.group_by("task").agg(pl.col("cost").mean()).sort("task")["cost"].to_numpy()
    n = users * PER_USER
    value, used = np.empty(n, np.float32), np.empty((1, n), np.float32)
    kind = np.empty(n, np.uint16)
    edges = [*range(0, users, _CHUNK), users]
    with ThreadPoolExecutor(2) as pool:
        for done in [
            pool.submit(_fill, first, last, seed + first, appeal, cost, value, used, kind, tied)
            for first, last in pairwise(edges)
        ]:
            done.result()
    kinds = pl.DataFrame({"channel": np.arange(many) % CHANNELS, "task": np.arange(many)})
    limits = Limits(per_user=limits.per_user, limits=tuple(scaled))
    problem = Problem(
        rules=compile_rules(kinds, limits),
        value=value,
        amounts=used,
        kind=kind,
        starts=np.arange(users + 1, dtype=np.int64) * PER_USER,
    )
    return problem, limits


def _fill_python(
    first: int, last: int, seed: int, appeal: Any, cost: Any, value: Any, used: Any, kind: Any, tied: bool
) -> None:
    np.random.seed(seed % 2**31)
    order = np.arange(appeal.size)
    for user in range(first, last):
        taste = np.exp(0.5 * np.random.normal())
        for place in range(PER_USER):
            other = np.random.randint(place, order.size)
            order[place], order[other] = order[other], order[place]
        picked = np.sort(order[:PER_USER])
        for place in range(PER_USER):
            each, task = user * PER_USER + place, picked[place]
            worth = appeal[task] * taste * np.exp(0.4 * np.random.normal())
            price = cost[task] * (0.8 + 0.4 * np.random.random())
            if tied:
                worth = max(np.round(worth * 10.0), 1.0) / 10.0
                price = max(np.round(price * 4.0), 1.0) / 4.0
            value[each], used[0, each], kind[each] = worth, price, task


_fill = numba.njit(nogil=True, cache=True)(_fill_python)
