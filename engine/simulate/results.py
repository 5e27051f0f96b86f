"""Figures of simulated days: what each policy added, and how far the engine is ahead of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import t as student

from engine.simulate.nature import Floats
from engine.simulate.run import ENGINE, NOBODY, Row

_LEVEL = 0.95


def summarise(rows: Sequence[Row], budget: float) -> dict[str, Any]:
    """`{days, seeds, policies, ahead, curves}`, of whole days of all policies.

    `policies`: by policy what it added to profit beside nobody touched, its spending, budget use, touches and
    opt-outs, a seed on average; `ahead`: what the engine has more than each other policy, in the same world;
    `curves`: added profit so far by day. Intervals are Student's over seeds, of differences between worlds
    of one seed; None with one seed. Totals are of seeds that are as far as the farthest.
    """
    frame = pl.DataFrame([asdict(each) for each in rows])
    last = int(frame["day"].to_numpy().max())
    done = (
        frame.group_by("seed").agg(pl.col("day").max()).filter(pl.col("day") == last)["seed"].sort().to_list()
    )
    names = frame["policy"].unique(maintain_order=True).to_list()
    profit = {name: _by_seed(frame, name, "profit", done, last) for name in names}
    base = profit.get(NOBODY, {seed: np.zeros(last) for seed in done})
    added = {name: np.array([np.cumsum(profit[name][seed] - base[seed]) for seed in done]) for name in names}
    policies = []
    for name in names:
        mine = frame.filter((pl.col("policy") == name) & pl.col("seed").is_in(done))
        sums = {
            each: float(mine[each].sum()) / len(done)
            for each in ("coupons", "touch_cost", "touches", "opt_outs", "seconds")
        }
        spent = sums["coupons"] + sums["touch_cost"]
        policies.append(
            {
                "policy": name,
                "added": _interval(added[name][:, -1]),
                "spent": spent,
                "budget_used": spent / (budget * last) if budget else None,
                **{each: sums[each] for each in ("touches", "opt_outs", "seconds")},
            }
        )
    ahead = [
        {"policy": name, "by": _interval(added[ENGINE][:, -1] - added[name][:, -1])}
        for name in names
        if ENGINE in names and name != ENGINE
    ]
    curves = [
        {"policy": name, "days": [_interval(added[name][:, day]) for day in range(last)]} for name in names
    ]
    return {
        "days": last,
        "seeds": done,
        "budget": budget,
        "policies": sorted(policies, key=lambda each: -each["added"]["mean"]),
        "ahead": ahead,
        "curves": curves,
    }


def _by_seed(frame: pl.DataFrame, name: str, what: str, seeds: Sequence[int], last: int) -> dict[int, Floats]:
    mine = frame.filter(pl.col("policy") == name)
    return {
        seed: mine.filter((pl.col("seed") == seed) & (pl.col("day") <= last)).sort("day")[what].to_numpy()
        for seed in seeds
    }


def _interval(values: Floats) -> dict[str, float | None]:
    """Mean over seeds with Student's interval; without ends where there is one."""
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return {"mean": mean, "low": None, "high": None}
    reach = float(student.ppf((1 + _LEVEL) / 2, count - 1)) * float(values.std(ddof=1)) / math.sqrt(count)
    return {"mean": mean, "low": mean - reach, "high": mean + reach}
