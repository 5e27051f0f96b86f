"""A company in the simulated world: a workspace like any other, whose data grow by what happens each day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path

import polars as pl

from engine.definitions import read_definitions
from engine.settings import FILE
from engine.simulate.nature import BENEFITS, TOUCHPOINTS, Means, Nature
from engine.simulate.world import Happened, World
from engine.usecases import apply_all
from engine.wiring import Workspace, open_workspace
from kernel.events import INSTANT
from storage.lake import write_parquet, write_text

SETTINGS = 'name = "Simulated days"\ntimezone = "UTC"\ncurrency = "USD"\nseed = {seed}\n'
CATALOG = """\
sources:
  sim: {url: "parquet://data", timezone: UTC}
entities:
  user: {source: sim, table: users, key: user_id, since: registered_at}
fields:
  user.reachable: {table: users, column: reachable, type: boolean, role: consent}
events:
  order:
    source: sim
    table: orders
    user: user_id
    time: ordered_at
    id: order_id
    role: purchase
    fields:
      amount: {column: total, type: decimal, role: amount}
      discount: {column: discount, type: decimal, role: discount}
  offer_seen:
    source: sim
    table: seen
    user: user_id
    time: at
    role: treatment
    fields: {offer: {column: offer, type: string, role: offer}, kind: {column: kind, type: string}}
  offer_used:
    source: sim
    table: used
    user: user_id
    time: at
    role: response
    fields: {offer: {column: offer, type: string, role: offer}, kind: {column: kind, type: string}}
"""
_HEAD = """\
kind: group
name: customers
entity: user
where: {{event: order, agg: count, within: 112d, op: ge, value: 1}}
---
kind: goal
name: sell_more
outcome: order
window: {life}d
audiences: [customers]
base: spend
margin: {margin}
lift: 0.3
least_value: {least}
---
kind: content
name: hello
goals: [sell_more]
touchpoints: [{touchpoints}]
text: "Hello. {{benefit}}!"
---
kind: cap
name: week
at_most: {cap}
within: 7d
---
kind: limits
name: daily
limits: [{{name: money, sum: cost, at_most: {budget}}}]
---
kind: cells
name: cells
max_clusters: 4
---
kind: model
name: response
predicts: response
within: 10d
history: [14d, 56d]
matured: 10d
---
kind: model
name: spend
predicts: spend
within: 14d
every: 56d
history: [14d, 56d]
---
kind: model
name: churn
predicts: churn
within: 14d
every: 56d
history: [14d, 56d]
"""
_BENEFIT = """\
---
kind: benefit
name: {name}
cost_per_response: {face}
goals: [sell_more]
touchpoints: [{touchpoints}]
offer: {{kind: {name}}}
"""
_TOUCHPOINT = """\
---
kind: touchpoint
name: {name}
channel: {name}
cost_per_touch: {price}
reach: {reach}
capacity: {capacity}
"""
_LEARNING = """\
---
kind: exploration
name: trials
goal: sell_more
share: {share}
promising: {promising}
nothing: 0.4
rest: {life}d
worth: 20
ways: [{ways}]
"""
_UPLIFT = """\
---
kind: uplift
name: effect
goal: sell_more
exploration: trials
assigned: pilot.parquet
by_reach: true
touches: true
outcome: purchases
worth: basket
trust: shrunken
halves: 2
within: {life}d
recent: {recent}d
forgets: {forgets}d
history: [14d, 56d, 112d]
features: [discount_share_112d, lateness, gap_mean_days, purchases_56d]
"""


def definitions_of(nature: Nature, means: Means) -> str:
    """Everything that the company's operator wrote, as YAML.

    Effects are learned on how often somebody buys, and valued by the own basket: that is far less noisy than
    what was spent, which one large basket rules."""
    points = ", ".join(TOUCHPOINTS)
    text = _HEAD.format(life=nature.life, margin=nature.margin, touchpoints=points, cap=means.cap,
                        budget=means.budget, least=means.least)  # fmt: skip
    for name, face in zip(BENEFITS, nature.face, strict=True):
        text += _BENEFIT.format(name=name, face=face, touchpoints=points)
    for at, name in enumerate(TOUCHPOINTS):
        text += _TOUCHPOINT.format(
            name=name, price=nature.price[at], reach=nature.reach[at], capacity=means.capacity[at]
        )
    # what is seen most often tells most, and effects are learned as of a touch that is seen
    ways = ", ".join(f"{{benefit: {each}, touchpoint: {TOUCHPOINTS[0]}}}" for each in BENEFITS)
    text += _LEARNING.format(
        share=means.trials, promising=max(means.trials, means.promising), life=nature.life, ways=ways
    )
    return text + _UPLIFT.format(life=nature.life, recent=means.recent, forgets=means.forgets)


class Today:
    """A clock that shows what day it is in the world."""

    def __init__(self) -> None:
        self.at = datetime(2000, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at


@dataclass(kw_only=True, eq=False)
class Company:
    """Its workspace, and everything that it knows so far."""

    space: Workspace
    clock: Today
    orders: list[pl.DataFrame] = field(default_factory=list)
    seen: list[pl.DataFrame] = field(default_factory=list)
    used: list[pl.DataFrame] = field(default_factory=list)

    def note(self, happened: Sequence[Happened]) -> None:
        self.orders += [each.orders for each in happened]
        self.seen += [each.seen for each in happened]
        self.used += [each.used for each in happened]

    def morning(self, world: World) -> date:
        """Writes what is known when the day begins; the day."""
        data = self.space.root / "data"
        here = world.here
        numbers = here.nonzero()[0]
        days = pl.Series(world.comes[numbers])
        base = datetime.combine(world.begin, time(6), UTC)
        # who came before the first day is known since the first day
        since = pl.lit(base) + pl.duration(days=pl.lit(days.clip(0)))
        users = pl.DataFrame({"user_id": numbers + 1, "reachable": world.reachable[numbers]})
        users = users.with_columns(registered_at=since.cast(INSTANT))
        write_parquet(data / "users.parquet", users)
        for name, parts in (("orders", self.orders), ("seen", self.seen), ("used", self.used)):
            # one frame from many, once: the next morning adds one part
            parts[:] = [pl.concat(parts)]
            write_parquet(data / f"{name}.parquet", parts[0])
        self.clock.at = datetime.combine(world.date, time(0, 30), UTC)
        return world.date


def found_company(root: Path, definitions: str, pilot: pl.DataFrame, seed: int) -> Company:
    """A new workspace in `root`. `pilot`: user, at, benefit, touchpoint: trials that were made before."""
    write_text(root / "catalog.yaml", CATALOG)
    write_text(root / "definitions" / "all.yaml", definitions)
    write_parquet(root / "pilot.parquet", pilot)
    write_text(root / FILE, SETTINGS.format(seed=seed))
    clock = Today()
    return Company(space=open_workspace(root, clock), clock=clock)


def apply_definitions(company: Company) -> None:
    """Once the data are there, which the definitions are checked against."""
    found = read_definitions(company.space.root / "definitions")
    apply_all(company.space, found, by="simulation")
