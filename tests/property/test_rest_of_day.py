"""What is given twice over a day, by a plan and then by rules, never breaks what holds for the day."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from conflict.api import allocate, verify
from kernel.choices import Limit, Limits, PerUser
from planner.api import rest_of_day
from planner.limits import present

TASKS, CHANNELS = ("a", "b", "c", "d"), {"a": "mail", "b": "mail", "c": "push", "d": "push"}


@st.composite
def days(draw: st.DrawFn) -> tuple[pl.DataFrame, pl.DataFrame, Limits]:
    """Candidates of the plan, those of rules, and the limits of the day."""
    pairs = [(user, task) for user in range(5) for task in TASKS]
    rows = []
    for user, task in pairs:
        value, cost = draw(st.integers(-2, 9)), draw(st.integers(0, 3))
        rows.append(
            {
                "user": user,
                "task": task,
                "value": float(value),
                "cost": float(cost),
                "channel": CHANNELS[task],
            }
        )
    frame = pl.DataFrame(rows)
    chosen = draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs)))
    early = frame.filter(pl.Series(chosen))
    limits = Limits(
        per_user=PerUser(
            max_tasks=draw(st.integers(1, 3)),
            max_by={"channel": {"mail": draw(st.integers(0, 2)), "push": 1}},
            never_together=(("a", "d"),),
        ),
        limits=(
            Limit(name="money", sum="cost", at_most=draw(st.integers(0, 12))),
            Limit(name="mails", where={"channel": "mail"}, at_most=draw(st.integers(0, 6))),
        ),
    )
    return early, frame, limits


@given(day=days())
@settings(max_examples=20, deadline=None)
def test_both_together_keep_every_limit_and_rule(day: tuple[pl.DataFrame, pl.DataFrame, Limits]) -> None:
    early, frame, limits = day
    first = allocate(early, present(limits, early), time_limit=5.0).assignments if early.height else early
    kept, left = rest_of_day(frame, limits, first)
    second = allocate(kept, left, time_limit=5.0).assignments if kept.height else kept
    assert verify(frame, limits, pl.concat([first, second.select(first.columns)])) == []
    # nothing is refused to whom nothing was given, and what was lowered is what was used
    free = frame.join(first, on="user", how="anti")
    assert free.join(kept, on=["user", "task"], how="anti").is_empty()
    for limit in left.limits:
        if limit.name == "money":
            assert limit.at_most == (limits.limits[0].at_most or 0) - first["cost"].sum()


def test_a_floor_is_lowered_by_what_was_done() -> None:
    frame = pl.DataFrame({"user": [1, 2, 3], "task": ["a", "a", "a"], "value": [1.0, 2.0, 3.0]})
    limits = Limits(limits=(Limit(name="least", at_least=2, at_most=3),))
    kept, left = rest_of_day(frame, limits, frame.head(1))
    assert kept["user"].to_list() == [2, 3]
    assert (left.limits[0].at_least, left.limits[0].at_most) == (1.0, 2.0)


def test_who_has_one_of_two_keeps_the_best() -> None:
    frame = pl.DataFrame({"user": ["x"] * 3, "task": ["a", "b", "c"], "value": [1.0, 5.0, 3.0]})
    given_ = pl.DataFrame({"user": ["x"], "task": ["z"], "value": [9.0]})
    kept, _ = rest_of_day(frame, Limits(per_user=PerUser(max_tasks=2)), given_)
    assert kept["task"].to_list() == ["b"]
