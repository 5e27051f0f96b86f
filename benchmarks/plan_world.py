"""A workspace in which a plan takes a second: some users, simple models, coupons, a file for a channel."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from engine.usecases import apply
from engine.wiring import Workspace, open_workspace
from kernel.clock import FixedClock
from kernel.learning import ModelRecipe
from models.api import Predictor, Record
from models.calibration import Calibrator

DAY = date(2026, 3, 2)
#: plans are made in the night before their day's touches go out
NIGHT = datetime(2026, 3, 2, 1, tzinfo=UTC)
SETTINGS = 'name = "corner shop"\ntimezone = "UTC"\ncurrency = "EUR"\nseed = 5\ntime_limit = 10\n'
CATALOG = """
sources:
  shop: {url: "parquet://data", timezone: UTC}
entities:
  user: {source: shop, table: orders, key: user_id, since: ordered_at}
events:
  order:
    source: shop
    table: orders
    user: user_id
    time: ordered_at
    id: order_id
    role: purchase
    fields:
      amount: {column: total, type: decimal, role: amount}
"""
DEFINITIONS = """
kind: group
name: regulars
entity: user
where: {event: order, agg: count, within: 56d, op: ge, value: 2}
---
kind: group
name: everyone
entity: user
where: {event: order, agg: count, within: 365d, op: ge, value: 1}
---
kind: goal
name: grow
outcome: order
window: 28d
audiences: [regulars, everyone]
base: spend
margin: 0.4
lift: 0.3
---
kind: goal
name: keep
outcome: order
window: 28d
audiences: [everyone]
base: spend_at_risk
margin: 0.4
lift: 0.5
---
kind: coupon_pool
name: spring
size: 40
prefix: S-
---
kind: benefit
name: coupon
cost_per_response: 0.8
response: 0.2
pool: spring
goals: [grow, keep]
touchpoints: [letter, note]
---
kind: benefit
name: greeting
cost_per_response: 0.1
response: 0.05
goals: [grow, keep]
touchpoints: [letter, note]
---
kind: touchpoint
name: letter
channel: post
cost_per_touch: 0.2
capacity: 30
reach: 0.9
---
kind: touchpoint
name: note
channel: inbox
cost_per_touch: 0.01
capacity: 40
reach: 0.4
---
kind: content
name: hello
goals: [grow, keep]
touchpoints: [letter, note]
text: "Hello. {benefit}!"
---
kind: provider
name: printers
type: file
url: var/outbox/printers
format: csv
---
kind: channel
name: post
provider: printers
---
kind: channel
name: inbox
provider: printers
---
kind: limits
name: daily
per_user: {max_tasks: 1}
limits:
  - {name: money, sum: cost, at_most: 9}
---
kind: cap
name: week
at_most: 1
within: 7d
---
kind: rule
name: hello_rule
goal: grow
group: regulars
touchpoint: note
benefit: greeting
cron: "0 3 * * *"
at_most: 20
---
kind: model
name: turnover
predicts: spend
within: 28d
history: [14d, 56d]
---
kind: model
name: leaving
predicts: churn
within: 28d
history: [14d, 56d]
"""


@dataclass(frozen=True)
class Weighed:
    """A learner that has learned nothing: a number for each row by its features alone, another for each user
    who buys: among equals an allocation may choose either."""

    scale: float

    def predict(self, x: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]  # as `Learned` says
        return np.asarray(self.scale * (1 + np.nan_to_num(x).sum(axis=1) % 7) / 8)

    def explain(self, x: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return np.zeros_like(x)


def lay_out(root: Path, users: int = 60, *, until: date = DAY) -> Workspace:
    """Tables, catalog, definitions and models, in a new folder."""
    (root / "data").mkdir(parents=True)
    chance = np.random.default_rng(3)
    begin = datetime.combine(until, datetime.min.time()) - timedelta(days=120)
    hours = np.sort(chance.integers(0, 120 * 24 - 1, users * 16))
    hours[-1] = 120 * 24 - 2  # somebody buys on the evening before the plan
    orders = pl.DataFrame(
        {
            "order_id": np.arange(len(hours)),
            "user_id": chance.integers(0, users, len(hours)),
            "ordered_at": [begin + timedelta(hours=int(each)) for each in hours],
            "total": chance.gamma(2.0, 20.0, len(hours)).round(2),
        }
    )
    orders.write_parquet(root / "data" / "orders.parquet")
    (root / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    (root / "definitions.yaml").write_text(DEFINITIONS, encoding="utf-8")
    (root / "growth.toml").write_text(SETTINGS, encoding="utf-8")
    space = open_at(root)
    apply(space, root / "definitions.yaml", by="benchmarks")
    for name in ("turnover", "leaving"):
        keep_model(space, name)
    return space


def open_at(root: Path, now: datetime = NIGHT) -> Workspace:
    return open_workspace(root, FixedClock(at=now))


def keep_model(space: Workspace, name: str, *, scale: float = 1.0, age: int = 1) -> int:
    """A version of a model, `age` days older than the plan; its number."""
    recipe: ModelRecipe = next(each for each in space.definitions().of(ModelRecipe) if each.name == name)
    features = ("amount_14d", "amount_56d")
    model = Predictor(
        recipe=recipe,
        features=features,
        model=Weighed(scale),
        calibrator=Calibrator(method="none"),
        factor=80.0 if recipe.predicts == "spend" else 1.0,
        average=0.5,
        trusted=True,
    )
    sample = pl.DataFrame({each: [1.0, 2.0] for each in features})
    record = Record(
        name=name,
        as_of=datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC) - timedelta(days=age),
        model=model,
        sample=sample,
        dataset=sample,
        params={"predicts": recipe.predicts},
        metrics={},
        trusted=True,
        promote=True,
        reason="the first",
    )
    return space.registry.record(record, data_fingerprint="none", key=f"{name} {scale} {age}").version
