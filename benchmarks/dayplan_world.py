"""A shop of any size as a workspace: seeded events in Parquet, and what its operators defined.

A hundred events a user on average: visits, orders, offers, and what became of those. Users buy at a rate
of their own, some stop for good, some like coupons; who stopped, who comes without buying and who never
bought is in a group or a stage that some goal is meant for.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import yaml
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PLAN_DATE = date(2026, 3, 2)
#: days of history
DAYS = 364
#: events a user, on average; the rest of a hundred are responses
VISITS, ORDERS, OFFERS = 60, 26, 12
#: campaigns of the past, each to a part of the users
CAMPAIGNS = 16
#: users of a file
PART = 100_000
_BEGIN = np.datetime64("2025-03-03T00:00:00", "us")
_ZONES = ("Europe/Berlin", "Europe/Lisbon", "America/New_York", "Asia/Tokyo")
_KINDS = ("points", "five", "ten", "delivery")
#: how often an offer of a kind is used by those who like coupons most
_LIKED = np.array([0.10, 0.22, 0.30, 0.16])


def lay_out(root: Path, users: int, seed: int) -> int:
    """Writes the workspace's folder; how many events it has."""
    events = 0
    for name in ("users", "visits", "orders", "offers", "uses"):
        (root / "data" / name).mkdir(parents=True)
    for number, begin in enumerate(range(0, users, PART)):
        rng = np.random.default_rng([seed, number])
        tables = _part(rng, begin, min(PART, users - begin))
        for name, frame in tables.items():
            frame.write_parquet(root / "data" / name / f"part-{number:04}.parquet", compression="lz4")
        events += sum(frame.height for name, frame in tables.items() if name != "users")
    (root / "growth.toml").write_text(
        'name = "A seeded shop"\ntimezone = "Europe/Berlin"\ncurrency = "EUR"\nseed = 7\n', encoding="utf-8"
    )
    (root / "catalog.yaml").write_text(yaml.safe_dump(_catalog(), sort_keys=False), encoding="utf-8")
    (root / "definitions").mkdir()
    text = yaml.safe_dump_all(definitions(users), sort_keys=False)
    (root / "definitions" / "all.yaml").write_text(text, encoding="utf-8")
    return events


def _part(rng: Generator, first: int, count: int) -> dict[str, pl.DataFrame]:
    users = np.arange(first, first + count)
    span = DAYS * 86_400.0
    begins = np.where(rng.random(count) < 0.3, rng.random(count) * 0.9, 0.0) * span
    ends = np.where(rng.random(count) < 0.3, begins + rng.random(count) * (span - begins), span)
    rate = rng.gamma(1.5, 1.0, count)
    rate /= 1.5 * ((ends - begins) / span).mean()
    likes = rng.beta(1.2, 3.0, count)

    def times(mean: float) -> tuple[Ints, Floats]:
        """Places of users, and seconds since the beginning."""
        many = rng.poisson(mean * rate * (ends - begins) / span)
        who = np.repeat(np.arange(count), many)
        return who, begins[who] + rng.random(who.size) * (ends - begins)[who]

    visitor, visited = times(VISITS)
    buyer, bought = times(ORDERS)
    basket = rng.lognormal(3.0, 0.5, count)
    amount = np.round(basket[buyer] * rng.lognormal(0.0, 0.4, buyer.size), 2)
    starts = np.arange(CAMPAIGNS) * (DAYS - 21) // CAMPAIGNS * 86_400.0
    sent = rng.random((CAMPAIGNS, count)) < OFFERS / CAMPAIGNS
    sent &= starts[:, None] >= begins
    offer, who = np.nonzero(sent)
    liked = likes[who] * _LIKED[offer % 4] * (1 + 0.5 * np.tanh(rate[who] - 1)) * 2
    used = (rng.random(who.size) < liked) & (starts[offer] < ends[who])
    later: Floats = starts[offer] + 3_600 + rng.random(who.size) * 14 * 86_400

    def told(places: Ints, seconds: NDArray[np.floating], **more: object) -> pl.DataFrame:
        at = _BEGIN + (seconds * 1e6).astype("timedelta64[us]")
        return pl.DataFrame({"user_id": users[places], "at": at, **more})

    zone = np.array(_ZONES)[rng.choice(4, count, p=[0.6, 0.2, 0.15, 0.05])]
    people = {
        "user_id": users,
        "since": _BEGIN + (begins * 1e6).astype("timedelta64[us]"),
        "zone": zone,
        "consent": rng.random(count) < 0.92,
        "city": [f"city_{each}" for each in rng.integers(0, 40, count)],
    }
    kind = np.array(_KINDS)[offer % 4]
    return {
        "users": pl.DataFrame(people),
        "visits": told(visitor, visited, page=rng.integers(0, 500, visitor.size)),
        "orders": told(
            buyer,
            bought,
            order_id=np.arange(buyer.size) + first * 10_000,
            total=amount,
            discount=np.round(amount * rng.random(buyer.size) * 0.2, 2),
            department=rng.integers(0, 8, buyer.size),
        ),
        "offers": told(who, starts[offer], offer=offer, type=kind),
        "uses": told(who[used], later[used], offer=offer[used]),
    }


def _catalog() -> dict[str, object]:
    def event(table: str, **more: object) -> dict[str, object]:
        return {"source": "shop", "table": table, "user": "user_id", "time": "at", **more}

    offer = {"column": "offer", "type": "integer", "role": "offer"}
    return {
        "sources": {"shop": {"url": "parquet://data", "timezone": "UTC"}},
        "entities": {"user": {"source": "shop", "table": "users", "key": "user_id", "since": "since"}},
        "fields": {
            "user.city": {"table": "users", "column": "city", "type": "string"},
            "user.zone": {"table": "users", "column": "zone", "type": "string", "role": "timezone"},
            "user.consent": {"table": "users", "column": "consent", "type": "boolean", "role": "consent"},
            "user.since": {"table": "users", "column": "since", "type": "datetime"},
        },
        "events": {
            "visit": event("visits", fields={"page": {"column": "page", "type": "integer"}}),
            "order": event(
                "orders",
                id="order_id",
                role="purchase",
                fields={
                    "amount": {"column": "total", "type": "decimal", "role": "amount"},
                    "discount": {"column": "discount", "type": "decimal", "role": "discount"},
                    "department": {"column": "department", "type": "integer", "role": "category"},
                },
            ),
            "offered": event(
                "offers",
                role="treatment",
                fields={"offer": offer, "type": {"column": "type", "type": "string"}},
            ),
            "used": event("uses", role="response", fields={"offer": offer}),
        },
    }


def definitions(users: int) -> list[dict[str, object]]:
    """About fifty tasks, two rules, and limits that scale with the users."""

    def count(event: str, within: str, op: str, value: int) -> dict[str, object]:
        return {"event": event, "agg": "count", "within": within, "op": op, "value": value}

    def group(name: str, *tests: dict[str, object]) -> dict[str, object]:
        return {"kind": "group", "name": name, "entity": "user", "where": {"all": list(tests)}}

    def goal(name: str, base: str, audiences: list[str], lift: float, **more: object) -> dict[str, object]:
        told = {"kind": "goal", "name": name, "outcome": "order", "window": "56d", "audiences": audiences}
        return {**told, "base": base, "margin": 0.3, "lift": lift, **more}

    def benefit(
        name: str, cost: float, goals: list[str], touchpoints: list[str], kind: str
    ) -> dict[str, object]:
        told = {"kind": "benefit", "name": name, "cost_per_response": cost, "goals": goals}
        return {**told, "touchpoints": touchpoints, "offer": {"type": kind}}

    def touchpoint(name: str, cost: float, reach: float, share: float | None) -> dict[str, object]:
        told = {"kind": "touchpoint", "name": name, "channel": name, "cost_per_touch": cost, "reach": reach}
        capacity = {} if share is None else {"capacity": int(share * users)}
        return {**told, "hours": [8, 21], **capacity}

    def rule(name: str, goal: str, group: str, benefit: str) -> dict[str, object]:
        told = {"kind": "rule", "name": name, "goal": goal, "group": group, "benefit": benefit}
        return {**told, "touchpoint": "push", "cron": "0 10 * * *", "within": "14d", "at_most": users // 100}

    everything = ["raise_spend", "convert", "retain", "win_back"]
    ways = ["push", "email", "sms", "mail"]
    start = datetime(2026, 2, 16, tzinfo=UTC).isoformat()
    return [
        group("regulars", count("order", "56d", "ge", 4)),
        group("fond", {"any": [count("used", "300d", "ge", 2), count("order", "28d", "ge", 6)]}),
        group("browsers", count("visit", "14d", "ge", 3), {"not": count("order", "14d", "ge", 1)}),
        group("quiet", count("order", "182d", "ge", 6), {"not": count("order", "42d", "ge", 1)}),
        group("newcomers", {"field": "user.since", "op": "ge", "value": start}),
        group("townspeople", {"field": "user.city", "op": "in", "value": ["city_1", "city_2"]}),
        goal("raise_spend", "spend", ["regulars", "fond"], 0.06),
        goal("convert", "unit", ["browsers"], 0.5, unit_value=30),
        goal("retain", "spend_at_risk", ["stage:cooling"], 0.4),
        goal("win_back", "spend_lost", ["quiet", "stage:lapsed"], 0.35),
        benefit("delivery", 2.0, ["raise_spend", "convert"], ["push", "email", "sms"], "delivery"),
        benefit("points", 1.0, ["raise_spend", "retain"], ["push", "email"], "points"),
        benefit("five_off", 2.5, everything, ["push", "email", "sms"], "five"),
        benefit("ten_off", 4.0, ["retain", "win_back"], ["email", "sms", "mail"], "ten"),
        benefit("big_book", 5.0, ["raise_spend", "win_back"], ["sms", "mail"], "ten"),
        touchpoint("push", 0.002, 0.25, 0.15),
        touchpoint("email", 0.01, 0.35, None),
        touchpoint("sms", 0.06, 0.7, 0.04),
        touchpoint("mail", 0.55, 0.9, 0.01),
        {"kind": "content", "name": "hello", "goals": everything, "touchpoints": ways, "text": "{benefit}"},
        rule("welcome", "convert", "newcomers", "five_off"),
        rule("town", "raise_spend", "townspeople", "points"),
        {"kind": "holdout", "name": "untouched", "share": 0.05},
        {
            "kind": "limits",
            "name": "daily",
            "per_user": {"max_tasks": 2, "max_by": {"channel": dict.fromkeys(ways, 1)}},
            "limits": [
                {"name": "money", "sum": "cost", "at_most": 0.05 * users},
                {"name": "coupons", "sum": "cost", "where": {"benefit": "big_book"}, "at_most": 0.01 * users},
                {"name": "retain_volume", "where": {"goal": "retain"}, "at_least": users // 200},
            ],
        },
        {"kind": "cap", "name": "week", "at_most": 3, "within": "7d"},
        {"kind": "cap", "name": "sms_month", "channel": "sms", "at_most": 2, "within": "28d"},
        {"kind": "quiet_hours", "name": "night", "start": 22, "end": 8},
        {"kind": "cells", "name": "cells", "max_clusters": 8},
        {"kind": "model", "name": "response", "predicts": "response", "within": "56d"},
        {"kind": "model", "name": "spend", "predicts": "spend", "within": "56d"},
        {"kind": "model", "name": "churn", "predicts": "churn", "within": "56d"},
    ]
