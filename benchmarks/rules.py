"""Thousands of rules that are due in one minute: one run in which they compete, beside one after another."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import polars as pl

from benchmarks.case import Case, Line
from benchmarks.plan_world import DAY, lay_out, open_at
from engine.cycle import plan
from engine.definitions import parse_definition
from engine.rule_firing import RuleClock
from engine.rule_given import run_folder
from engine.usecases import apply_all
from engine.wiring import Workspace
from kernel.definitions import Definition

#: the minute in which all are due
AT = datetime(DAY.year, DAY.month, DAY.day, 10, tzinfo=UTC)
#: groups that the rules share, each a slice of users by what they spent
GROUPS = 200
#: users a rule, in the mean: groups are so large that rules overlap twenty-five deep at full size
_A_RULE = 100
#: minutes of the day that are left
_MINUTES = 13 * 60


def run(size: int, seed: int, seconds: float) -> list[Line]:
    users = max(60, min(GROUPS, size) * _A_RULE)
    with _world(size, users, seed) as space:
        begun, worked = perf_counter(), process_time()
        (told,) = RuleClock(space).tick(AT + timedelta(seconds=1))
        took, worked = perf_counter() - begun, process_time() - worked
        if told["state"] != "done" or told["failed"] or told["rules"] != size:
            raise AssertionError(f"not every rule fired: {told}")
        if RuleClock(space).tick(AT + timedelta(seconds=2)):
            raise AssertionError("a rule fired twice")
        value = _value(run_folder(space, told["run"]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        notes: dict[str, object] = {
            "users": users,
            "touches": told["touches"],
            # all of a run are in the outbox together
            "lag p50, s": round(took, 1),
            "lag p99, s": round(took, 1),
            "processor, s": round(worked, 1),
            "peak, GiB": round(peak, 2),
        }
        ours = Line(size=size, who="ours", ratio=1.0, times=1.0, seconds=took, notes=notes)
    with _world(size, users, seed, apart=True) as space:
        fired, touches, earned, begun, worked = 0, 0, 0.0, perf_counter(), process_time()
        clock = RuleClock(space)
        for minute in range(min(size, _MINUTES)):
            for each in clock.tick(AT + timedelta(minutes=minute, seconds=1)):
                fired, touches = fired + each["rules"], touches + each["touches"]
                earned += _value(run_folder(space, each["run"]))
            if perf_counter() - begun > seconds:
                break
        whole = (perf_counter() - begun) / max(fired, 1) * size
        worked = (process_time() - worked) / max(fired, 1) * size
        notes = {
            "users": users,
            "touches": touches,
            "lag p50, s": round(whole * 0.5, 1),
            "lag p99, s": round(whole * 0.99, 1),
            "processor, s": round(worked, 1),
            "fired": f"{fired:,}" if fired == size else f"{fired:,} in the time, the rest reckoned",
        }
        ratio = earned / value if fired == size and value else None
        peer = Line(
            size=size, who="one after another", ratio=ratio, times=whole / took, seconds=whole, notes=notes
        )
    return [ours, peer]


@contextmanager
def _world(rules: int, users: int, seed: int, *, apart: bool = False) -> Iterator[Workspace]:
    """`apart`: each rule is due in a minute of its own."""
    with tempfile.TemporaryDirectory() as folder:
        space = lay_out(Path(folder) / "shop", users)
        plan(space, DAY, None, lambda _: None)  # small limits, which are raised then: there is room
        _apply(space, _definitions(rules, users, seed, apart=apart))
        space.rule_firings.start_clock(AT - timedelta(minutes=1))
        space = open_at(space.root, AT + timedelta(seconds=1))
        yield space
        space.database.dispose()


def _definitions(rules: int, users: int, seed: int, *, apart: bool) -> list[dict[str, object]]:
    chance = np.random.default_rng(seed)
    groups = min(GROUPS, rules)
    edges = np.quantile(chance.gamma(4.0, 40.0, 10_000), np.linspace(0, 1, groups + 1)).round(2)
    edges[0], edges[-1] = 0.01, 1e9
    found: list[dict[str, object]] = [
        {
            "kind": "limits",
            "name": "daily",
            "per_user": {"max_tasks": 1},
            "limits": [{"name": "money", "sum": "cost", "at_most": 0.05 * users}],
        },
        {"kind": "coupon_pool", "name": "spring", "size": users, "prefix": "S-"},
    ]
    for name, channel, cost, reach in (("letter", "post", 0.2, 0.9), ("note", "inbox", 0.01, 0.4)):
        found.append(
            {"kind": "touchpoint", "name": name, "channel": channel, "cost_per_touch": cost, "reach": reach,
             "capacity": users // 2, "hours": [0, 24]}
        )  # fmt: skip
    found += [
        {
            "kind": "group",
            "name": f"spent_{number}",
            "entity": "user",
            "where": {"event": "order", "agg": "sum", "of": "amount", "within": "119d", "op": "between",
                      "value": [float(edges[number]), float(edges[number + 1])]},
        }
        for number in range(groups)
    ]  # fmt: skip
    minutes = [number % _MINUTES if apart else 0 for number in range(rules)]
    crons = [f"{minute % 60} {AT.hour + minute // 60} * * *" for minute in minutes]
    return found + [_rule(number, groups, cron) for number, cron in enumerate(crons)]


def _rule(number: int, groups: int, cron: str) -> dict[str, object]:
    return {
        "kind": "rule",
        "name": f"rule_{number}",
        "goal": "grow" if number % 2 else "keep",
        "group": f"spent_{number % groups}",
        "touchpoint": "note" if number % 3 else "letter",
        "benefit": "greeting" if number % 5 else "coupon",
        "cron": cron,
        "fires": "by_itself",
        "at_most": 20,
    }


def _apply(space: Workspace, raws: list[dict[str, object]]) -> None:
    read: list[Definition] = [parse_definition(raw, "benchmark") for raw in raws]
    apply_all(space, read, by="benchmarks")


def _value(folder: Path) -> float:
    file = folder / "assignments.parquet"
    return float(pl.read_parquet(file)["value"].sum()) if file.exists() else 0.0


CASE = Case(
    about="So many rules of 200 groups that are due in one minute, in one run after the day's plan, from "
    "their instant until all touches are in the outbox; the peer fires one after another, each alone.",
    measure="expected value",
    sizes=(500, 5_000),
    smoke=6,
    run=run,
    packages=("polars", "ortools", "sqlalchemy"),
)
