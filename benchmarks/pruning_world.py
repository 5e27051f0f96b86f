"""Users × possible tasks that no memory holds: values made as they are needed, the same whenever they are.

Each user has a propensity and a taste for each of five benefits, each task a benefit, a channel and a margin.
A task is worth propensity × taste × margin × noise less what it costs; costs are of the channel and a tier of
the benefit. One in four pairs is not eligible. Noise is a hash of seed, user and task, so that any part of
the users can be made again, alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernel.choices import Limit, Limits, PerUser
from planner.pruning import Columns

TASKS = 200
CHANNELS = ("push", "email", "sms", "mail")
_BENEFITS, _GOALS = 5, 4
_COST = np.array([0.01, 0.02, 0.08, 0.55])
_REACH = np.array([0.3, 0.4, 0.7, 0.9])


def labels() -> pl.DataFrame:
    """task, goal, benefit, channel: one row a task; the numbers of the last two follow from the place."""
    at = np.arange(TASKS)
    return pl.DataFrame(
        {
            "task": [f"t{each:03}" for each in at],
            "goal": [f"g{each}" for each in at // _BENEFITS // len(CHANNELS) % _GOALS],
            "benefit": [f"b{each}" for each in at % _BENEFITS],
            "channel": [CHANNELS[each] for each in at // _BENEFITS % len(CHANNELS)],
        }
    )


def limits(users: int) -> Limits:
    """Scarce money and channels, a budget for one benefit, floors for two goals; two tasks a user."""
    return Limits(
        per_user=PerUser(max_tasks=2, max_by={"channel": dict.fromkeys(CHANNELS, 1)}),
        limits=(
            Limit(name="money", sum="cost", at_most=0.30 * users),
            Limit(name="rich", sum="cost", where={"benefit": "b4"}, at_most=0.05 * users),
            Limit(name="push", where={"channel": "push"}, at_most=0.5 * users),
            Limit(name="sms", where={"channel": "sms"}, at_most=0.10 * users),
            Limit(name="mail", where={"channel": "mail"}, at_most=0.04 * users),
            Limit(name="volume1", where={"goal": "g1"}, at_least=0.10 * users),
            Limit(name="volume3", where={"goal": "g3"}, at_least=0.30 * users),
        ),
    )


def chunks(first: int, last: int, seed: int, size: int = 50_000) -> Iterator[Columns]:
    """All pairs of users first:last, `size` users at a time, in 32 bits."""
    appeal = np.random.default_rng(seed).lognormal(0.0, 0.5, TASKS)
    for begin in range(first, last, size):
        yield made(np.arange(begin, min(begin + size, last)), seed, appeal)


def made(users: NDArray[np.int64], seed: int, appeal: NDArray[np.float64] | None = None) -> Columns:
    """All pairs of these users."""
    if appeal is None:
        appeal = np.random.default_rng(seed).lognormal(0.0, 0.5, TASKS)
    most = users.size * TASKS
    value, cost = np.empty(most, np.float32), np.empty((1, most), np.float32)
    kind, starts = np.empty(most, np.int64), np.zeros(users.size + 1, np.int64)
    count = _fill(users, np.uint64(seed), appeal, _COST, _REACH, value, cost, kind, starts)
    return Columns(starts=starts, value=value[:count], amounts=cost[:, :count], kind=kind[:count])


def frame_of(columns: Columns, users: NDArray[np.int64]) -> pl.DataFrame:
    """As `growth allocate` reads candidates."""
    names = labels()
    kinds = pl.Series(columns.kind.astype(np.uint32))
    return pl.DataFrame(
        {
            "user": np.repeat(users, np.diff(columns.starts)),
            **{name: names[name].cast(pl.Categorical).gather(kinds) for name in names.columns},
            "value": columns.value.astype(np.float64),
            "cost": columns.amounts[0].astype(np.float64),
        }
    )


def _mixed_python(seed: Any, user: Any, task: Any) -> Any:
    """64 bits of SplitMix64 (Steele, Lea and Flood, 2014)."""
    z = seed * np.uint64(0x9E3779B97F4A7C15) + user * np.uint64(0xD1342543DE82EF95) + task
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


_mixed = numba.njit(nogil=True, cache=True)(_mixed_python)


def _even_python(bits: Any, part: Any) -> float:
    """The part-th 16 bits as a number between 0 and 1."""
    return float((bits >> np.uint64(16 * part)) & np.uint64(0xFFFF)) / 65536.0


_even = numba.njit(nogil=True, cache=True)(_even_python)


def _fill_python(
    users: Any, seed: Any, appeal: Any, price: Any, reach: Any, value: Any, cost: Any, kind: Any, starts: Any
) -> int:
    count = 0
    taste = np.empty(5)
    for row in range(users.size):
        user = np.uint64(users[row])
        own = _mixed(seed, user, np.uint64(1_000))
        # long-tailed: most are worth little, few much
        propensity = 0.02 + 0.25 * _even(own, 0) ** 3
        basket = 8.0 * np.exp(2.2 * (_even(own, 1) - 0.5) + 1.2 * (_even(own, 2) - 0.5))
        for benefit in range(5):
            bits = _mixed(seed, user, np.uint64(2_000 + benefit))
            taste[benefit] = np.exp(1.6 * (_even(bits, 0) - 0.5))
        for task in range(appeal.size):
            bits = _mixed(seed, user, np.uint64(task))
            if _even(bits, 3) < 0.25:
                continue
            benefit, channel = task % 5, task // 5 % 4
            tier = 1.0 + benefit
            response = propensity * taste[benefit] * reach[channel]
            noise = np.exp(0.8 * (_even(bits, 0) + _even(bits, 1) - 1.0))
            paid = price[channel] + response * tier
            gain = response * basket * (0.4 + 0.15 * tier) * appeal[task] * noise
            if gain > paid:
                value[count], cost[0, count], kind[count] = gain - paid, paid, task
                count += 1
        starts[row + 1] = count
    return count


_fill = numba.njit(nogil=True, cache=True)(_fill_python)
