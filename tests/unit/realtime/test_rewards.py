from __future__ import annotations

from typing import Any

import pytest

from kernel.definitions import parse
from kernel.errors import BadInput
from realtime.rewards import ELSEWHERE, NET_VALUE, Outcome, RewardRule, by_moment

MINUTE = 60_000_000
DECIDED = 1_000 * MINUTE


def came(
    number: int, value: float, *, name: str = "order", after: int = MINUTE, reported: int | None = None
) -> Outcome:
    at = DECIDED + after
    return Outcome("d", f"o{number}", name, value, at, at if reported is None else DECIDED + reported)


def rule(**said: Any) -> RewardRule:
    return parse(RewardRule, {"name": "r", "within": "30m", "grace": "5m", **said}, "rewards.yaml")


def test_several_outcomes_are_one_value() -> None:
    assert rule().value(DECIDED, [came(1, 4.0), came(2, -1.0)]) == (3.0, 2)


def test_nothing_came() -> None:
    assert rule().value(DECIDED, []) == (0.0, 0)
    assert rule(default=-0.2).value(DECIDED, []) == (-0.2, 0)


def test_the_window_is_closed_at_its_end_and_so_is_the_grace() -> None:
    end = 30 * MINUTE
    assert rule(default=9).value(DECIDED, [came(1, 4.0, after=end)]) == (4.0, 1)
    assert rule(default=9).value(DECIDED, [came(1, 4.0, after=end + 1)]) == (9.0, 0)
    assert rule(default=9).value(DECIDED, [came(1, 4.0, reported=end + 5 * MINUTE)]) == (4.0, 1)
    assert rule(default=9).value(DECIDED, [came(1, 4.0, reported=end + 5 * MINUTE + 1)]) == (9.0, 0)


def test_a_repeated_outcome_counts_as_it_was_reported_first_whatever_the_order() -> None:
    first, again = came(1, 4.0, reported=MINUTE), came(1, 99.0, reported=2 * MINUTE)
    assert rule().value(DECIDED, [first, again]) == rule().value(DECIDED, [again, first]) == (4.0, 1)


@pytest.mark.parametrize(("combine", "value"), [("sum", 6.0), ("first", 1.0), ("last", 2.0), ("max", 3.0)])
def test_outcomes_of_one_name_are_combined_as_declared(combine: str, value: float) -> None:
    came_so = [came(3, 2.0, after=9), came(1, 1.0, after=1), came(2, 3.0, after=5)]
    assert rule(outcomes={"order": {"combine": combine}}).value(DECIDED, came_so) == (value, 3)


def test_only_what_is_named_counts_and_as_it_is_named() -> None:
    told = rule(outcomes={"order": {"times": 0.3}, "visit": {"worth": 0.5, "combine": "first"}})
    outcomes = [came(1, 10.0), came(2, 7.0, name="visit"), came(3, 7.0, name="visit"), came(4, 9, name="x")]
    assert told.value(DECIDED, outcomes) == (3.5, 3)


def test_bounds_hold_the_value() -> None:
    assert rule(at_most=5, at_least=-1).value(DECIDED, [came(1, 99.0)])[0] == 5
    assert rule(at_most=5, at_least=-1).value(DECIDED, [came(1, -99.0)])[0] == -1


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"within": "soon"}, "within"),
        ({"grace": "0s"}, "within"),
        ({"outcomes": {"order": {"combine": "mean"}}}, "outcomes.order.combine"),
        ({"outcomes": {"order": {"worth": float("nan")}}}, "outcomes.order.worth"),
        ({"at_least": 2, "at_most": 1}, "document"),
        ({"windw": "1d"}, "windw"),
    ],
)
def test_a_rule_of_nonsense_is_refused(said: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as caught:
        rule(**said)
    assert caught.value.field == field


def test_each_moment_has_one_rule() -> None:
    exit_ = rule(name="exit", moments=["exit-intercept"])
    assert by_moment([]) == {ELSEWHERE: NET_VALUE}
    assert by_moment([exit_]) == {ELSEWHERE: NET_VALUE, "exit-intercept": exit_}
    assert by_moment([exit_, rule()])[ELSEWHERE] == rule()
    with pytest.raises(BadInput, match="moment 'exit-intercept' has its reward from 'exit'"):
        by_moment([exit_, rule(name="other", moments=["exit-intercept"])])
    with pytest.raises(BadInput, match="every other moment has its reward from 'r'"):
        by_moment([rule(), rule(name="other")])
    with pytest.raises(BadInput, match="is none of the moments: guidance"):
        by_moment([exit_], ["guidance"])
