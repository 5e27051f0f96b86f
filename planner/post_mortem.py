"""What an activity came to: funnel, money, what it added, and what to repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.activities import Activity


@dataclass(frozen=True, kw_only=True)
class Result:
    """What is known when an activity is over."""

    #: users that it was meant for; None: everybody
    invited: int | None
    registered: int
    #: users to whom its promotion was planned; None: it brings nothing by itself
    told: int | None = None
    #: participants with anything in any metric
    active: int
    #: reward → users who earned it, given or not
    earned: Mapping[str, int]
    given: Mapping[str, int]
    #: counted metric → its sum over participants
    totals: Mapping[str, float]
    #: length in days
    days: float
    #: contingencies that fired, with when
    fired: Sequence[tuple[str, str]]
    #: against a holdout: metric → {effect, low, high} a user invited; empty where there is none
    increment: Mapping[str, Mapping[str, float]]


def post_mortem(activity: Activity, result: Result) -> dict[str, Any]:
    """Funnel, costs, revenue, profit, cost per acquisition, increment, and sentences on what to repeat.

    Revenue is the sum of metrics × margin of all participants: what they would have spent anyway is in it.
    `added` is the same of the measured increment alone, and only that is what the activity earned.
    """
    funnel = [("invited", result.invited), ("registered", result.registered), ("active", result.active)]
    if result.told is not None:
        funnel.insert(1, ("told", result.told))
    rewarded = sum(result.given.values())
    costs = {each.name: _cost(each.per, each.amount, result) for each in activity.costs}
    for each in activity.rewards:
        costs[f"reward {each.name}"] = result.given.get(each.name, 0) * each.cost
    cost = sum(costs.values())
    revenue = {each.metric: result.totals.get(each.metric, 0.0) * each.margin for each in activity.revenue}
    earned = sum(revenue.values())
    added = _added(activity, result)
    return {
        "activity": activity.name,
        "goal": activity.goal,
        "funnel": [{"step": step, "users": users} for step, users in funnel]
        + [{"step": "rewarded", "users": rewarded}],
        "conversion": {
            "registered": _share(result.registered, result.invited),
            "active": _share(result.active, result.registered),
        },
        "metrics": dict(result.totals),
        "costs": costs,
        "cost": cost,
        "cost_per_acquisition": cost / result.active if result.active else None,
        "revenue": revenue,
        "profit": earned - cost,
        "increment": {name: dict(each) for name, each in result.increment.items()},
        "added": added,
        "added_profit": None if added is None else added["value"] - cost,
        "rewards": {
            each.name: {
                "earned": result.earned.get(each.name, 0),
                "given": result.given.get(each.name, 0),
                "stock": each.stock,
            }
            for each in activity.rewards
        },
        "fired": [{"contingency": name, "at": at} for name, at in result.fired],
        "lessons": _lessons(activity, result, cost, added),
    }


def _cost(per: str, amount: float, result: Result) -> float:
    return amount * {"activity": 1.0, "day": result.days, "participant": float(result.registered)}[per]


def _share(part: int, whole: int | None) -> float | None:
    return part / whole if whole else None


def _added(activity: Activity, result: Result) -> dict[str, float] | None:
    """Profit that the increment brought, with its interval; None where nothing measured it."""
    known = [each for each in activity.revenue if each.metric in result.increment]
    if not known or result.invited is None:
        return None
    users = result.invited
    told = {"value": "effect", "low": "low", "high": "high"}
    return {
        ours: sum(result.increment[each.metric][theirs] * each.margin * users for each in known)
        for ours, theirs in told.items()
    }


def _lessons(activity: Activity, result: Result, cost: float, added: Mapping[str, float] | None) -> list[str]:
    """Sentences for whoever plans the next one; each follows from the figures alone."""
    said = []
    if added is None:
        said.append("Nothing says what it added: keep a holdout next time.")
    elif added["low"] > cost:
        said.append("It added more than it cost, beyond doubt: repeat it.")
    elif added["high"] < cost:
        said.append("It cost more than it added, beyond doubt: do not repeat it as it is.")
    else:
        said.append("Whether it added more than it cost is open: repeat it with more users or more held out.")
    if result.invited and result.registered < 0.05 * result.invited:
        said.append("Fewer than 1 in 20 of the invited took part: look at promotion and registration.")
    if result.registered and result.active < 0.5 * result.registered:
        said.append("Most who registered did nothing that counts: look at what is asked of them.")
    for each in activity.rewards:
        earned, given = result.earned.get(each.name, 0), result.given.get(each.name, 0)
        if earned > given:
            said.append(f"{earned - given:,} earned {each.name} and did not get it: it needs more stock.")
        elif each.stock and given < 0.2 * each.stock:
            said.append(f"Most of the stock of {each.name} was left: less would do, or an easier way to it.")
    return said
