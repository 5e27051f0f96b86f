"""A plan around what stands: limits without what is used, rules for who has something, all of it together."""

from __future__ import annotations

import polars as pl
import pytest

from engine.replan import Fixed, about, around, together, used_of
from kernel.choices import Allocation, Limit, Limits, LimitUse, PerUser, Status


def rows(*told: tuple[int, str, str, float]) -> pl.DataFrame:
    frame = pl.DataFrame(told, schema=["user", "task", "channel", "value"], orient="row")
    return frame.with_columns(cost=pl.lit(2.0), goal=pl.col("task"))


def fixed(*told: tuple[int, str, str, float], closed: tuple[tuple[int, str], ...] = ()) -> Fixed:
    shut = pl.DataFrame(closed, schema={"user": pl.Int64, "task": pl.String}, orient="row")
    return Fixed(assignments=rows(*told), touches=pl.DataFrame(), closed=shut, out=len(told), only=None)


LIMITS = Limits(
    per_user=PerUser(max_tasks=2, max_by={"channel": {"sms": 1, "post": 1}}, never_together=(("a", "b"),)),
    limits=(
        Limit(name="money", sum="cost", at_most=5),
        Limit(name="sms", where={"channel": ("sms", "push")}, at_most=1),
        Limit(name="floor", where={"task": "a"}, at_least=2),
        Limit(name="post", where={"channel": "post"}, at_most=9),
    ),
)
ALL = rows(
    (1, "a", "sms", 5.0), (1, "b", "push", 4.0), (1, "c", "sms", 3.0), (1, "d", "push", 2.0),
    (2, "a", "sms", 5.0), (2, "c", "push", 1.0), (3, "a", "sms", 1.0),
)  # fmt: skip


def test_what_is_left_to_decide_and_within_what() -> None:
    stands = fixed((1, "a", "sms", 7.0), closed=((2, "c"),))
    rest, left = around(ALL, LIMITS, stands)
    # user 1: not a again, not b beside it, no second text; user 2: not what was refused
    assert rest.select("user", "task").rows() == [(1, "d"), (2, "a"), (3, "a")]
    found = {each.name: each for each in left.limits}
    assert set(found) == {"money", "sms", "floor"}
    assert (found["money"].at_most, found["sms"].at_most, found["floor"].at_least) == (3.0, 0.0, 1.0)
    assert left.per_user.max_by == {"channel": {"sms": 1}}
    assert left.per_user.never_together == ()
    asks = LIMITS.model_copy(update={"per_user": PerUser(max_tasks=2, min_tasks=1)})
    assert 1 not in around(ALL, asks, stands)[0]["user"].to_list()


def test_labels_that_nobody_has_any_more_are_left_out() -> None:
    some = ALL.filter(pl.col("channel") == "push")
    (money, sms) = about(LIMITS, some).limits
    assert money.name == "money"
    assert sms.where == {"channel": ("push",)}
    assert about(LIMITS, some.clear()) == LIMITS


def test_the_whole_day_counts_both() -> None:
    stands = fixed((1, "a", "sms", 7.0))
    use = LimitUse(name="money", used=2.0, at_most=3.0, at_least=None, price=0.5, range=(2.0, None))
    part = Allocation(
        status=Status.OPTIMAL, objective=3.0, bound=3.0, gap=0.0, seconds=0.1, limits=(use,),
        assignments=rows((0, "c", "push", 3.0)),
    )  # fmt: skip
    whole = together(part, LIMITS, stands)
    assert (whole.objective, whole.bound, whole.gap) == (10.0, 10.0, 0.0)
    assert whole.assignments["user"].to_list() == [0, 1]
    told = {each.name: each for each in whole.limits}
    assert list(told) == ["money", "sms", "floor", "post"]
    assert (told["money"].used, told["money"].at_most, told["money"].range) == (4.0, 5.0, (4.0, None))
    assert (told["sms"].used, told["floor"].used, told["post"].used) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize(("limit", "used"), [(0, 4.0), (1, 1.0), (2, 1.0), (3, 0.0)])
def test_what_rows_use_of_a_limit(limit: int, used: float) -> None:
    given = rows((1, "a", "sms", 7.0), (2, "d", "mail", 1.0))
    assert used_of(LIMITS.limits[limit], given) == used
