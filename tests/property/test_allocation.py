"""The allocator against enumeration, on tiny problems of every rule and mix of rules."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conflict.api import allocate, explain, verify
from kernel.choices import Limits, Status

QUICK = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
NUMBERS = st.integers(-20, 40).map(lambda each: each / 4)
Problem = tuple[pl.DataFrame, Limits]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    pairs = draw(
        st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=9, unique=True)
    )
    size = len(pairs)
    text = draw(st.booleans())
    frame = pl.DataFrame(
        {
            "user": [f"u{user}" if text else user for user, _ in pairs],
            "task": [f"t{task}" if text else task for _, task in pairs],
            "value": draw(st.lists(NUMBERS, min_size=size, max_size=size)),
            "cost": draw(st.lists(st.integers(-2, 5), min_size=size, max_size=size)),
            "channel": draw(st.lists(st.sampled_from(["sms", "push"]), min_size=size, max_size=size)),
            "tier": draw(st.lists(st.integers(1, 2), min_size=size, max_size=size)),
        }
    )
    most = draw(st.integers(0, 3))
    rules: dict[str, Any] = {"max_tasks": most, "min_tasks": draw(st.sampled_from([0, 0, 0, min(1, most)]))}
    for column in draw(st.sets(st.sampled_from(["channel", "tier"]))):
        label = str(draw(st.sampled_from(frame[column].to_list())))
        rules.setdefault("max_by", {})[column] = {label: draw(st.integers(0, 2))}
    tasks = frame["task"].unique(maintain_order=True).to_list()
    if len(tasks) > 1 and draw(st.booleans()):
        rules["never_together"] = [draw(st.permutations(tasks))[: draw(st.integers(2, len(tasks)))]]
    limits = []
    for row in range(draw(st.integers(0, 3))):
        low = draw(st.sampled_from([None, None, 0, 1, 2, 5]))
        limit: dict[str, Any] = {"name": f"limit{row}", "at_least": low}
        if low is None or draw(st.booleans()):
            limit["at_most"] = (low or 0) + draw(st.integers(0, 8))
        if draw(st.booleans()):
            limit["sum"] = "cost"
        if draw(st.booleans()):
            column = draw(st.sampled_from(["channel", "task", "tier"]))
            labels = draw(st.sets(st.sampled_from(frame[column].to_list()), min_size=1, max_size=2))
            limit["where"] = {column: sorted(labels)}
        limits.append(limit)
    return frame, Limits.model_validate({"per_user": rules, "limits": limits})


def optimum(frame: pl.DataFrame, limits: Limits) -> float | None:
    """By trying every choice; None when none is allowed."""
    best: float | None = None
    rows = frame.to_dicts()
    for count in range(len(rows) + 1):
        for choice in combinations(rows, count):
            value = sum(row["value"] for row in choice)
            if (best is None or value > best) and _allowed(choice, rows, limits):
                best = value
    return best


def _allowed(choice: tuple[dict[str, Any], ...], rows: list[dict[str, Any]], limits: Limits) -> bool:
    for limit in limits.limits:
        inside = [
            row for row in choice
            if all(row[c] in (v if isinstance(v, tuple) else (v,)) for c, v in limit.where.items())
        ]  # fmt: skip
        used = sum(row[limit.sum] if limit.sum else 1 for row in inside)
        if limit.at_most is not None and used > limit.at_most:
            return False
        if limit.at_least is not None and used < limit.at_least:
            return False
    rules = limits.per_user
    for user in {row["user"] for row in rows}:
        own = [row for row in choice if row["user"] == user]
        if not rules.min_tasks <= len(own) <= rules.max_tasks:
            return False
        for column, labels in rules.max_by.items():
            for label, most in labels.items():
                if sum(str(row[column]) == label for row in own) > most:
                    return False
        for tasks in rules.never_together:
            if sum(row["task"] in tasks for row in own) > 1:
                return False
    return True


@QUICK
@given(problems())
def test_the_answer_is_the_optimum_and_passes_the_verifier(problem: Problem) -> None:
    frame, limits = problem
    best = optimum(frame, limits)
    answer = allocate(frame, limits)
    if best is None:
        assert answer.status is Status.INFEASIBLE
        assert answer.objective is None
        assert answer.assignments.is_empty()
        return
    assert answer.status is Status.OPTIMAL
    assert answer.objective is not None
    assert answer.bound is not None
    assert abs(answer.objective - best) <= 1e-6 * max(1.0, abs(best))
    assert answer.bound >= best - 1e-9 * max(1.0, abs(best))
    assert answer.objective == answer.assignments["value"].sum()
    assert verify(frame, limits, answer.assignments) == []
    for user in frame["user"].unique():
        assert len(explain(frame, limits, answer, user)) == frame.filter(pl.col("user") == user).height


@QUICK
@given(problems())
def test_what_conflicts_conflicts_and_no_part_of_it_does(problem: Problem) -> None:
    frame, limits = problem
    if optimum(frame, limits) is not None:
        return
    guilty = allocate(frame, limits).conflicting
    assert guilty
    assert optimum(frame, _only(limits, set(guilty))) is None
    for each in guilty:
        assert optimum(frame, _only(limits, set(guilty) - {each})) is not None


def _only(limits: Limits, names: set[str]) -> Limits:
    rules = limits.per_user
    return Limits.model_validate(
        {
            "limits": [limit for limit in limits.limits if limit.name in names],
            "per_user": {
                "max_tasks": rules.max_tasks if "per_user.max_tasks" in names else 99,
                "min_tasks": rules.min_tasks if "per_user.min_tasks" in names else 0,
                "max_by": {c: by for c, by in rules.max_by.items() if f"per_user.max_by.{c}" in names},
                "never_together": rules.never_together if "per_user.never_together" in names else (),
            },
        }
    )


@QUICK
@given(problems(), st.randoms(use_true_random=False), st.integers(0, 9))
def test_the_order_of_rows_and_the_seed_do_not_matter(problem: Problem, random: Any, seed: int) -> None:
    frame, limits = problem
    order = list(range(frame.height))
    random.shuffle(order)
    first, same = allocate(frame, limits, seed=seed), allocate(frame[order], limits, seed=seed)
    keys = ["user", "task"]
    assert same.assignments.sort(keys).equals(first.assignments.sort(keys))
    assert same.limits == first.limits
    other = allocate(frame, limits, seed=seed + 1)
    assert other.status == first.status
    if first.objective is not None and other.objective is not None:
        assert abs(other.objective - first.objective) <= 1e-6 * max(1.0, abs(first.objective))


@QUICK
@given(problems(), st.data())
def test_one_candidate_less_is_never_worth_more(problem: Problem, data: st.DataObject) -> None:
    frame, limits = problem
    if limits.per_user.min_tasks:
        return  # a user who had to take a loss may vanish
    before = allocate(frame, limits)
    gone = data.draw(st.integers(0, frame.height - 1))
    left = frame.with_row_index().filter(pl.col("index") != gone).drop("index")
    if optimum(left, limits) is None or not _labels_stay(frame, left):
        return
    after = allocate(left, limits)
    assert after.objective is not None
    assert before.objective is not None
    assert after.objective <= before.objective + 1e-6 * max(1.0, abs(before.objective))


def _labels_stay(frame: pl.DataFrame, left: pl.DataFrame) -> bool:
    return all(set(frame[each]) == set(left[each]) for each in ("task", "channel", "tier"))


@QUICK
@given(problems(), st.sampled_from([1 / 1024, 2.0, 4096.0]))
def test_values_scale_the_objective_and_the_prices(problem: Problem, times: float) -> None:
    frame, limits = problem
    one = allocate(frame, limits)
    many = allocate(frame.with_columns(pl.col("value") * times), limits)
    assert many.status == one.status
    if one.objective is None or many.objective is None:
        return
    assert abs(many.objective - one.objective * times) <= 1e-6 * max(1.0, abs(many.objective))
    for use, scaled in zip(one.limits, many.limits, strict=True):
        assert abs(scaled.price - use.price * times) <= 1e-6 * max(times, abs(scaled.price))


@QUICK
@given(problems())
def test_prices_have_their_signs_and_reasons_add_up(problem: Problem) -> None:
    frame, limits = problem
    answer = allocate(frame, limits)
    if answer.objective is None:
        return
    for limit, use in zip(limits.limits, answer.limits, strict=True):
        assert limit.at_most is not None or use.price <= 0
        assert limit.at_least is not None or use.price >= 0
    for user in frame["user"].unique():
        for reason in explain(frame, limits, answer, user):
            assert abs(reason.value - sum(reason.pays.values()) - reason.adjusted) < 1e-9


@QUICK
@given(problems(), st.data())
def test_the_verifier_agrees_with_the_rules_on_any_choice(problem: Problem, data: st.DataObject) -> None:
    frame, limits = problem
    picks = data.draw(st.sets(st.integers(0, frame.height - 1)))
    chosen = frame[sorted(picks)]
    allowed = _allowed(tuple(chosen.to_dicts()), frame.to_dicts(), limits)
    assert (verify(frame, limits, chosen) == []) is allowed
