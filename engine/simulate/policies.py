"""What the engine is compared with: nobody touched, the rules that a team would write, the best response, its
own plan of the first day, and one that knows what is planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from engine.simulate.nature import BENEFITS, TOUCHPOINTS, Floats, Means
from engine.simulate.world import TOUCHED, Whole, World

SMS, PUSH = range(2)
BIG, SMALL = range(2)
#: what a team takes P(used | seen) to be before it has seen any
_FIRST_GUESS = 0.3
#: touches that the first guess weighs as much as
_WEIGHT = 200.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """What a company can count of its users on a morning, one number a user of the world."""

    #: days since the last order; orders and money of the last 56 days; days since registration
    recency: Floats
    frequency: Floats
    money: Floats
    age: Floats


def count_up(world: World, orders: pl.DataFrame) -> Known:
    """`orders`: all so far."""
    count = len(world.homes)
    recent = orders.filter(
        pl.col("ordered_at") > pl.lit(world.date).cast(pl.Datetime("us", "UTC")) - pl.duration(days=56)
    )
    per = recent.group_by("user_id").agg(pl.len().alias("n"), pl.col("total").sum())
    frequency, money = np.zeros(count), np.zeros(count)
    rows = per["user_id"].to_numpy() - 1
    frequency[rows], money[rows] = per["n"].to_numpy(), per["total"].to_numpy()
    recency = (world.day - world.last).astype(np.float64)
    return Known(
        recency=recency, frequency=frequency, money=money, age=(world.day - world.comes).astype(np.float64)
    )


def nobody() -> pl.DataFrame:
    return pl.DataFrame(schema=TOUCHED)


def touches_of(who: Whole, benefit: Whole, touchpoint: Whole) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user": who + 1,
            "benefit": [BENEFITS[each] for each in benefit],
            "touchpoint": [TOUCHPOINTS[each] for each in touchpoint],
        },
        schema=TOUCHED,
    )


def rules_of_a_team(world: World, known: Known, means: Means, used: Floats) -> pl.DataFrame:
    """Recency, frequency and money in the order in which a team would spend: valued users who are lapsing get
    the big coupon by text message, newcomers the small one so; whoever cools down, and then the best
    customers, the small one as a push. Within a rule those with most money first.

    `used`: benefits: P(used | seen) as this team's own touches have told so far.
    """
    valued = known.money >= np.quantile(known.money[world.here], 0.6)
    best = known.money >= np.quantile(known.money[world.here], 0.8)
    rules = (
        ((known.recency >= 10) & (known.recency < 45) & valued, BIG, SMS),
        ((known.age <= 14) & (known.frequency <= 2), SMALL, SMS),
        ((known.recency >= 5) & (known.recency < 10) & (known.frequency >= 4), SMALL, PUSH),
        ((known.recency < 5) & best, SMALL, PUSH),
    )
    free = world.open(means.cap)
    who, what, how = [], [], []
    for fits, benefit, touchpoint in rules:
        mine = np.flatnonzero(fits & free)
        mine = mine[np.argsort(-known.money[mine], kind="stable")]
        free[mine] = False
        who.append(mine)
        what.append(np.full(len(mine), benefit))
        how.append(np.full(len(mine), touchpoint))
    return within(world, means, np.concatenate(who), np.concatenate(what), np.concatenate(how), used_by(used))


def most_responsive(world: World, response: Floats, means: Means) -> pl.DataFrame:
    """Users by P(used | seen), the most first, each with the benefit most likely used, by text message and
    then as a push. `response`: users × benefits; NaN for whom the model does not know."""
    open_ = np.flatnonzero(world.open(means.cap) & np.isfinite(response).all(axis=1))
    best = response[open_].argmax(axis=1)
    top = np.argsort(-response[open_, best], kind="stable")
    who, what = open_[top], best[top]
    how = np.full(len(who), PUSH)
    how[: means.capacity[SMS]] = SMS
    chance = response[who]
    return within(world, means, who, what, how, lambda rows, b: chance[rows, b])


def all_knowing(world: World, means: Means) -> pl.DataFrame:
    """The planted answers, spent greedily by worth for money: a ceiling for choosing day by day."""
    worth, cost, _ = world.expected()
    free = np.flatnonzero(world.open(means.cap))
    flat = worth[free].reshape(len(free), -1)
    costs = cost[free].reshape(len(free), -1)
    # of what is worth it, that which brings most for the money at the day's price, found by bisection
    low, high = 0.0, 50.0
    for _ in range(40):
        price = (low + high) / 2
        chosen, total = _reply(flat, costs, price)
        low, high = (price, high) if total > means.budget else (low, price)
    chosen, _ = _reply(flat, costs, high)
    picked = np.flatnonzero(chosen >= 0)
    paid = flat[picked, chosen[picked]] - high * costs[picked, chosen[picked]]
    picked = picked[np.argsort(-paid, kind="stable")]
    what, how = np.divmod(chosen[picked], len(TOUCHPOINTS))
    exact = costs[picked, chosen[picked]]
    return _cut(world, means, free[picked], what, how, exact)


def _reply(worth: Floats, cost: Floats, price: float) -> tuple[Whole, float]:
    paid = worth - price * cost
    best = paid.argmax(axis=1)
    rows = np.arange(len(best))
    best = np.where(paid[rows, best] > 0, best, -1)
    return best, float(cost[rows, best][best >= 0].sum())


def used_by(used: Floats) -> Callable[[Whole, Whole], Floats]:
    return lambda _, benefit: used[benefit]


def within(
    world: World, means: Means, who: Whole, what: Whole, how: Whole, used: Callable[[Whole, Whole], Floats]
) -> pl.DataFrame:
    """The first of them until the money or the touchpoint ends. `used`: (rows, benefit) → P(used | seen)."""
    nature = world.nature
    chance = used(np.arange(len(who)), what)
    cost = np.array(nature.price)[how] + np.array(nature.reach)[how] * chance * np.array(nature.face)[what]
    return _cut(world, means, who, what, how, cost)


def _cut(world: World, means: Means, who: Whole, what: Whole, how: Whole, cost: Floats) -> pl.DataFrame:
    kept = np.ones(len(who), np.bool_)
    for place, most in enumerate(means.capacity):
        mine = np.flatnonzero(how == place)
        kept[mine[most:]] = False
    who, what, how, cost = who[kept], what[kept], how[kept], cost[kept]
    last = int(np.searchsorted(np.cumsum(cost), means.budget, side="right"))
    return touches_of(who[:last], what[:last], how[:last])


def guess_used(seen: Floats, used: Floats) -> Floats:
    """P(used | seen) by benefit, from counts so far."""
    return np.asarray((used + _FIRST_GUESS * _WEIGHT) / (seen + _WEIGHT))
