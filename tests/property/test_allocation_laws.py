"""Laws that hold whatever the solver does, classical problems, penalties, and numbers far apart."""

from __future__ import annotations

import importlib.util
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from conflict.api import allocate, explain, verify
from kernel.choices import Allocation, Limit, Limits, Status
from kernel.errors import BadInput

_SPEC = importlib.util.spec_from_file_location(
    "allocation_oracle_of_the_laws", Path(__file__).with_name("allocation_oracle.py")
)
assert _SPEC is not None
assert _SPEC.loader is not None
oracle = importlib.util.module_from_spec(_SPEC)
sys.modules["allocation_oracle_of_the_laws"] = oracle
_SPEC.loader.exec_module(oracle)

SEEDS = range(12)
#: 0: everything goes the way of the large problems
WAYS = pytest.mark.parametrize("small", [3_000, 0])


def _limits(limits: list[dict[str, Any]], **per_user: Any) -> Limits:
    return Limits.model_validate({"limits": limits, "per_user": per_user})


def _made(seed: int) -> tuple[pl.DataFrame, Limits] | None:
    """A tiny problem that has an answer."""
    frame, limits = oracle.random_problem(np.random.default_rng(seed))
    return (
        (frame, limits) if oracle.fits(frame, limits) and oracle.truth(frame, limits).best > -np.inf else None
    )


def _objective(frame: pl.DataFrame, limits: Limits, **more: Any) -> float:
    answer = allocate(frame, limits, time_limit=5, **more)
    assert answer.status is Status.OPTIMAL
    assert answer.objective is not None
    assert verify(frame, limits, answer.assignments) == []
    return answer.objective


def _near(one: float, two: float) -> bool:
    return abs(one - two) <= 1e-6 * max(1.0, abs(one))


@WAYS
def test_loosening_a_limit_never_lowers_the_optimum(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conflict.solve._SMALL", small)
    seen = 0
    for seed in SEEDS:
        made = _made(seed)
        if made is None or not made[1].limits:
            continue
        frame, limits = made
        rng = np.random.default_rng(seed)
        before = _objective(frame, limits)
        place = int(rng.integers(len(limits.limits)))
        limit = limits.limits[place]
        looser = limit.model_copy(
            update={
                "at_most": None if limit.at_most is None else limit.at_most + float(rng.integers(0, 4)) / 2,
                "at_least": None
                if limit.at_least is None
                else limit.at_least - float(rng.integers(0, 4)) / 2,
            }
        )
        others = (*limits.limits[:place], looser, *limits.limits[place + 1 :])
        assert _objective(frame, limits.model_copy(update={"limits": others})) >= before - 1e-6
        gone = (*limits.limits[:place], *limits.limits[place + 1 :])
        assert _objective(frame, limits.model_copy(update={"limits": gone})) >= before - 1e-6
        seen += 1
    assert seen > 3


@WAYS
def test_names_and_places_change_nothing(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conflict.solve._SMALL", small)
    for seed in SEEDS:
        made = _made(100 + seed)
        if made is None:
            continue
        frame, limits = made
        rng = np.random.default_rng(seed)
        before = _objective(frame, limits)
        order = rng.permutation(frame.height)
        assert _near(before, _objective(frame[order.tolist()], limits))
        # users and tasks under other names, which stand in another order
        users = {user: f"u{place}" for user, place in enumerate(rng.permutation(9))}
        tasks = dict(enumerate(rng.permutation(9).tolist()))
        named = frame.with_columns(
            user=pl.col("user").replace_strict(users), task=pl.col("task").replace_strict(tasks)
        )
        assert _near(before, _objective(named, _renamed(limits, tasks)))


def _renamed(limits: Limits, tasks: dict[int, int]) -> Limits:
    raw = limits.model_dump()
    for limit in raw["limits"]:
        if "task" in limit["where"]:
            limit["where"]["task"] = [tasks[each] for each in limit["where"]["task"]]
    rules = raw["per_user"]
    rules["never_together"] = [[tasks[each] for each in own] for own in rules["never_together"]]
    return Limits.model_validate(raw)


@WAYS
@pytest.mark.parametrize("times", [2.0**-20, 2.0**20])
def test_values_scale_the_objective(small: int, times: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conflict.solve._SMALL", small)
    for seed in SEEDS:
        made = _made(200 + seed)
        if made is None:
            continue
        frame, limits = made
        dearer = tuple(
            each.model_copy(update={"penalty": None if each.penalty is None else each.penalty * times})
            for each in limits.limits
        )
        scaled = allocate(
            frame.with_columns(pl.col("value") * times),
            limits.model_copy(update={"limits": dearer}),
            time_limit=5,
        )
        plain = allocate(frame, limits, time_limit=5)
        assert scaled.status is plain.status is Status.OPTIMAL
        assert plain.objective is not None
        assert scaled.objective == pytest.approx(plain.objective * times, rel=1e-6, abs=1e-6 * times)
        for one, many in zip(plain.limits, scaled.limits, strict=True):
            if small:
                assert many.price == pytest.approx(one.price * times, rel=1e-6, abs=1e-6 * times)


@WAYS
def test_one_candidate_less_is_never_worth_more(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conflict.solve._SMALL", small)
    for seed in SEEDS:
        made = _made(300 + seed)
        if made is None or made[1].per_user.min_tasks:
            continue
        frame, limits = made
        before = _objective(frame, limits)
        gone = int(np.random.default_rng(seed).integers(frame.height))
        left = frame.with_row_index("row").filter(pl.col("row") != gone).drop("row")
        try:
            answer = allocate(left, limits, time_limit=1)
        except BadInput:
            continue  # the last of its label
        if answer.objective is not None:
            assert answer.objective <= before + 1e-6


def _penalised(answer: Allocation, limits: Limits) -> float:
    """Value less what limits are passed by times their penalties, from the assignments alone."""
    chosen = answer.assignments
    total = float(chosen["value"].sum())
    for limit, use in zip(limits.limits, answer.limits, strict=True):
        inside = chosen
        for column, labels in limit.where.items():
            inside = inside.filter(pl.col(column).is_in(labels if isinstance(labels, tuple) else [labels]))
        used = float(inside.height if limit.sum is None else inside[limit.sum].sum())
        past = max(used - (limit.at_most or np.inf) if limit.at_most is not None else 0.0, 0.0)
        past = max(past, (limit.at_least - used) if limit.at_least is not None else 0.0)
        assert use.used == pytest.approx(used)
        assert use.passed == pytest.approx(past)
        if limit.penalty is None:
            assert past <= 1e-6
        else:
            total -= limit.penalty * past
    return total


@WAYS
def test_the_objective_is_value_less_penalties(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conflict.solve._SMALL", small)
    passed = 0
    for seed in SEEDS:
        rng = np.random.default_rng(400 + seed)
        size = 9
        frame = pl.DataFrame(
            {
                "user": np.repeat(np.arange(3), 3), "task": np.tile(np.arange(3), 3),
                "value": rng.integers(0, 9, size) / 2, "cost": rng.integers(1, 5, size) / 2,
            }
        )  # fmt: skip
        limits = _limits(
            [
                {
                    "name": "b",
                    "sum": "cost",
                    "at_most": float(rng.integers(1, 4)),
                    "penalty": float(rng.choice([0.5, 2.0])),
                },
                {"name": "f", "where": {"task": 1}, "at_least": 2, "penalty": float(rng.choice([0.3, 3.0]))},
                {"name": "h", "at_most": 4},
            ],
            max_tasks=2,
        )
        answer = allocate(frame, limits, time_limit=5)
        assert answer.status is Status.OPTIMAL
        assert answer.objective == pytest.approx(oracle.truth(frame, limits).best)
        assert answer.objective == pytest.approx(_penalised(answer, limits))
        assert verify(frame, limits, answer.assignments) == []
        passed += any(use.passed > 0 for use in answer.limits)
        for limit, use in zip(limits.limits, answer.limits, strict=True):
            if limit.penalty is not None:
                # nobody pays more for a unit than it costs to pass the limit
                assert abs(use.price) <= limit.penalty + 1e-6
    assert passed > 3


def test_reasons_do_not_blame_a_limit_that_may_be_passed() -> None:
    frame = pl.DataFrame({"user": [1, 2, 3], "task": ["a"] * 3, "value": [5.0, 4.0, 1.0], "cost": [1.0] * 3})
    limits = _limits([{"name": "soft", "sum": "cost", "at_most": 1, "penalty": 2.0}])
    answer = allocate(frame, limits)
    assert answer.objective == pytest.approx(7.0)
    (use,) = answer.limits
    assert (use.used, use.passed) == (2.0, 1.0)
    assert use.price == pytest.approx(2.0)
    (why,) = explain(frame, limits, answer, 2)
    assert why.chosen
    assert why.pays == {"soft": pytest.approx(2.0)}
    (why,) = explain(frame, limits, answer, 3)
    assert "not worth its price" in why.sentence
    free = Allocation(
        **{**vars(answer), "limits": tuple(type(u)(**{**vars(u), "price": 0.0}) for u in answer.limits)}
    )
    (why,) = explain(frame, limits, free, 3)
    assert "too little of" not in why.sentence


@WAYS
def test_the_generalised_assignment_problem(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conflict.solve._SMALL", small)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        jobs, agents = 6, 3
        use, gain = rng.integers(5, 20, (jobs, agents)), rng.integers(1, 30, (jobs, agents))
        room = [int(0.8 * use[:, agent].sum() / agents) for agent in range(agents)]
        ways = (list(each) for each in product(range(agents), repeat=jobs))
        best = max(
            (
                sum(gain[job, agent] for job, agent in enumerate(way))
                for way in ways
                if all(
                    sum(use[j, a] for j, a in enumerate(way) if a == agent) <= room[agent]
                    for agent in range(agents)
                )
            ),
            default=None,
        )
        frame = pl.DataFrame(
            {
                "user": np.repeat(np.arange(jobs), agents), "task": np.tile(np.arange(agents), jobs),
                "value": gain.ravel().astype(np.float64), "use": use.ravel(),
            }
        )  # fmt: skip
        limits = _limits(
            [
                {"name": f"agent{a}", "sum": "use", "where": {"task": a}, "at_most": room[a]}
                for a in range(agents)
            ],
            min_tasks=1,
        )
        answer = allocate(frame, limits, time_limit=10)
        assert answer.status is (Status.INFEASIBLE if best is None else Status.OPTIMAL)
        assert answer.objective == (None if best is None else pytest.approx(best))


@WAYS
@pytest.mark.parametrize("choices", [1, 4])
def test_knapsacks_of_many_dimensions(choices: int, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # one candidate a user: MKP; one of four: MMKP
    monkeypatch.setattr("conflict.solve._SMALL", small)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        groups = 10 if choices == 1 else 4
        size = groups * choices
        use, gain = rng.integers(1, 30, (3, size)), rng.integers(1, 30, size)
        room = use.sum(axis=1) // (2 if choices == 1 else 5)
        least = int(choices > 1)
        ways = product(range(0 if least else -1, choices), repeat=groups)
        best = -1
        for way in ways:
            at = [group * choices + each for group, each in enumerate(way) if each >= 0]
            if (use[:, at].sum(axis=1) <= room).all():
                best = max(best, int(gain[at].sum()))
        frame = pl.DataFrame(
            {
                "user": np.repeat(np.arange(groups), choices), "task": np.tile(np.arange(choices), groups),
                "value": gain.astype(np.float64), **{f"use{row}": use[row] for row in range(3)},
            }
        )  # fmt: skip
        limits = _limits(
            [{"name": f"r{row}", "sum": f"use{row}", "at_most": int(room[row])} for row in range(3)],
            min_tasks=least,
        )
        answer = allocate(frame, limits, time_limit=10)
        assert answer.status is (Status.INFEASIBLE if best < 0 else Status.OPTIMAL)
        assert answer.objective == (None if best < 0 else pytest.approx(best))


@WAYS
def test_values_of_any_size_beside_each_other(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conflict.solve._SMALL", small)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        size = 10
        frame = pl.DataFrame(
            {
                "user": np.arange(size), "task": ["a"] * size,
                "value": 10.0 ** rng.integers(-6, 13, size) * rng.integers(1, 9, size),
                "cost": rng.integers(1, 5, size).astype(np.float64),
            }
        )  # fmt: skip
        limits = _limits(
            [{"name": "b", "sum": "cost", "at_most": 9}, {"name": "n", "at_least": 2, "at_most": 6}]
        )
        answer, best = allocate(frame, limits, time_limit=5), oracle.truth(frame, limits).best
        assert answer.status is Status.OPTIMAL
        assert answer.objective == pytest.approx(best, rel=1e-6)
        assert answer.bound is not None
        assert answer.bound >= best * (1 - 1e-6)
        assert answer.gap is not None
        assert 0 <= answer.gap <= 1e-6
        assert verify(frame, limits, answer.assignments) == []


@WAYS
def test_a_user_with_five_hundred_candidates_and_rules_that_cross(
    small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conflict.solve._SMALL", small)
    rng = np.random.default_rng(3)
    frame = pl.DataFrame(
        {
            "user": [0] * 500 + list(range(1, 101)), "task": [*range(500), *range(100)],
            "value": rng.uniform(1, 2, 600), "cost": rng.uniform(0.5, 1.5, 600),
            "channel": rng.choice(["sms", "push", "mail"], 600), "tier": rng.integers(0, 4, 600),
        }
    )  # fmt: skip
    limits = _limits(
        [
            {"name": "b", "sum": "cost", "at_most": 40},
            {"name": "sms", "where": {"channel": "sms"}, "at_least": 9},
        ],
        max_tasks=12,
        max_by={"channel": {"sms": 3, "push": 3}, "tier": {"0": 2, "1": 2, "2": 3}},
        never_together=[list(range(0, 60)), list(range(40, 90))],
    )
    answer = allocate(frame, limits, time_limit=4, gap=1e-3)
    assert answer.status in (Status.OPTIMAL, Status.FEASIBLE)
    assert verify(frame, limits, answer.assignments) == []
    assert answer.gap is not None
    assert 0 <= answer.gap <= 5e-2


def test_a_limit_that_selects_nothing_and_usage_below_zero() -> None:
    frame = pl.DataFrame(
        {
            "user": [1, 2, 3],
            "task": ["a", "a", "b"],
            "value": [3.0, 2.0, 1.0],
            "cost": [2.0, -1.0, 1.0],
            "c": ["x", "y", "x"],
        }
    )
    nothing = {"name": "none", "where": {"c": "y", "task": "b"}, "at_most": 0}
    answer = allocate(frame, _limits([nothing]))
    assert answer.objective == 6.0
    assert (answer.limits[0].used, answer.limits[0].price) == (0.0, 0.0)
    # a refund makes room, to the unit
    assert allocate(frame, _limits([{"name": "b", "sum": "cost", "at_most": 1}])).objective == 5.0
    assert allocate(frame, _limits([{"name": "b", "sum": "cost", "at_most": -1}])).objective == 2.0
    below = _limits([{"name": "b", "sum": "cost", "at_most": -2}])
    answer = allocate(frame, below)
    assert answer.status is Status.INFEASIBLE
    assert answer.conflicting == ("b",)
    assert answer.relaxation == {"b": pytest.approx(1.0)}


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf"), None])
def test_numbers_that_are_none_are_named(wrong: float | None) -> None:
    frame = pl.DataFrame({"user": [1, 2], "task": ["a", "a"], "value": [1.0, 2.0], "cost": [1.0, wrong]})
    limits = _limits([{"name": "b", "sum": "cost", "at_most": 1}])
    with pytest.raises(BadInput, match="row 1") as error:
        allocate(frame, limits)
    assert "limit b" in str(error.value)
    with pytest.raises(BadInput, match="row 1"):
        allocate(frame.with_columns(value=pl.col("cost")), _limits([]))
    assert allocate(frame, _limits([])).objective == 3.0, "a column that nothing sums may hold anything"


@pytest.mark.parametrize(
    "wrong",
    [
        {"at_most": 1, "at_least": 2},
        {},
        {"at_most": -1},
        {"at_most": 1, "penalty": 0},
        {"at_most": float("nan")},
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"at_most|at_least|penalty"):
        Limit(name="x", **wrong)
