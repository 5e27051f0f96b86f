"""The way of the large problems: its prices against linear programs, its choices against enumeration."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from conflict.api import allocate, verify
from conflict.prices import bound_of, find_prices
from conflict.problem import compile_problem
from conflict.programs import Answer, Solver, solve
from conflict.reply import Here, worth
from conflict.rows import program_of
from kernel.choices import Allocation, Limits, Status

_SPEC = importlib.util.spec_from_file_location(
    "allocation_oracle_of_the_large", Path(__file__).with_name("allocation_oracle.py")
)
assert _SPEC is not None
assert _SPEC.loader is not None
oracle = importlib.util.module_from_spec(_SPEC)
sys.modules["allocation_oracle_of_the_large"] = oracle
_SPEC.loader.exec_module(oracle)

TASKS = 5


def _crowd(
    rng: np.random.Generator, users: int, *, tied: bool = False, negative: bool = False
) -> pl.DataFrame:
    size = users * TASKS
    value, cost = rng.lognormal(0, 0.5, size), rng.uniform(0.5, 2, size)
    if tied:
        value, cost = np.round(value, 1), rng.choice([0.5, 1.0, 2.0], size)
    if negative:
        value, cost = value - 0.5, cost - 0.8
    task = np.tile(np.arange(TASKS), users)
    return pl.DataFrame(
        {
            "user": np.repeat(np.arange(users), TASKS),
            "task": task,
            "value": value,
            "cost": cost,
            "time": rng.choice([1.0, 2.0], size) if tied else rng.uniform(1, 3, size),
            "channel": task % 2,
            "region": np.repeat(rng.integers(0, 6, users), TASKS),
        }
    )


def _shapes(users: float) -> dict[str, list[dict[str, Any]]]:
    return {
        "one": [{"name": "b", "sum": "cost", "at_most": users / 2}],
        "many": [
            {"name": f"b{r}{t}", "sum": "cost", "where": {"region": r, "task": t}, "at_most": users / 48}
            for r in range(6)
            for t in range(TASKS)
        ],
        "two-sided": [
            {"name": "b", "sum": "cost", "at_most": users / 2, "at_least": users / 2 - 0.5},
            {"name": "t", "where": {"task": 0}, "at_most": users / 8, "at_least": users / 9},
        ],
        "floors": [{"name": f"f{t}", "where": {"task": t}, "at_least": users / 2} for t in (1, 2)],
        "counts": [
            *({"name": f"c{t}", "where": {"task": t}, "at_most": users / 8} for t in range(TASKS)),
            {"name": "all", "at_most": users / 2},
        ],
        "overlapping": [
            {"name": "a", "sum": "cost", "where": {"task": [0, 1, 2]}, "at_most": users / 3},
            {"name": "b", "sum": "cost", "where": {"task": [1, 2, 3]}, "at_most": users / 3},
            {"name": "c", "sum": "time", "where": {"channel": 0}, "at_most": users / 2},
            {"name": "d", "sum": "cost", "at_most": users * 0.7},
            {"name": "e", "where": {"region": [1, 2]}, "at_least": users / 3},
        ],
        "soft": [
            {"name": "b", "sum": "cost", "at_most": users / 3, "penalty": 0.3},
            {"name": "f", "where": {"task": 4}, "at_least": users / 2, "penalty": 0.2},
            {"name": "h", "sum": "time", "at_most": users * 0.8},
        ],
        "empty": [
            {"name": "b", "sum": "cost", "at_most": users / 2},
            {"name": "none", "where": {"region": 0, "task": 0, "channel": 1}, "at_most": 3, "at_least": 0},
            {"name": "zero", "where": {"region": 0, "task": 0}, "at_most": 0},
        ],
    }


def _limits(limits: list[dict[str, Any]], **per_user: Any) -> Limits:
    return Limits.model_validate({"limits": limits, "per_user": per_user})


@pytest.mark.parametrize("shape", list(_shapes(1)))
@pytest.mark.parametrize("kind", ["plain", "tied", "negative", "tied negative"])
def test_prices_bound_as_tightly_as_the_linear_program(
    shape: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # samples, boxes in boxes and sorts of alike users, for the price of a small problem
    monkeypatch.setattr("conflict.prices._SAMPLE", 400)
    monkeypatch.setattr("conflict.prices._SAMPLE_LIMIT", 0)
    monkeypatch.setattr("conflict.prices._LINEAR", 600)
    users = 800
    frame = _crowd(np.random.default_rng(1), users, tied="tied" in kind, negative="negative" in kind)
    # channel 0 is a part of all: nested rules, so that the program over candidates is as strong
    limits = _limits(_shapes(users)[shape], max_tasks=2, max_by={"channel": {"0": 1}})
    problem, _ = compile_problem(frame, limits)
    assert problem.rules.nested
    program = solve(program_of(problem, whole=False), Solver.GLOP, seconds=60)
    assert program.answer is Answer.OPTIMAL
    found = find_prices(Here(problem=problem), seed=0, end=np.inf)
    assert found.exact
    assert not found.diverging
    assert all(
        inner.size < outer.size
        for (outer, _), (inner, _) in zip(found.levels, found.levels[1:], strict=False)
    )
    bound = bound_of(problem.rules, found.values, worth(problem, found.values))
    assert bound == pytest.approx(program.bound, rel=1e-9)


@pytest.mark.parametrize(
    ("shape", "kind"), [("overlapping", "plain"), ("many", "tied"), ("counts", "negative")]
)
def test_prices_of_fifty_thousand(shape: str, kind: str) -> None:
    users = 10_000
    frame = _crowd(np.random.default_rng(2), users, tied=kind == "tied", negative=kind == "negative")
    problem, _ = compile_problem(
        frame, _limits(_shapes(users)[shape], max_tasks=2, max_by={"channel": {"0": 1}})
    )
    program = solve(program_of(problem, whole=False), Solver.GLOP, seconds=60)
    found = find_prices(Here(problem=problem), seed=1, end=np.inf)
    bound = bound_of(problem.rules, found.values, worth(problem, found.values))
    assert found.exact
    assert bound == pytest.approx(program.bound, rel=1e-9)


def _as_large(patch: pytest.MonkeyPatch, rng: np.random.Generator, *, whole: bool) -> None:
    """A tiny problem goes through samples, boxes, sorts, cores and pairs."""
    patch.setattr("conflict.solve._SMALL", 0)
    patch.setattr("conflict.prices._SAMPLE", int(rng.integers(2, 8)))
    patch.setattr("conflict.prices._SAMPLE_LIMIT", 0)
    patch.setattr("conflict.prices._GROWTH", 2)
    patch.setattr("conflict.prices._LINEAR", int(rng.choice([0, 1, 2, 4, 6000])))
    patch.setattr("conflict.integers._CORE", 2)
    patch.setattr("conflict.integers._COLUMNS", int(rng.choice([2, 4, 3000])))
    if not whole:
        # branch and cut on the candidates as they are would mend what goes wrong before
        patch.setattr("conflict.solve._WHOLE", 0)
        patch.setattr("conflict.integers._WHOLE", 0)


def _is_honest(frame: pl.DataFrame, limits: Limits, answer: Allocation, best: float) -> None:
    """Nothing that the answer claims is wrong, whatever else it does not know."""
    hair = 1e-6 * max(1.0, abs(best)) if np.isfinite(best) else 0.0
    if answer.status is Status.INFEASIBLE:
        assert best == -np.inf
    if answer.bound is not None:
        assert answer.bound >= best - hair
    if answer.objective is None:
        assert answer.assignments.is_empty()
        assert answer.status in (Status.INFEASIBLE, Status.UNKNOWN)
        return
    assert answer.objective <= best + hair
    assert answer.bound is not None
    assert answer.objective <= answer.bound
    if answer.status is Status.OPTIMAL:
        assert answer.objective >= best - hair
    assert verify(frame, limits, answer.assignments) == []
    fines = sum(
        limit.penalty * use.passed
        for limit, use in zip(limits.limits, answer.limits, strict=True)
        if limit.penalty is not None
    )
    assert answer.objective == pytest.approx(answer.assignments["value"].sum() - fines, abs=1e-6)


@pytest.mark.parametrize("whole", [False, True])
def test_the_way_of_the_large_finds_the_optimum_of_the_small(
    whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven = feasible = impossible = 0
    for seed in range(60):
        rng = np.random.default_rng(1000 + seed)
        frame, limits = oracle.random_problem(rng)
        _as_large(monkeypatch, rng, whole=whole)
        best = oracle.truth(frame, limits).best
        if not oracle.fits(frame, limits):
            continue
        answer = allocate(frame, limits, time_limit=3.0 if best > -np.inf else 0.5, seed=seed)
        _is_honest(frame, limits, answer, best)
        if best > -np.inf:
            assert answer.objective is not None
            proven += answer.status is Status.OPTIMAL
            feasible += 1
        else:
            impossible += answer.status is Status.INFEASIBLE
    # without the candidates as they are to fall back on, one in a while stays unproven
    assert proven >= feasible - (0 if whole else 2)
    assert feasible > 35
    assert impossible > 5


def test_what_is_open_in_a_box_alone_gives_honest_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    found = 0
    for seed in range(40):
        rng = np.random.default_rng(2000 + seed)
        frame, limits = oracle.random_problem(rng)
        _as_large(monkeypatch, rng, whole=True)
        monkeypatch.setattr("conflict.solve._POOL", int(rng.choice([0, 3])))
        if oracle.fits(frame, limits):
            answer = allocate(frame, limits, time_limit=0.3, seed=seed)
            _is_honest(frame, limits, answer, oracle.truth(frame, limits).best)
            found += answer.objective is not None
    assert found > 20


@pytest.mark.parametrize("seed", [18, 20, 22, 45, 58])
def test_ties_do_not_change_who_was_settled_with_what(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # values and costs on a coarse grid: at the edge of a box several replies are best
    rng = np.random.default_rng(seed)
    monkeypatch.setattr("conflict.solve._SMALL", 0)
    monkeypatch.setattr("conflict.prices._SAMPLE", 100)
    monkeypatch.setattr("conflict.prices._SAMPLE_LIMIT", 0)
    monkeypatch.setattr("conflict.prices._LINEAR", int(rng.choice([20, 60, 200])))
    monkeypatch.setattr("conflict.solve._POOL", int(rng.choice([100, 300, 600])))
    users = 400
    size = users * 4
    frame = pl.DataFrame(
        {
            "user": np.repeat(np.arange(users), 4),
            "task": np.tile(np.arange(4), users),
            "value": rng.integers(1, 6, size) / 4,
            "cost": rng.choice([0.0, 0.5, 1.0], size),
            "region": np.repeat(rng.integers(0, 3, users), 4),
        }
    )
    limits = _limits(
        [
            {"name": "b", "sum": "cost", "at_most": users * rng.choice([0.1, 0.3, 0.6])},
            {"name": "t", "where": {"task": 0}, "at_most": int(users * rng.choice([0.15, 0.25, 0.4]))},
            {
                "name": "r", "where": {"region": 0, "task": [1, 2]},
                "at_most": int(users * rng.choice([0.05, 0.1, 0.2])),
            },
            {"name": "f", "where": {"task": 3}, "at_least": int(users * rng.choice([0.1, 0.2, 0.3]))},
        ],
        max_tasks=int(rng.integers(1, 3)),
    )  # fmt: skip
    answer = allocate(frame, limits, time_limit=0.7, gap=1e-3, seed=seed)
    assert answer.objective is not None
    assert verify(frame, limits, answer.assignments) == []
    assert answer.objective == pytest.approx(answer.assignments["value"].sum())


def test_prices_without_any_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conflict.prices._SAMPLE", 20)
    monkeypatch.setattr("conflict.solve._SMALL", 0)
    frame = _crowd(np.random.default_rng(0), 60, negative=True)
    answer = allocate(frame, _limits([], max_tasks=2), time_limit=5)
    best = frame.filter(pl.col("value") > 0).sort("value", descending=True).group_by("user").head(2)
    assert answer.status is Status.OPTIMAL
    assert answer.objective == pytest.approx(best["value"].sum())


def test_a_user_whose_rules_leave_nothing_is_a_contradiction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conflict.solve._SMALL", 0)
    frame = pl.DataFrame({"user": [1, 1, 2], "task": ["a", "b", "a"], "value": [1.0, 2.0, 3.0]})
    for more in ({}, {"penalty": 1.0}):
        limits = _limits([{"name": "x", "at_most": 2, **more}], max_tasks=2, min_tasks=2)
        answer = allocate(frame, limits, time_limit=60)
        assert answer.status is Status.INFEASIBLE
        assert answer.conflicting == ("per_user.min_tasks",)
        assert answer.seconds < 30, "known from the prices, not from a search that found nothing"
