"""What is pruned could not have mattered: any user's best reply, at any prices of the box, by enumeration."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.choices import Limit, Limits, PerUser
from planner.pruning import Columns, Pruner, box_of, pruner, signed

TASKS = pl.DataFrame(
    {
        "task": [f"t{each}" for each in range(8)],
        "channel": ["mail", "push", "sms", "push", "mail", "push", "sms", "mail"],
        "goal": ["keep", "keep", "grow", "grow", "keep", "grow", "keep", "grow"],
    }
)
RULES = (
    PerUser(),
    PerUser(max_tasks=2),
    PerUser(max_tasks=3, max_by={"channel": {"push": 1, "mail": 2}}),
    PerUser(max_tasks=2, max_by={"channel": {"sms": 0}, "goal": {"grow": 1}}),
    PerUser(max_tasks=3, never_together=(("t0", "t1", "t2"), ("t2", "t5"))),
    PerUser(max_tasks=2, min_tasks=1, max_by={"goal": {"keep": 1}}),
)
LIMITS = (
    Limit(name="money", sum="cost", at_most=10),
    Limit(name="push", where={"channel": "push"}, at_most=3),
    Limit(name="grow_money", sum="cost", where={"goal": "grow"}, at_most=4),
    Limit(name="keep_volume", where={"goal": "keep"}, at_least=2),
    Limit(name="points", sum="points", where={"channel": ("mail", "sms")}, at_most=5, at_least=-3),
)


def allowed(chosen: tuple[int, ...], kinds: Any, rules: PerUser) -> bool:
    if not rules.min_tasks <= len(chosen) <= rules.max_tasks:
        return False
    rows = [TASKS.row(int(kinds[each]), named=True) for each in chosen]
    for column, labels in rules.max_by.items():
        for label, most in labels.items():
            if sum(row[column] == label for row in rows) > most:
                return False
    return all(sum(row["task"] in group for row in rows) <= 1 for group in rules.never_together)


def reply(value: Any, kinds: Any, rules: PerUser, some: list[int]) -> float:
    """The best that one user can take of `some`; −inf where the rules cannot be kept."""
    return max(
        (
            float(sum(value[each] for each in chosen))
            for many in range(min(rules.max_tasks, len(some)) + 1)
            for chosen in combinations(some, many)
            if allowed(chosen, kinds, rules)
        ),
        default=-np.inf,
    )


def adjusted(pruned: Pruner, columns: Columns, prices: Any) -> Any:
    usage = np.vstack([np.ones((1, columns.value.size)), columns.amounts])
    paid = np.zeros(columns.value.size)
    for limit in range(prices.size):
        paid += prices[limit] * usage[pruned.row[limit]] * pruned.member[columns.kind, limit]
    return columns.value - paid


def world(seed: int, rules: PerUser, most: int, wide: float) -> tuple[Pruner, Columns, Any]:
    rng = np.random.default_rng(seed)
    limits = Limits(per_user=rules, limits=LIMITS)
    prices = {"money": 0.8, "push": 0.3, "grow_money": 0.4, "keep_volume": -0.5, "points": -0.1}
    box = {name: (price - wide * abs(price), price + wide * abs(price)) for name, price in prices.items()}
    pruned = pruner(TASKS, limits, signed(box, limits), most)
    kinds = [np.sort(rng.choice(8, rng.integers(1, 9), replace=False)) for _ in range(6)]
    kind = np.concatenate(kinds)
    size = kind.size
    # in steps, so that there are ties
    value = np.round(rng.normal(0.8, 1.0, size) * 4) / 4
    amounts = np.array([np.round(rng.random(size) * 4) / 4, np.round(rng.normal(0, 2, size))])
    starts = np.append(0, np.cumsum([each.size for each in kinds]))
    return pruned, Columns(starts=starts, value=value, amounts=amounts, kind=kind), rng


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(RULES),
    st.sampled_from([1, 2, 3, 8]),
    st.sampled_from([0.0, 0.1, 0.5]),
)
def test_best_replies_stay_and_what_is_cut_is_counted(
    seed: int, rules: PerUser, most: int, wide: float
) -> None:
    pruned, columns, rng = world(seed, rules, most, wide)
    fates = pruned.prune(columns)
    corners = [pruned.low, pruned.high, *rng.uniform(pruned.low, pruned.high, (6, pruned.low.size))]
    for prices in corners:
        value = adjusted(pruned, columns, prices)
        missed, everything = 0.0, 0.0
        for begin, end in zip(columns.starts[:-1], columns.starts[1:], strict=True):
            whole = list(range(begin, end))
            best = reply(value, columns.kind, rules, whole)
            if best == -np.inf:
                continue
            kept = reply(value, columns.kind, rules, [each for each in whole if fates.kept[each]])
            missed, everything = missed + best - kept, everything + best
        assert missed <= fates.lost + 1e-9
        if most == 8:
            assert fates.lost == 0
        if rules.min_tasks == 0:
            told = dict(zip([limit.name for limit in LIMITS], prices, strict=True))
            assert everything <= pruned.worth(columns, told) + 1e-9
            # by the kept alone, and what cutting costs
            some = np.flatnonzero(fates.kept)
            fewer = Columns(
                starts=np.searchsorted(some, columns.starts),
                value=columns.value[some],
                amounts=np.ascontiguousarray(columns.amounts[:, some]),
                kind=columns.kind[some],
            )
            assert everything <= pruned.worth(fewer, told) + fates.lost + 1e-9


def test_most_of_what_cannot_matter_goes() -> None:
    pruned, columns, _ = world(3, PerUser(), 8, 0.05)
    kept = pruned.prune(columns).kept
    assert kept.sum() <= 2 * columns.users < columns.value.size
    # at one price there is one best reply
    exact, columns, _ = world(3, PerUser(), 8, 0.0)
    assert exact.prune(columns).kept.sum() <= columns.users


def test_a_scarce_floor_keeps_one_a_user() -> None:
    pruned, columns, _ = world(5, PerUser(), 8, 0.0)
    kept = replace(pruned, scarce=("keep_volume",)).prune(columns).kept
    inside = pruned.member[columns.kind, 3]
    for begin, end in zip(columns.starts[:-1], columns.starts[1:], strict=True):
        assert kept[begin:end][inside[begin:end]].any() == inside[begin:end].any()


def test_the_box_holds_every_sample_and_more() -> None:
    box = box_of([{"a": 1.0}, {"a": 1.2}], {"a": 2.0})
    assert list(box["a"]) == pytest.approx([0.8, 1.4])
    assert list(box_of([{"a": 0.0}], {"a": 2.0})["a"]) == pytest.approx([-0.04, 0.04])


@pytest.mark.parametrize(
    ("limit", "dear", "cheap"),
    [
        (Limit(name="one", sum="cost", where={"goal": "grow"}, at_most=1), "t3", "t1"),
        (Limit(name="one", where={"channel": "sms"}, at_most=1), "t2", "t0"),
    ],
)
def test_whichever_is_better_somewhere_in_the_box_stays(limit: Limit, dear: str, cheap: str) -> None:
    """One pays 0.2 to 0.6, the other is worth 0.4 less and pays nothing: either may win."""
    names = list(TASKS["task"])
    columns = Columns(
        starts=np.array([0, 2]),
        value=np.array([1.0, 0.6]),
        amounts=np.ones((1 if limit.sum else 0, 2)),
        kind=np.array([names.index(dear), names.index(cheap)]),
    )
    for edges, stay in (((0.2, 0.6), [True, True]), ((0.2, 0.3), [True, False]), ((0.5, 0.6), [False, True])):
        kept = pruner(TASKS, Limits(limits=(limit,)), {"one": edges}, 8).prune(columns).kept
        assert kept.tolist() == stay
