"""Small allocation problems of every rule and mix of rules, and their answers by trying every choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from kernel.choices import Limits, PerUser

Rows = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What enumeration knows of a problem."""

    #: the best Σ value less penalties; −inf where no choice is allowed
    best: float
    #: the best choice by row
    chosen: Rows


def truth(frame: pl.DataFrame, limits: Limits) -> Truth:
    """By trying every choice of at most some 14 candidates."""
    size = frame.height
    choices = (np.arange(2**size)[:, None] >> np.arange(size)) & 1 == 1
    allowed = np.ones(2**size, np.bool_)
    score = choices @ frame["value"].cast(pl.Float64).to_numpy()
    for limit in limits.limits:
        inside = np.ones(size, np.bool_)
        for column, labels in limit.where.items():
            wanted = labels if isinstance(labels, tuple) else (labels,)
            inside &= np.array([each in wanted for each in frame[column]], np.bool_)
        amount = np.ones(size) if limit.sum is None else frame[limit.sum].cast(pl.Float64).to_numpy()
        used = choices @ np.where(inside, amount, 0.0)
        over = np.maximum(used - (np.inf if limit.at_most is None else limit.at_most), 0.0)
        under = np.maximum((-np.inf if limit.at_least is None else limit.at_least) - used, 0.0)
        past = np.where(over + under > 1e-9, over + under, 0.0)
        if limit.penalty is None:
            allowed &= past == 0
        else:
            score = score - limit.penalty * past
    allowed &= _rules(frame, limits.per_user, choices)
    score = np.where(allowed, score, -np.inf)
    at = int(np.argmax(score))
    return Truth(best=float(score[at]), chosen=choices[at])


def _rules(frame: pl.DataFrame, rules: PerUser, choices: Rows) -> Rows:
    allowed = np.ones(choices.shape[0], np.bool_)
    for user in frame["user"].unique():
        own = (frame["user"] == user).to_numpy()
        count = choices[:, own].sum(axis=1)
        allowed &= (count >= rules.min_tasks) & (count <= rules.max_tasks)
        for column, labels in rules.max_by.items():
            for label, most in labels.items():
                same = own & np.array([str(each) == label for each in frame[column]])
                allowed &= choices[:, same].sum(axis=1) <= most
        for tasks in rules.never_together:
            same = own & np.array([each in tasks for each in frame["task"]])
            allowed &= choices[:, same].sum(axis=1) <= 1
    return allowed


def random_problem(
    rng: np.random.Generator, *, size: int = 10, soft: bool = True
) -> tuple[pl.DataFrame, Limits]:
    """At most `size` candidates: losses, ties, refunds, floors, penalties, rules that cross."""
    pairs = [
        (user, task) for user in range(int(rng.integers(1, 5))) for task in range(int(rng.integers(1, 6)))
    ]
    pairs = [pairs[each] for each in sorted(rng.permutation(len(pairs))[:size])]
    many = len(pairs)
    grid = rng.choice([0.25, 1.0])
    costs = rng.integers(0, 6, many) / 2
    if rng.random() < 0.4:
        costs = rng.integers(-3, 6, many) / 2
    frame = pl.DataFrame(
        {
            "user": [user for user, _ in pairs],
            "task": [task for _, task in pairs],
            "value": rng.integers(-5 if rng.random() < 0.5 else 0, 12, many) * grid,
            "cost": costs,
            "weight": rng.integers(1, 9, many).astype(np.float64),
            "channel": rng.choice(["sms", "push"], many),
            "tier": rng.integers(1, 3, many),
        }
    )
    most = int(rng.integers(1, 4))
    rules: dict[str, Any] = {"max_tasks": most, "min_tasks": int(rng.random() < 0.2)}
    for column in ("channel", "tier"):
        if rng.random() < 0.35:
            label = str(rng.choice(frame[column].to_list()))
            rules.setdefault("max_by", {})[column] = {label: int(rng.integers(0, 3))}
    tasks = frame["task"].unique(maintain_order=True).to_list()
    if len(tasks) > 1 and rng.random() < 0.35:
        rules["never_together"] = [rng.permutation(tasks)[: int(rng.integers(2, len(tasks) + 1))].tolist()]
    limits = [_limit(rng, frame, place, soft) for place in range(int(rng.integers(0, 5)))]
    return frame, Limits.model_validate({"per_user": rules, "limits": limits})


def _limit(rng: np.random.Generator, frame: pl.DataFrame, place: int, soft: bool) -> dict[str, Any]:
    low = [None, None, None, 0.0, 1.0, 2.0][int(rng.integers(6))]
    limit: dict[str, Any] = {"name": f"limit{place}", "at_least": low}
    if low is None or rng.random() < 0.4:
        limit["at_most"] = (low or 0.0) + float(rng.integers(0, 9)) / 2
    if rng.random() < 0.6:
        limit["sum"] = str(rng.choice(["cost", "weight"]))
    for column in ("channel", "task", "tier"):
        if rng.random() < 0.25:
            labels = set(rng.choice(frame[column].to_list(), int(rng.integers(1, 3))).tolist())
            limit.setdefault("where", {})[column] = sorted(labels)
    if soft and rng.random() < 0.3:
        limit["penalty"] = float(rng.integers(1, 9)) / 4
    return limit


def fits(frame: pl.DataFrame, limits: Limits) -> bool:
    """Whether every floor above 0 has a candidate in its slice: without one, limits are an error."""
    for limit in limits.limits:
        inside = np.ones(frame.height, np.bool_)
        for column, labels in limit.where.items():
            wanted = labels if isinstance(labels, tuple) else (labels,)
            inside &= np.array([each in wanted for each in frame[column]], np.bool_)
        if limit.where and (limit.at_least or 0) > 0 and not inside.any():
            return False
    return True
