"""Budgets through the day: paced prices beside the best in hindsight, a fixed price, and first come."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.case import Case, Line
from benchmarks.pacing_day import RESOURCES, Day, Floats, budgets, day, hindsight
from realtime.pacing import Budget, Pacing, by_hour
from storage.budgets_lmdb import LmdbBudgets
from storage.online_lmdb import LmdbOnlineStore

_OPENS = datetime(2026, 3, 2, tzinfo=UTC)
_CLOSES = _OPENS + timedelta(days=1)
_SEEDS = 5
_REFRESH = timedelta(minutes=10)
#: as many decisions of yesterday make the plan, at most
_PLANNED = 20_000
OURS = "ours"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What yesterday said."""

    size: int
    prices: dict[str, float]
    budgets: tuple[Budget, ...]


@dataclass
class Hands:
    at: datetime = _OPENS

    def now(self) -> datetime:
        return self.at


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """Powers of ten from 1,000 decisions to `size`, five days of each (two when that is all)."""
    sizes = [10**power for power in range(3, 1 + round(math.log10(max(size, 1000))))]
    days = _SEEDS if len(sizes) > 1 else 2
    return [line for drifting in (False, True) for line in _of_world(drifting, sizes, seed, days, seconds)]


def _of_world(drifting: bool, sizes: list[int], seed: int, days: int, seconds: float) -> list[Line]:
    regrets: dict[str, Floats] = {who: np.zeros((len(sizes), days)) for who in CONTESTANTS}
    lines: list[Line] = []
    for place, size in enumerate(sizes):
        shares: dict[str, list[float]] = {who: [] for who in CONTESTANTS}
        spent = dict.fromkeys(CONTESTANTS, 0.0)
        for number in range(days):
            plan = planned(size, 1000 * seed + number, drifting, seconds)
            today = day(size, 1_000_000 + 1000 * seed + number, drifting=drifting)
            best = hindsight(today, budgets(size), seconds).bound
            assert best is not None
            for who, contestant in CONTESTANTS.items():
                start = time.process_time()
                chosen = contestant(today, plan)
                spent[who] += time.process_time() - start
                value = worth(today, chosen, budgets(size))
                shares[who].append(value / best)
                regrets[who][place, number] = (best - value) / today.size
        for who in CONTESTANTS:
            lines.append(
                Line(
                    size=size,
                    who=who,
                    ratio=float(np.mean(shares[who]) / np.mean(shares[OURS])),
                    times=spent[who] / spent[OURS],
                    seconds=spent[who],
                    notes={
                        "traffic": "drifting" if drifting else "all alike",
                        "share of the best in hindsight": _interval(np.array(shares[who]), 5),
                        "regret a decision": _interval(regrets[who][place], 6),
                        "regret falls as n to the": _exponent(sizes[: place + 1], regrets[who][: place + 1]),
                    },
                )
            )
    return lines


def planned(size: int, seed: int, drifting: bool, seconds: float) -> Plan:
    """Prices of yesterday's optimum, and its spending by the hour as the path; traffic as expected."""
    before = day(min(size, _PLANNED), seed, drifting=drifting)
    best = hindsight(before, budgets(min(size, _PLANNED)), seconds)
    prices = {use.name: max(use.price, 0.0) for use in best.limits}
    rows = best.assignments
    at = before.times[rows["user"].to_numpy()]
    made = []
    for name, most in budgets(size).items():
        worth = float(before.gains[:, np.array(RESOURCES) == name].std())
        told = Budget(name=name, at_most=most, price=prices[name], worth=worth, opens=_OPENS, closes=_CLOSES)
        mine = at[(rows["resource"] == name).to_numpy()].tolist()
        path = by_hour([(_OPENS + share * timedelta(days=1), 1.0) for share in mine], told)
        made.append(
            Budget(
                name=name, at_most=most, price=prices[name], worth=worth, opens=_OPENS, closes=_CLOSES,
                path=path if drifting else (1.0,),
            )
        )  # fmt: skip
    return Plan(size=size, prices=prices, budgets=tuple(made))


def paced(today: Day, plan: Plan) -> list[int]:
    return _paced(today, plan.budgets)


def unplanned(today: Day, plan: Plan) -> list[int]:
    """Knows no price, no path, and yesterday's traffic."""
    return _paced(
        today,
        tuple(
            Budget(
                name=each.name, at_most=each.at_most, price=0.0, worth=each.worth, opens=_OPENS,
                closes=_CLOSES, expected=plan.size,
            )
            for each in plan.budgets
        ),
    )  # fmt: skip


def _paced(today: Day, told: tuple[Budget, ...]) -> list[int]:
    """Place of the offer shown at each decision, or −1."""
    clock, chosen = Hands(), []
    with tempfile.TemporaryDirectory() as folder:
        store = LmdbOnlineStore(Path(folder) / "shared", keep=1, hold=1, idle=1)
        store.ready()
        # what it spends itself it knows at once, and there is no other: the store need not be read often
        pacing = Pacing(told, store=LmdbBudgets(store), clock=clock, refresh=_REFRESH)
        length = timedelta(days=1)
        for number, (share, gains) in enumerate(zip(today.times.tolist(), today.gains.tolist(), strict=True)):
            clock.at = _OPENS + share * length
            prices = pacing.prices()
            best, place = 0.0, -1
            for offer, (gain, resource) in enumerate(zip(gains, RESOURCES, strict=True)):
                if gain - prices[resource] > best:
                    best, place = gain - prices[resource], offer
            if place >= 0 and not pacing.spend(RESOURCES[place], 1.0, f"{number}"):
                place = -1
            chosen.append(place)
        store.close()
    return chosen


def fixed(today: Day, plan: Plan) -> list[int]:
    return _at_prices(today, plan, plan.prices)


def first_come(today: Day, plan: Plan) -> list[int]:
    return _at_prices(today, plan, dict.fromkeys(plan.prices, 0.0))


def _at_prices(today: Day, plan: Plan, prices: dict[str, float]) -> list[int]:
    left, chosen = budgets(plan.size), []
    for gains in (today.gains - [prices[name] for name in RESOURCES]).tolist():
        best, place = 0.0, -1
        for offer, gain in enumerate(gains):
            if gain > best and left[RESOURCES[offer]] >= 1:
                best, place = gain, offer
        if place >= 0:
            left[RESOURCES[place]] -= 1
        chosen.append(place)
    return chosen


def worth(today: Day, chosen: list[int], most: dict[str, float]) -> float:
    """Σ gain of what was shown, checked against every budget."""
    places = np.array(chosen)
    shown = np.flatnonzero(places >= 0)
    used = np.array(RESOURCES)[places[shown]]
    assert all((used == name).sum() <= each for name, each in most.items())
    return float(today.gains[shown, places[shown]].sum())


def _exponent(sizes: list[int], regrets: Floats) -> str:
    """Slope of log regret on log size over the sizes so far, a day of each at a time."""
    if len(sizes) < 3 or (regrets <= 0).any():
        return "–"
    slopes = np.polyfit(np.log(sizes), np.log(regrets), 1)[0]
    return _interval(slopes, 2)


def _interval(values: Floats, digits: int) -> str:
    reach = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return f"{values.mean():.{digits}f} ± {reach:.{digits}f}"


#: name → what was shown on a day under a plan; ours first
CONTESTANTS: dict[str, Callable[[Day, Plan], list[int]]] = {
    OURS: paced,
    "ours, without a plan": unplanned,
    "the plan's price, fixed": fixed,
    "first come": first_come,
}

CASE = Case(
    about=(
        "Five offers that use three budgets; the gain of each is known when a decision is asked for. Ours "
        "begins at the price of yesterday's optimum (of 20,000 decisions at most) and follows its path by "
        "the hour. Drifting: traffic and gains change by the hour, on each day a little otherwise, and there "
        "are up to a fifth more or fewer decisions than were planned for. The best in hindsight is the "
        "proven bound of the allocation. Five days each, 95 % intervals of their mean; the exponent is of "
        "the regret a decision, from 1,000 decisions up to that size. Seconds are of the processor, with "
        "the spending in LMDB."
    ),
    measure="share of the best in hindsight",
    sizes=(1_000_000,),
    smoke=1000,
    run=run,
    packages=("lmdb", "ortools", "numpy"),
)
