"""The allocator on problems whose answer one can see."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from conflict.api import Progress, allocate, verify
from kernel.choices import Limits, Status


def _limits(limits: list[dict[str, Any]] | None = None, **per_user: Any) -> Limits:
    return Limits.model_validate({"limits": limits or [], "per_user": per_user})


def _frame(rows: list[tuple[Any, ...]], *more: str) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user", "task", "value", *more], orient="row")


def test_the_best_task_of_each_user_by_default() -> None:
    answer = allocate(_frame([("u", "a", 1.0), ("u", "b", 2.0), ("v", "a", -1.0)]), Limits())
    assert answer.status is Status.OPTIMAL
    assert answer.assignments.rows() == [("u", "b", 2.0)]
    assert (answer.objective, answer.bound, answer.gap) == (2.0, 2.0, 0.0)


def test_a_budget_has_the_price_of_what_it_keeps_out() -> None:
    frame = _frame([(1, "a", 9.0, 1), (2, "a", 6.0, 1), (3, "a", 4.0, 1)], "cost")
    answer = allocate(frame, _limits([{"name": "budget", "sum": "cost", "at_most": 2}]))
    assert answer.assignments["user"].to_list() == [1, 2]
    (use,) = answer.limits
    assert (use.used, use.at_most, use.at_least) == (2.0, 2.0, None)
    assert 4.0 <= use.price <= 6.0


def test_a_floor_forces_a_loss_and_has_a_negative_price() -> None:
    frame = _frame([(1, "a", 9.0), (1, "b", 5.0), (2, "a", 6.0), (2, "b", 5.0)])
    answer = allocate(frame, _limits([{"name": "launch", "where": {"task": "b"}, "at_least": 1}]))
    assert answer.objective == 14.0
    assert sorted(answer.assignments.select("user", "task").rows()) == [(1, "a"), (2, "b")]
    assert answer.limits[0].price <= 0


def test_negative_usage_makes_room() -> None:
    frame = _frame([(1, "a", 5.0, 3.0), (2, "refund", -1.0, -2.0)], "cost")
    answer = allocate(frame, _limits([{"name": "budget", "sum": "cost", "at_most": 1}]))
    assert answer.objective == 4.0


@pytest.mark.parametrize(
    ("floor", "status"), [(None, Status.OPTIMAL), (0, Status.OPTIMAL), (2, Status.INFEASIBLE)]
)
def test_no_candidates_at_all(floor: int | None, status: Status) -> None:
    frame = _frame([]).cast({"user": pl.Int64, "task": pl.String, "value": pl.Float64})
    limits = _limits(
        [{"name": "x", "where": {"task": "a"}, "at_least": floor, "at_most": 5}], max_by={"task": {"a": 1}}
    )
    answer = allocate(frame, limits)
    assert answer.status is status
    assert answer.assignments.schema == frame.schema
    assert answer.assignments.is_empty()
    assert answer.conflicting == (() if status is Status.OPTIMAL else ("x",))


def test_what_contradicts_is_named_and_nothing_else() -> None:
    frame = _frame([(user, task, 1.0, 2.0) for user in range(6) for task in ("a", "b")], "cost")
    limits = _limits(
        [
            {"name": "budget", "sum": "cost", "at_most": 5},
            {"name": "harmless", "where": {"task": "b"}, "at_most": 3},
            {"name": "volume", "where": {"task": "a"}, "at_least": 3},
        ]
    )
    answer = allocate(frame, limits)
    assert answer.status is Status.INFEASIBLE
    assert set(answer.conflicting) == {"budget", "volume"}
    assert (answer.objective, answer.bound, answer.gap) == (None, None, None)
    assert answer.as_json()["conflicting"] == list(answer.conflicting)


def test_rules_of_users_can_be_guilty_too() -> None:
    frame = _frame([(1, "a", 1.0), (1, "b", 1.0), (2, "a", 1.0)])
    answer = allocate(frame, _limits(max_tasks=2, min_tasks=2))
    assert answer.status is Status.INFEASIBLE
    assert answer.conflicting == ("per_user.min_tasks",)
    answer = allocate(frame.head(2), _limits(max_tasks=2, min_tasks=2, never_together=[["a", "b"]]))
    assert set(answer.conflicting) == {"per_user.min_tasks", "per_user.never_together"}


def test_whole_numbers_alone_can_contradict() -> None:
    frame = _frame([(1, "a", 1.0, 2), (2, "a", 1.0, 2)], "cost")
    answer = allocate(frame, _limits([{"name": "exact", "sum": "cost", "at_least": 3, "at_most": 3}]))
    assert answer.status is Status.INFEASIBLE
    assert answer.conflicting == ("exact",)


@pytest.mark.parametrize("dtype", [pl.Int64, pl.UInt8, pl.String, pl.Categorical])
def test_ids_of_every_type_give_the_same_answer(dtype: Any) -> None:
    frame = pl.DataFrame({"user": [1, 1, 2], "task": [3, 4, 3], "value": [1.0, 2.0, 3.0]})
    frame = frame.with_columns(pl.col("user", "task").cast(pl.String).cast(dtype))
    task: Any = 3 if dtype.is_integer() else "3"
    answer = allocate(
        frame, _limits([{"name": "x", "where": {"task": task}, "at_most": 1}], max_by={"task": {"4": 0}})
    )
    assert answer.objective == 3.0
    assert answer.assignments.schema == frame.schema
    assert (
        verify(frame, _limits([{"name": "x", "where": {"task": task}, "at_most": 1}]), answer.assignments)
        == []
    )


def test_a_tie_is_broken_by_the_seed_and_not_by_position() -> None:
    frame = _frame([(user, "a", 1.0) for user in range(40)])
    limits = _limits([{"name": "five", "at_most": 5}])
    winners = [tuple(allocate(frame, limits, seed=seed).assignments["user"]) for seed in (1, 1, 2, 3, 4)]
    assert winners[0] == winners[1]
    assert len(set(winners)) > 1
    assert winners[0] == tuple(sorted(allocate(frame.reverse(), limits, seed=1).assignments["user"]))
    seen = {user for each in winners for user in each}
    assert seen - set(range(5)), "the first rows are not favoured"


def test_huge_values_beside_tiny_ones() -> None:
    frame = _frame([(1, "a", 1e12), (2, "a", 1e-6), (3, "a", 2e-6)])
    answer = allocate(frame, _limits([{"name": "two", "at_most": 2}]))
    assert answer.status is Status.OPTIMAL
    assert answer.objective is not None
    assert answer.objective >= 1e12


def test_large_costs_beside_small_ones_stay_within_the_budget() -> None:
    rng = np.random.default_rng(5)
    frame = pl.DataFrame({"user": range(60), "task": ["a"] * 60, "value": rng.random(60)})
    frame = frame.with_columns(
        cost=pl.Series(np.where(rng.random(60) < 0.5, 1e7, 1.0) * rng.uniform(1, 2, 60))
    )
    limits = _limits([{"name": "budget", "sum": "cost", "at_most": 1.3e8}])
    answer = allocate(frame, limits, time_limit=5)
    assert verify(frame, limits, answer.assignments) == []
    assert answer.objective is not None
    assert answer.objective > 0


def test_a_user_with_five_hundred_candidates() -> None:
    frame = pl.DataFrame({"user": [1] * 500, "task": range(500), "value": np.arange(500.0)})
    frame = frame.with_columns(channel=pl.col("task") % 5)
    answer = allocate(
        frame, _limits(max_tasks=4, max_by={"channel": {"4": 1, "3": 1}}, never_together=[[498, 497]])
    )
    assert sorted(answer.assignments["task"]) == [495, 496, 498, 499]


def _crowd(users: int, floor: int) -> tuple[pl.DataFrame, Limits]:
    rng = np.random.default_rng(3)
    frame = pl.DataFrame(
        {
            "user": np.repeat(np.arange(users), 4),
            "task": np.tile(np.arange(4), users),
            "value": rng.lognormal(0, 0.5, 4 * users),
            "cost": rng.uniform(0.5, 2.0, 4 * users),
        }
    ).with_columns(channel=pl.col("task") % 2)
    return frame, _limits(
        [
            {"name": "budget", "sum": "cost", "at_most": users / 2},
            {"name": "first", "where": {"task": 0}, "at_most": users // 8},
            {"name": "volume", "where": {"task": 3}, "at_least": floor},
        ],
        max_tasks=2,
        max_by={"channel": {"0": 1}},
        never_together=[[1, 2]],
    )


@pytest.mark.parametrize("users", [1_500, 9_000])
def test_what_is_too_large_for_branch_and_cut_is_close_to_its_bound(users: int) -> None:
    frame, limits = _crowd(users, users // 10)
    answer = allocate(frame, limits, time_limit=20, gap=2e-4)
    assert answer.status in (Status.OPTIMAL, Status.FEASIBLE)
    assert answer.objective is not None
    assert answer.bound is not None
    assert answer.gap is not None
    assert answer.objective <= answer.bound
    assert answer.gap <= 2e-4
    assert verify(frame, limits, answer.assignments) == []
    assert answer.objective == pytest.approx(answer.assignments["value"].sum())


@pytest.mark.parametrize("users", [1_500, 9_000])
def test_a_contradiction_among_many_is_named(users: int) -> None:
    frame, limits = _crowd(users, users)
    answer = allocate(frame, limits, time_limit=20)
    assert answer.status is Status.INFEASIBLE
    assert set(answer.conflicting) == {"budget", "volume"}


def test_no_time_still_gives_a_choice_that_holds() -> None:
    frame, limits = _crowd(1_500, 0)
    answer = allocate(frame, limits, time_limit=1e-6)
    assert answer.status is Status.FEASIBLE
    assert verify(frame, limits, answer.assignments) == []
    assert answer.objective is not None
    assert answer.objective > 0
    assert answer.gap is not None
    assert answer.gap > 1e-6


def test_a_search_broken_off_before_it_began_still_answers() -> None:
    frame, limits = _crowd(1_500, 0)

    def interrupted(_: Progress) -> bool:
        raise KeyboardInterrupt

    for stops in ((lambda _: True,), (interrupted,)):
        answer = allocate(frame, limits, time_limit=20, stops=stops)
        assert answer.status is Status.FEASIBLE
        assert verify(frame, limits, answer.assignments) == []
        assert answer.objective is not None
        assert answer.objective > 0


@pytest.mark.parametrize("off", [0.0, 0.1])
def test_amounts_that_cancel_beyond_a_solvers_tolerance_prove_nothing(off: float) -> None:
    # worth 8 in all: 1, 4 and 5 together cost −0.8, which a solver's tolerance cannot tell from 0
    rows = [(0, "a", 3.0, 0.4), (1, "a", 2.0, 1e7 + 0.3), (2, "a", 1.5, 1e7), (3, "a", 1.0, 0.2 + off),
            (4, "a", 3.0, -1e7 - 0.5), (5, "a", 3.0, -0.6)]  # fmt: skip
    frame = _frame(rows, "cost")
    limits = _limits([{"name": "x", "sum": "cost", "at_most": -0.5, "at_least": -1.0}])
    best = -np.inf
    for some in range(1 << len(rows)):
        held = [row for place, row in enumerate(rows) if some >> place & 1]
        if -1.0 <= round(sum(row[3] for row in held), 9) <= -0.5:
            best = max(best, sum(row[2] for row in held))
    answer = allocate(frame, limits, time_limit=2)
    assert answer.status in (Status.OPTIMAL, Status.FEASIBLE)
    assert answer.objective is not None
    assert answer.bound is not None
    assert answer.objective <= best + 1e-9 <= answer.bound + 2e-9
    assert verify(frame, limits, answer.assignments) == []
    assert (answer.status is Status.OPTIMAL) <= (answer.objective >= best - 1e-5)
