"""A made-up day of campaigns: 10 candidates a user, limits by the campaign, caps and exclusive groups."""

from __future__ import annotations

import numpy as np
import polars as pl

from kernel.choices import Limit, Limits, PerUser

CAMPAIGNS, CHANNELS, PER_USER = 20, 5, 10
#: campaigns that make about 1,000 limits
MANY = 796
#: share of a first-come free-for-all that budgets and channels allow
_TIGHT = 0.55


def campaigns(users: int, seed: int, many: int = CAMPAIGNS) -> tuple[pl.DataFrame, Limits]:
    """Candidates (10 a user) and limits: `many` budgets, 5 channels, 1 global budget, many / 4 floors.

    Campaign c belongs to channel c mod 5 and exclusive group c div 5. Values are log-normal with an effect
    of the user and of the campaign; costs are uniform around the campaign's own.
    """
    rng = np.random.default_rng(seed)
    task = np.argsort(rng.random((users, many)), axis=1)[:, :PER_USER].ravel()
    user = np.repeat(np.arange(users), PER_USER)
    worth = rng.lognormal(0.0, 0.4, many)[task] * rng.lognormal(0.0, 0.5, users)[user]
    frame = pl.DataFrame(
        {
            "user": user,
            "task": task,
            "value": worth * rng.lognormal(0.0, 0.4, task.size),
            "cost": rng.uniform(0.5, 1.5, many)[task] * rng.uniform(0.8, 1.2, task.size),
            "channel": task % CHANNELS,
        }
    )
    shown = 2.0 * users
    limits = [
        Limit(
            name=f"budget{each}",
            sum="cost",
            where={"task": each},
            at_most=round(_TIGHT * shown / many * float(rng.uniform(0.6, 1.4)), 2),
        )
        for each in range(many)
    ]
    limits += [
        Limit(name=f"channel{each}", where={"channel": each}, at_most=round(_TIGHT * shown / CHANNELS))
        for each in range(CHANNELS)
    ]
    limits.append(Limit(name="all", sum="cost", at_most=round(0.9 * _TIGHT * shown, 2)))
    limits += [
        Limit(name=f"volume{each}", where={"task": 4 * each}, at_least=round(0.2 * shown / many))
        for each in range(many // 4)
    ]
    groups = [tuple(range(5 * each, 5 * each + 5)) for each in range(many // 5)]
    per_user = PerUser(
        max_tasks=3,
        max_by={"channel": {str(each): 1 + each % 3 for each in range(CHANNELS)}},
        never_together=tuple(groups),
    )
    return frame, Limits(per_user=per_user, limits=tuple(limits))
