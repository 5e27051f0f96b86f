"""The example of `growth init --example`: a small shop, made up, always the same."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from storage.lake import write_parquet

#: registrations that are there on the first day, and those that come in the days after
_OLD, _DAILY, _DAYS = 600, 80, 120
_BEGIN = datetime(2026, 7, 24)  # noqa: DTZ001  times of the shop's tables are naive, in UTC
_CITIES = ("Hamburg", "Lyon", "Porto", "Turin")


def write_shop(data: Path) -> None:
    """users.parquet and orders.parquet: 120 days until 20 November 2026."""
    rng = np.random.default_rng(2026)
    count = _OLD + _DAILY * _DAYS
    since = np.concatenate([np.zeros(_OLD), np.sort(rng.random(_DAILY * _DAYS)) * _DAYS])
    city = rng.choice(_CITIES, count)
    # a third never orders; who does begins soon after registering, and comes back at an own pace
    first = np.where(rng.random(count) < 0.65, since + rng.exponential(6.0, count), np.inf)
    first[:_OLD] = rng.random(_OLD) * 20
    pace = rng.gamma(1.5, 12.0, count) + 3
    basket = rng.normal(3.4, 0.4, count)
    who, when = list[int](), list[float]()
    for user in range(count):
        at = float(first[user])
        while at < _DAYS:
            who.append(user)
            when.append(at)
            at += float(rng.exponential(pace[user])) + 0.5
    order = np.argsort(when, kind="stable")
    users, days = np.array(who)[order], np.array(when)[order]
    total = np.round(np.exp(basket[users] + rng.normal(0, 0.5, len(users))), 2)
    write_parquet(
        data / "users.parquet",
        pl.DataFrame(
            {"user_id": np.arange(1, count + 1), "registered_at": [_at(each) for each in since], "city": city}
        ),
    )
    write_parquet(
        data / "orders.parquet",
        pl.DataFrame(
            {
                "order_id": np.arange(1, len(users) + 1),
                "user_id": users + 1,
                "ordered_at": [_at(each) for each in days],
                "total": total,
            }
        ),
    )


def _at(days: float) -> datetime:
    return _BEGIN + timedelta(seconds=round(float(days) * 86_400))
