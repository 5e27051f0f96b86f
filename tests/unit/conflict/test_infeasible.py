"""What cannot hold together is named, no more than that, and the least relaxation makes it hold."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import polars as pl
import pytest

from conflict.api import allocate, verify
from conflict.infeasible import conflicting, contradicts, idle_of, proves, relaxation, softened
from conflict.problem import (
    Problem,
    Rules,
    compile_problem,
    compile_rules,
    kinds_of,
    label_columns,
    summed_columns,
)
from conflict.programs import Answer, Solver, solve
from conflict.reply import Here
from conflict.rows import program_of
from conflict.whole import linear_prices
from kernel.choices import Limits, Status


def _crowd(rng: np.random.Generator, users: int) -> pl.DataFrame:
    size = users * 3
    return pl.DataFrame(
        {
            "user": np.repeat(np.arange(users), 3),
            "task": np.tile(np.arange(3), users),
            "value": rng.lognormal(0, 0.5, size),
            "cost": rng.uniform(0.5, 2.0, size),
            "region": np.repeat(rng.integers(0, 4, users), 3),
        }
    )


def _limits(limits: list[dict[str, Any]], **per_user: Any) -> Limits:
    return Limits.model_validate({"limits": limits, "per_user": per_user})


def _random(rng: np.random.Generator, users: int) -> Limits:
    """Ceilings and floors that may or may not hold together, of which some are harmless."""
    limits: list[dict[str, Any]] = [
        {"name": "budget", "sum": "cost", "at_most": users * float(rng.choice([0.2, 0.4, 1.0]))},
        {"name": "all", "at_most": users * float(rng.choice([0.3, 0.6, 2.0]))},
    ]
    for task in range(3):
        limits.append(
            {
                "name": f"task{task}",
                "where": {"task": task},
                "at_least": int(users * rng.choice([0.05, 0.2, 0.45])),
            }
        )
    for region in range(2):
        limits.append(
            {
                "name": f"region{region}", "where": {"region": [region, region + 1]},
                "at_most": int(users * rng.choice([0.1, 0.3, 0.8])),
            }
        )  # fmt: skip
    return _limits(limits, max_tasks=int(rng.integers(1, 3)))


def _only(limits: Limits, names: set[str]) -> Limits:
    most = limits.per_user.max_tasks if "per_user.max_tasks" in names else 3
    return Limits.model_validate(
        {"limits": [each for each in limits.limits if each.name in names], "per_user": {"max_tasks": most}}
    )


def _answer(frame: pl.DataFrame, limits: Limits, whole: bool = True) -> Answer:
    """By branch and cut on the candidates as they are, with nothing to gain."""
    problem, _ = compile_problem(frame, limits)
    solver = Solver.HIGHS if whole else Solver.GLOP
    return solve(program_of(idle_of(problem), whole=whole), solver, seconds=30).answer


def _without(frame: pl.DataFrame, limits: Limits) -> Any:
    kinds, _ = kinds_of(frame, label_columns(limits))

    def rules(fewer: Limits) -> Rules:
        return compile_rules(kinds, fewer, summed_columns(limits))

    return rules


@pytest.mark.parametrize("small", [0, 3_000])
def test_named_limits_contradict_and_none_too_many(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conflict.solve._SMALL", small)
    guilty = 0
    for seed in range(14):
        rng = np.random.default_rng(seed)
        frame = _crowd(rng, 40)
        limits = _random(rng, 40)
        possible = _answer(frame, limits) is Answer.OPTIMAL
        answer = allocate(frame, limits, time_limit=2.0, gap=1e-2)
        assert (answer.status is not Status.INFEASIBLE) is possible
        if possible:
            assert verify(frame, limits, answer.assignments) == []
            continue
        guilty += 1
        names = set(answer.conflicting)
        assert _answer(frame, _only(limits, names)) is Answer.INFEASIBLE
        for each in names:
            assert _answer(frame, _only(limits, names - {each})) is Answer.OPTIMAL
        _gives_way(frame, limits, answer.relaxation, names)
    assert 3 < guilty < 14


def _gives_way(frame: pl.DataFrame, limits: Limits, by: dict[str, float], names: set[str]) -> None:
    """Limits that give way by so much can hold, one of the guilty among them."""
    assert set(by) & names
    assert all(each > 0 for each in by.values())
    looser = []
    for limit in limits.limits:
        give = by.get(limit.name, 0.0) * (1 + 1e-9)
        looser.append(
            limit.model_copy(
                update={
                    "at_most": None if limit.at_most is None else limit.at_most + give,
                    "at_least": None if limit.at_least is None else limit.at_least - give,
                }
            )
        )
    assert _answer(frame, limits.model_copy(update={"limits": tuple(looser)})) is Answer.OPTIMAL


def test_the_least_relaxation_is_the_least() -> None:
    # three of five must be served, and the budget serves two
    frame = pl.DataFrame({"user": range(5), "task": ["a"] * 5, "value": [1.0] * 5, "cost": [1.0] * 5})
    floor = {"name": "floor", "at_least": 3}
    answer = allocate(frame, _limits([{"name": "budget", "sum": "cost", "at_most": 2}, floor]))
    assert set(answer.conflicting) == {"budget", "floor"}
    assert sum(answer.relaxation.values()) == pytest.approx(1.0)
    # a limit with a penalty gives way by itself
    soft = {"name": "budget", "sum": "cost", "at_most": 2, "penalty": 9.0}
    answer = allocate(frame, _limits([soft, floor]))
    assert answer.status is Status.OPTIMAL
    assert answer.objective == pytest.approx(3.0 - 9.0)
    assert answer.limits[0].passed == pytest.approx(1.0)
    # and is never guilty
    answer = allocate(frame, _limits([soft, floor, {"name": "all", "at_most": 2}]))
    assert set(answer.conflicting) == {"floor", "all"}


def test_rules_of_users_alone_have_no_relaxation() -> None:
    frame = pl.DataFrame({"user": [1, 1], "task": ["a", "b"], "value": [1.0, 1.0]})
    limits = _limits([{"name": "all", "at_most": 9}], max_tasks=2, min_tasks=2, never_together=[["a", "b"]])
    answer = allocate(frame, limits)
    assert set(answer.conflicting) == {"per_user.min_tasks", "per_user.never_together"}
    assert answer.relaxation == {}


def _as_large(patch: pytest.MonkeyPatch) -> None:
    for name, size in (("_LINEAR", 100), ("_SAMPLE", 400), ("_FEW", 300)):
        patch.setattr(f"conflict.infeasible.{name}", size)


def test_prices_tell_what_the_linear_program_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    _as_large(monkeypatch)
    proven = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        frame, limits = _crowd(rng, 150), _random(rng, 150)
        problem, _ = compile_problem(frame, limits)
        impossible = _answer(frame, limits, whole=False) is Answer.INFEASIBLE
        told = contradicts(idle_of(problem), whole=False, end=time.monotonic() + 20)
        assert impossible or not told, "never a contradiction that is none"
        assert told or not impossible
        proven += told
    assert 8 < proven < 25


def test_no_prices_prove_what_is_not_so() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        frame, limits = _crowd(rng, 60), _random(rng, 60)
        idle = idle_of(compile_problem(frame, limits)[0])
        if _answer(frame, limits, whole=False) is Answer.INFEASIBLE:
            continue
        soft = softened(idle)
        prices, _, _ = linear_prices(soft, seconds=10)
        here = Here(problem=soft)
        assert not proves(idle.rules, prices, here, least=0.0)
        for _ in range(50):
            signs = np.where(np.isfinite(idle.rules.at_least), -1.0, 1.0)
            some = signs * rng.random(prices.size) * rng.choice([0.0, 1.0], prices.size)
            assert not proves(idle.rules, some, here, least=0.0)


def test_among_many_the_filter_runs_on_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    _as_large(monkeypatch)
    monkeypatch.setattr("conflict.solve._SMALL", 0)
    monkeypatch.setattr("conflict.prices._SAMPLE", 200)
    users = 600
    frame = _crowd(np.random.default_rng(0), users)
    limits = _limits(
        [
            {"name": "harmless", "where": {"region": 3}, "at_most": users},
            {"name": "budget", "sum": "cost", "at_most": users / 4},
            {"name": "loose", "where": {"task": 1}, "at_least": 3},
            {"name": "volume", "where": {"task": 2}, "at_least": users / 2},
        ],
        max_tasks=2,
    )
    answer = allocate(frame, limits, time_limit=10)
    assert answer.status is Status.INFEASIBLE
    assert set(answer.conflicting) == {"budget", "volume"}
    _gives_way(frame, limits, answer.relaxation, {"budget", "volume"})


def test_without_time_nobody_is_cleared() -> None:
    rng = np.random.default_rng(0)
    frame = _crowd(rng, 20)
    limits = _limits(
        [{"name": "a", "at_most": 1}, {"name": "b", "at_least": 2}, {"name": "c", "at_most": 99}]
    )
    problem: Problem = compile_problem(frame, limits)[0]
    names = conflicting(problem, limits, _without(frame, limits), seed=0, seconds=-1.0)
    assert {"a", "b", "c"} <= set(names)
    assert relaxation(problem, limits, ("a", "b"), seed=0, seconds=-1.0) == {}
