"""The day's limits: the operator's own and every capacity, less what binds nothing today."""

from __future__ import annotations

import polars as pl
import pytest

from kernel.choices import DailyLimits, Limit, PerUser
from kernel.errors import BadInput
from kernel.work import Benefit, Touchpoint
from planner.api import Resources, day_limits

CANDIDATES = pl.DataFrame(
    {
        "user": [1, 2],
        "task": ["a", "b"],
        "touchpoint": ["letter", "letter"],
        "benefit": ["coupon", "points"],
        "channel": ["mail", "mail"],
    }
)


def benefit(name: str, capacity: int | None) -> Benefit:
    return Benefit(name=name, goals=("g",), touchpoints=("letter",), cost_per_response=1, capacity=capacity)


RESOURCES = Resources(
    goals=(),
    benefits=(benefit("coupon", 10), benefit("points", None), benefit("gift", 3)),
    touchpoints=(
        Touchpoint(name="letter", channel="mail", cost_per_touch=1, capacity=0),
        Touchpoint(name="sms", channel="sms", cost_per_touch=1, capacity=7),
    ),
    contents=(),
)


def test_capacities_become_limits_where_candidates_are() -> None:
    found = day_limits(None, RESOURCES, CANDIDATES)
    # `points` has no capacity; nobody could get a gift or a text message today
    assert [(each.name, each.where, each.at_most, each.sum) for each in found.limits] == [
        ("letter_capacity", {"touchpoint": "letter"}, 0, None),  # none at all is not no limit
        ("coupon_capacity", {"benefit": "coupon"}, 10, None),
    ]
    assert found.per_user == PerUser()


def test_the_operators_limits_come_first_and_stay_as_they_are() -> None:
    own = Limit(name="budget", sum="cost", at_most=100)
    daily = DailyLimits(name="d", limits=(own,), per_user=PerUser(max_tasks=3, min_tasks=1))
    found = day_limits(daily, RESOURCES, CANDIDATES)
    assert found.limits[0] == own
    assert [each.name for each in found.limits[1:]] == ["letter_capacity", "coupon_capacity"]
    assert (found.per_user.max_tasks, found.per_user.min_tasks) == (3, 1)


def test_a_limit_may_not_take_a_capacitys_name() -> None:
    daily = DailyLimits(name="d", limits=(Limit(name="coupon_capacity", at_most=1),))
    with pytest.raises(
        BadInput, match=r"name = 'coupon_capacity': is the name of the capacity of benefit coupon"
    ):
        day_limits(daily, RESOURCES, CANDIDATES)


def test_a_ceiling_over_nobody_is_left_out_and_a_floor_is_an_error() -> None:
    ceiling = Limit(name="tv", where={"channel": "tv"}, at_most=5)
    names = [
        each.name
        for each in day_limits(DailyLimits(name="d", limits=(ceiling,)), RESOURCES, CANDIDATES).limits
    ]
    assert "tv" not in names
    floor = Limit(name="tv", where={"channel": "tv"}, at_least=5)
    with pytest.raises(BadInput, match=r"limit tv: at_least = 5\.0: selects no candidate today"):
        day_limits(DailyLimits(name="d", limits=(floor,)), RESOURCES, CANDIDATES)


def test_one_of_several_labels_is_enough() -> None:
    limit = Limit(name="both", where={"channel": ("tv", "mail")}, at_least=1)
    assert day_limits(DailyLimits(name="d", limits=(limit,)), RESOURCES, CANDIDATES).limits[0] == limit


def test_columns_that_candidates_do_not_have_are_named() -> None:
    limit = Limit(name="x", where={"chanel": "mail"}, at_most=1)
    with pytest.raises(
        BadInput, match=r"limit x = 'chanel': is no column of candidates; they have user, task"
    ):
        day_limits(DailyLimits(name="d", limits=(limit,)), RESOURCES, CANDIDATES)
    rules = PerUser(max_by={"chanel": {"mail": 1}})
    with pytest.raises(BadInput, match=r"per_user.max_by = 'chanel': candidates have no such column"):
        day_limits(DailyLimits(name="d", per_user=rules), RESOURCES, CANDIDATES)


def test_rules_about_absent_labels_and_tasks_are_left_out() -> None:
    rules = PerUser(
        max_tasks=2,
        max_by={"channel": {"mail": 1, "sms": 2}, "benefit": {"gift": 1}},
        never_together=(("a", "b", "gone"), ("a", "gone"), ("far", "gone")),
    )
    found = day_limits(DailyLimits(name="d", per_user=rules), RESOURCES, CANDIDATES).per_user
    assert found.max_by == {"channel": {"mail": 1}}
    assert found.never_together == (("a", "b"),)
    assert found.max_tasks == 2


def test_a_day_without_candidates_has_no_limits() -> None:
    assert day_limits(None, RESOURCES, CANDIDATES.clear()).limits == ()
