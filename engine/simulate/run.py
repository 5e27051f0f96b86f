"""The closed loop: day after day a policy touches, the world answers, and next morning it is known."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np
import polars as pl

from engine.cycle import plan, train
from engine.day import derive_day
from engine.plan_steps import Steps
from engine.simulate.company import Company, apply_definitions, definitions_of, found_company
from engine.simulate.households import Households
from engine.simulate.nature import BENEFITS, Means, Nature
from engine.simulate.policies import (
    all_knowing,
    count_up,
    guess_used,
    most_responsive,
    nobody,
    rules_of_a_team,
)
from engine.simulate.world import Happened, World, found_world
from engine.world import plan_instant, read_history
from kernel.errors import BadInput
from kernel.events import INSTANT
from models.api import EXPLORED, Exploration, draw, score_offers
from planner.api import intended

ENGINE, FROZEN, RESPONSE, RULES, NOBODY, ORACLE = (
    "engine", "frozen on day one", "best response", "rules of a team", "nobody", "all-knowing",
)  # fmt: skip
POLICIES = (ENGINE, FROZEN, RESPONSE, RULES, NOBODY, ORACLE)
#: the first day that is played
BEGIN = date(2026, 3, 2)
#: days of history before it, and of those the last ones in which something was tried by chance
BEFORE, PILOT = 112, 28
#: the pilot tries something on this part of users a day
PILOT_SHARE = 0.04
#: models are learned anew so often, days
LEARNS = 7
#: a share of users that draws nobody
_NOTHING = 1e-12

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is played."""

    users: int
    days: int
    homes: Households
    means: Means
    nature: Nature

    def __post_init__(self) -> None:
        for name, least in (("users", 500), ("days", 1)):
            if getattr(self, name) < least:
                raise BadInput(f"is less than {least}", field=f"--{name}", value=getattr(self, name))


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """One world on the morning of the first day, and what happened before."""

    world: World
    past: tuple[Happened, ...]
    #: user, at, benefit, touchpoint
    pilot: pl.DataFrame
    seed: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """One day of one policy; money in major units."""

    seed: int
    policy: str
    #: from 1
    day: int
    #: margin of all purchases, less coupons, touches and what opt-outs cost
    profit: float
    coupons: float
    touch_cost: float
    touches: int
    opt_outs: int
    #: of this machine
    seconds: float


class Policy(Protocol):
    """Whom to touch on a morning, and what it hears in the evening."""

    def choose(self, world: World) -> pl.DataFrame: ...

    def hear(self, happened: Happened) -> None: ...


def usual_means(users: int) -> Means:
    """Money and places for one user in twelve or so."""
    return Means(budget=round(0.1 * users, 2), capacity=(round(0.08 * users), round(0.16 * users)))


def begin(setting: Setting, seed: int) -> Start:
    """History with a pilot in its last weeks, alike for all policies."""
    world = found_world(
        setting.homes, users=setting.users, days=setting.days, before=BEFORE, begin=BEGIN, seed=seed,
        nature=setting.nature,
    )  # fmt: skip
    ways = [{"benefit": b, "touchpoint": t} for b in BENEFITS for t in ("sms", "push")]
    told = {"name": "trials", "goal": "sell_more", "share": PILOT_SHARE, "ways": ways}
    trial = Exploration.model_validate(told)
    past, tried = list[Happened](), list[pl.DataFrame]()
    resting = np.zeros(len(world.homes), np.int64)
    while world.day < BEFORE:
        touched = nobody()
        if world.day >= BEFORE - PILOT:
            free = np.flatnonzero(world.open(setting.means.cap) & (resting <= world.day))
            drawn = draw(trial, pl.Series("user", free + 1), world.date.isoformat())
            resting[drawn["user"].to_numpy() - 1] = world.day + setting.nature.life
            at = datetime.combine(world.date, time(0), UTC)
            tried.append(drawn.select("user", pl.lit(at).cast(INSTANT).alias("at"), "benefit", "touchpoint"))
            touched = drawn.drop_nulls("benefit").select(EXPLORED)
        past.append(world.step(touched))
    return Start(world=world, past=tuple(past), pilot=pl.concat(tried), seed=seed)


@dataclass(eq=False)
class Given:
    """A policy that only looks at the morning."""

    choice: Callable[[World], pl.DataFrame]

    def choose(self, world: World) -> pl.DataFrame:
        return self.choice(world)

    def hear(self, happened: Happened) -> None:
        """It does not listen."""


class TeamRules:
    """The rules of a team, with costs foreseen by what its own coupons have come to."""

    def __init__(self, start: Start, means: Means) -> None:
        self._orders, self._means = pl.concat([each.orders for each in start.past]), means
        self._seen, self._used = np.zeros(len(BENEFITS)), np.zeros(len(BENEFITS))
        for each in start.past:
            self._count(each)

    def choose(self, world: World) -> pl.DataFrame:
        used = guess_used(self._seen, self._used)
        return rules_of_a_team(world, count_up(world, self._orders), self._means, used)

    def hear(self, happened: Happened) -> None:
        self._orders = pl.concat([self._orders, happened.orders])
        self._count(happened)

    def _count(self, happened: Happened) -> None:
        for place, name in enumerate(BENEFITS):
            self._seen[place] += happened.seen.filter(kind=name).height
            self._used[place] += happened.used.filter(kind=name).height


class EngineDays:
    """The engine itself: `growth train` once a week, `growth plan` every morning."""

    def __init__(self, company: Company, day: int, told: Progress) -> None:
        self._company, self._first, self._told = company, day, told

    def choose(self, world: World) -> pl.DataFrame:
        company = self._company
        day = company.morning(world)
        if (world.day - self._first) % LEARNS == 0:
            train(company.space, day, self._told)
        made = plan(company.space, day, None, self._told)
        touches = pl.read_parquet(made.folder / "touches.parquet")
        company.space.ledger.confirm(touches["touch_id"].to_list())
        return touches.select(EXPLORED)

    def hear(self, happened: Happened) -> None:
        self._company.note([happened])


class FrozenPlan:
    """The engine's models and prices of the first day, kept: each morning every user's best offer at those
    prices, the most worth first, until the money or the touchpoints end. It tries nothing."""

    def __init__(self, company: Company, means: Means, told: Progress) -> None:
        self._company, self._means, self._told = company, means, told
        self._prices: dict[str, float] | None = None

    def choose(self, world: World) -> pl.DataFrame:
        space = self._company.space
        day = self._company.morning(world)
        if self._prices is None:
            made = plan(space, day, None, self._told)
            self._prices = {each["name"]: each["price"] for each in made.summary["allocation"]["limits"]}
            touches = pl.read_parquet(made.folder / "touches.parquet")
            return touches.select(EXPLORED)
        history = read_history(space, plan_instant(space, day))
        derived = derive_day(space, day, history, Steps(self._told))
        free = pl.DataFrame({"user": np.flatnonzero(world.open(self._means.cap)) + 1})
        frame = derived.candidates.frame.join(free, on="user", how="semi", maintain_order="left")
        best = intended(frame, derived.limits, self._prices).sort("worth", "user", descending=[True, False])
        kept = pl.col("cost").cum_sum() <= self._means.budget
        capacity = dict(zip(("sms", "push"), self._means.capacity, strict=True))
        places = (pl.int_range(pl.len()).over("touchpoint")) < pl.col("touchpoint").replace_strict(capacity)
        return best.filter(places).filter(kept).select(EXPLORED)

    def hear(self, happened: Happened) -> None:
        self._company.note([happened])


class BestResponse:
    """The engine's response model, learned anew every week, and its top users until the money ends."""

    def __init__(self, company: Company, means: Means, day: int, told: Progress) -> None:
        self._company, self._means, self._first, self._told = company, means, day, told

    def choose(self, world: World) -> pl.DataFrame:
        space = self._company.space
        day = self._company.morning(world)
        if (world.day - self._first) % LEARNS == 0:
            train(space, day, self._told)
        as_of = plan_instant(space, day)
        known = read_history(space, as_of)
        model, _ = space.registry.usable("response", as_of)
        people = known.purchases.get_column("user").unique().sort()
        offers = pl.DataFrame(
            {"kind": BENEFITS, "offer": [None] * len(BENEFITS)}, schema_overrides={"offer": pl.String}
        )
        scored = score_offers(model, known, people, offers, as_of)
        response = np.full((len(world.homes), len(BENEFITS)), np.nan)
        response[scored["user"].to_numpy() - 1, scored["place"].to_numpy()] = scored["response"].to_numpy()
        return most_responsive(world, response, self._means)

    def hear(self, happened: Happened) -> None:
        self._company.note([happened])


def policies_of(
    setting: Setting, start: Start, root: Path, names: Sequence[str], told: Progress
) -> dict[str, Policy]:
    """Each with a world of its own; companies live in folders of `root`."""
    means, nature, day = setting.means, setting.nature, start.world.day

    def company(name: str, *, kinds: tuple[str, ...] = (), share: float | None = None) -> Company:
        text = definitions_of(
            nature, means if share is None else replace(means, trials=share, promising=share)
        )
        kept = [each for each in text.split("---\n") if not each.startswith(kinds)]
        made = found_company(root / name, "---\n".join(kept), start.pilot, start.seed)
        made.note(start.past)
        made.morning(start.world)
        apply_definitions(made)
        return made

    found: dict[str, Policy] = {}
    for name in names:
        if name == ENGINE:
            found[name] = EngineDays(company("engine"), day, told)
        elif name == FROZEN:
            made = company("frozen", share=_NOTHING)
            train(made.space, made.morning(start.world), told)
            found[name] = FrozenPlan(made, means, told)
        elif name == RESPONSE:
            made = company("response", kinds=("kind: exploration", "kind: uplift"))
            found[name] = BestResponse(made, means, day, told)
        elif name == RULES:
            found[name] = TeamRules(start, means)
        elif name == ORACLE:
            found[name] = Given(lambda world: all_knowing(world, means))
        else:
            found[name] = Given(lambda _: nobody())
    return found


def play(
    setting: Setting, seed: int, root: Path, told: Progress, names: Sequence[str] = POLICIES
) -> Iterator[list[Row]]:
    """The days one after the other, all policies beside each other: each day's rows, one a policy."""
    told(f"seed {seed}: history")
    start = begin(setting, seed)
    worlds = {name: copy.deepcopy(start.world) for name in names}
    found = policies_of(setting, start, root, names, told)
    for day in range(1, setting.days + 1):
        rows = []
        for name, policy in found.items():
            begun = perf_counter()
            happened = worlds[name].step(policy.choose(worlds[name]))
            policy.hear(happened)
            rows.append(
                Row(
                    seed=seed,
                    policy=name,
                    day=day,
                    profit=happened.profit,
                    coupons=happened.coupons,
                    touch_cost=happened.touches,
                    touches=happened.sent,
                    opt_outs=happened.left,
                    seconds=perf_counter() - begun,
                )
            )
        yield rows
