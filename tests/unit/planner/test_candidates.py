"""Money by hand, one candidate a task and user, and a count of everything that was left out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from kernel.choices import DailyLimits, Limit, PerUser
from kernel.errors import BadInput
from kernel.work import Benefit, Content, Goal, Task, Touchpoint
from planner.api import Candidates, Resources, Scores, derive_candidates

MONTH = timedelta(days=28)
GOAL: dict[str, Any] = {"outcome": "order", "window": "28d", "margin": 0.5, "lift": 0.4}
RESOURCES = Resources(
    goals=(
        Goal(name="raise", audiences=("all", "families"), base="spend", **GOAL),
        Goal(name="retain", audiences=("all",), base="spend_at_risk", **GOAL),
        Goal(name="win_back", audiences=("all",), base="spend_lost", **GOAL),
        Goal(name="calm", audiences=("all",), base="spend", direction="decrease", **GOAL),
    ),
    benefits=(
        Benefit(
            name="coupon",
            goals=("raise", "retain", "win_back", "calm"),
            touchpoints=("letter",),
            cost_per_response=2.0,
        ),
    ),
    touchpoints=(Touchpoint(name="letter", channel="mail", cost_per_touch=0.5, reach=0.8),),
    contents=(Content(name="hello", goals=("raise",), touchpoints=("letter",)),),
)


def task(goal: str, audience: str = "all") -> Task:
    return Task(
        name=f"{goal}.coupon.letter.{audience}",
        goal=goal,
        audience=audience,
        benefit="coupon",
        touchpoint="letter",
        channel="mail",
        content="hello",
    )


def scores(**changed: list[float]) -> Scores:
    people = {
        "user": [1, 2, 3],
        "spend": [100.0, 40.0, 1.0],
        "churn": [0.1, 0.5, 0.9],
        "habit": [120.0, 30, 1],
    }
    return Scores(
        window=MONTH,
        users=pl.DataFrame(people | changed),
        responses=pl.DataFrame({"user": [1, 2, 3], "benefit": ["coupon"] * 3, "response": [0.5, 0.25, 0.1]}),
    )


EVERYONE = pl.DataFrame({"user": [3, 1, 2], "audience": ["all"] * 3})


def derive(goal: str, **given: Any) -> Candidates:
    return derive_candidates([task(goal)], RESOURCES, EVERYONE, scores(), **given)


@pytest.mark.parametrize(
    ("goal", "base"), [("raise", 100.0), ("retain", 120 * 0.1), ("win_back", 120 - 100.0)]
)
def test_the_money_of_a_candidate_by_hand(goal: str, base: float) -> None:
    daily = DailyLimits(name="d", per_user=PerUser(min_tasks=1))
    row = derive(goal, daily=daily).frame.filter(user=1).row(0, named=True)
    response = 0.8 * 0.5
    gain, cost = response * 0.5 * 0.4 * base, 0.5 + response * 2.0
    assert row["response"] == pytest.approx(response)
    assert row["gain"] == pytest.approx(gain)
    assert row["cost"] == pytest.approx(cost)
    assert row["value"] == pytest.approx(gain - cost)


def test_a_goal_of_half_the_window_moves_half_the_money() -> None:
    half = Resources(
        **{**vars(RESOURCES), "goals": (RESOURCES.goals[0].model_copy(update={"window": "14d"}),)}
    )
    found = derive_candidates([task("raise")], half, EVERYONE, scores()).frame.filter(user=1)
    assert found["gain"].item() == pytest.approx(derive("raise").frame.filter(user=1)["gain"].item() / 2)


def test_who_spends_more_than_usual_has_lost_nothing() -> None:
    daily = DailyLimits(name="d", per_user=PerUser(min_tasks=1))
    row = derive("win_back", daily=daily).frame.filter(user=2).row(0, named=True)
    assert row["gain"] == 0


def test_a_goal_of_less_makes_a_response_a_loss() -> None:
    assert derive("calm").frame.is_empty()


def test_what_costs_more_than_it_gains_is_left_out_and_counted() -> None:
    found = derive("raise")
    assert found.frame["user"].to_list() == [1, 2]
    assert found.pruned == {"costs more than it is expected to gain": 1}


def test_a_touch_is_worth_what_its_goal_asks_or_left_out_and_counted() -> None:
    by_user = dict(derive("raise").frame.select("user", "value").iter_rows())
    assert by_user[1] > by_user[2]
    for least, kept in ((by_user[1] + 0.01, []), (by_user[1], [1]), (by_user[2], [1, 2])):
        goals = tuple(each.model_copy(update={"least_value": least}) for each in RESOURCES.goals)
        asked = Resources(**{**vars(RESOURCES), "goals": goals})
        found = derive_candidates([task("raise")], asked, EVERYONE, scores())
        assert found.frame["user"].to_list() == kept
        reason = "is worth less than its goal asks of a touch"
        assert found.pruned.get(reason, 0) == 2 - len(kept)
        floor = DailyLimits(name="d", per_user=PerUser(min_tasks=1))
        assert derive_candidates([task("raise")], asked, EVERYONE, scores(), daily=floor).frame.height == 3


@pytest.mark.parametrize(
    ("daily", "kept"),
    [
        (DailyLimits(name="d", per_user=PerUser(min_tasks=1)), [1, 2, 3]),
        (DailyLimits(name="d", limits=(Limit(name="f", where={"goal": "raise"}, at_least=3),)), [1, 2, 3]),
        (
            DailyLimits(name="d", limits=(Limit(name="f", where={"goal": ("x", "raise")}, at_least=3),)),
            [1, 2, 3],
        ),
        (DailyLimits(name="d", limits=(Limit(name="f", where={"goal": "other"}, at_least=3),)), [1, 2]),
        (DailyLimits(name="d", limits=(Limit(name="f", where={"goal": "raise"}, at_most=3),)), [1, 2]),
        (DailyLimits(name="d", limits=(Limit(name="f", at_least=0),)), [1, 2]),
    ],
)
def test_floors_keep_what_they_may_need(daily: DailyLimits, kept: list[int]) -> None:
    found = derive("raise", daily=daily)
    assert found.frame["user"].to_list() == kept
    assert bool(found.pruned) == (len(kept) < 3)


def test_a_user_in_several_audiences_of_a_goal_keeps_the_first_of_the_goal() -> None:
    audiences = pl.DataFrame({"user": [1, 1, 2], "audience": ["families", "all", "families"]})
    both = [task("raise", "families"), task("raise")]
    for order in (both, both[::-1]):
        found = derive_candidates(order, RESOURCES, audiences, scores())
        assert found.frame.select("user", "audience").rows() == [(1, "all"), (2, "families")]
        assert found.pruned == {"same task through another audience": 1}


def test_members_listed_twice_are_one_candidate() -> None:
    found = derive_candidates([task("raise")], RESOURCES, pl.concat([EVERYONE, EVERYONE]), scores())
    assert found.frame["user"].to_list() == [1, 2]


def test_goals_do_not_share_candidates() -> None:
    found = derive_candidates([task("raise"), task("win_back")], RESOURCES, EVERYONE, scores())
    assert found.frame.filter(user=1)["goal"].to_list() == ["raise", "win_back"]


def test_blocked_users_are_left_out_on_their_channel_only() -> None:
    blocked = pl.DataFrame({"user": [1, 1, 2], "channel": ["mail", "mail", "sms"]})
    found = derive("raise", blocked=blocked)
    assert found.frame["user"].to_list() == [2]
    assert found.pruned["a cap or consent forbids it today"] == 1


def test_a_missing_score_is_an_error_and_never_a_guess() -> None:
    known = scores()
    without = Scores(window=MONTH, users=known.users, responses=known.responses.filter(pl.col("user") != 2))
    with pytest.raises(BadInput, match="scores: are missing for 1 user × task"):
        derive_candidates([task("raise")], RESOURCES, EVERYONE, without)
    nobody = Scores(window=MONTH, users=known.users.filter(pl.col("user") > 2), responses=known.responses)
    with pytest.raises(BadInput, match="scores: are missing for 2 user × task"):
        derive_candidates([task("raise")], RESOURCES, EVERYONE, nobody)


def test_no_tasks_is_an_error() -> None:
    with pytest.raises(BadInput, match="has no tasks"):
        derive_candidates([], RESOURCES, EVERYONE, scores())


def test_the_order_of_what_comes_in_means_nothing() -> None:
    both = [task("raise"), task("win_back")]
    one = derive_candidates(both, RESOURCES, EVERYONE, scores())
    two = derive_candidates(both[::-1], RESOURCES, EVERYONE.sort("user"), scores())
    assert one.frame.equals(two.frame)
    assert one.frame.columns[:4] == ["user", "task", "value", "gain"]
