"""Candidates in parts are those of the whole; of very many those stay that can matter; the proof holds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from conflict.api import allocate
from engine.day_candidates import Known, Proposed, propose, pruning_told
from kernel.choices import Allocation, DailyLimits, Limit, PerUser
from kernel.work import Benefit, Content, Goal, Task, Touchpoint
from planner.api import Keep, Resources, Scores, Steered

USERS = 900
WAYS = {"push": 0.01, "email": 0.02, "sms": 0.1}
BENEFITS = {"points": 0.5, "five": 1.5, "ten": 3.0}
COMMON: dict[str, Any] = {"outcome": "order", "window": "28d", "margin": 0.5}
RESOURCES = Resources(
    goals=(
        Goal(name="raise", audiences=("all",), base="spend", lift=0.2, **COMMON),
        Goal(name="retain", audiences=("some",), base="spend_at_risk", lift=0.5, **COMMON),
    ),
    benefits=tuple(
        Benefit(name=name, goals=("raise", "retain"), touchpoints=tuple(WAYS), cost_per_response=cost)
        for name, cost in BENEFITS.items()
    ),
    touchpoints=tuple(
        Touchpoint(name=name, channel=name, cost_per_touch=cost, reach=0.5, capacity=USERS // 5)
        for name, cost in WAYS.items()
    ),
    contents=(Content(name="hello", goals=("raise", "retain"), touchpoints=tuple(WAYS)),),
)
TASKS = tuple(
    Task(
        name=f"{goal}.{benefit}.{way}",
        goal=goal,
        audience=audience,
        benefit=benefit,
        touchpoint=way,
        channel=way,
        content="hello",
    )
    for goal, audience in (("raise", "all"), ("retain", "some"))
    for benefit in BENEFITS
    for way in WAYS
)


def limits(floor: float = USERS / 10) -> DailyLimits:
    return DailyLimits(
        name="daily",
        per_user=PerUser(max_tasks=2, max_by={"channel": dict.fromkeys(WAYS, 1)}),
        limits=(
            Limit(name="money", sum="cost", at_most=USERS / 4),
            Limit(name="retained", where={"goal": "retain"}, at_least=floor),
        ),
    )


@pytest.fixture(scope="module")
def known() -> Known:
    rng = np.random.default_rng(5)
    people = pl.Series("user", rng.permutation(USERS))
    pairs = pl.DataFrame({"user": people}).join(pl.DataFrame({"benefit": list(BENEFITS)}), how="cross")
    scores = Scores(
        window=timedelta(days=28),
        users=pl.DataFrame(
            {
                "user": people,
                "spend": rng.gamma(2.0, 20.0, USERS),
                "churn": rng.random(USERS),
                "habit": rng.gamma(2.0, 20.0, USERS),
            }
        ),
        responses=pairs.with_columns(response=pl.Series(rng.beta(1.0, 4.0, pairs.height))),
    )
    some = people.sample(USERS // 2, seed=3)
    audiences = [pl.DataFrame({"user": u, "audience": name}) for u, name in ((people, "all"), (some, "some"))]
    return Known(
        audiences=pl.concat(audiences),
        scores=scores,
        blocked=pl.DataFrame({"user": people.head(50), "channel": "sms"}),
        withheld=pl.DataFrame({"user": people.tail(60), "benefit": [None] * 60, "why": "holdout"}).cast(
            {"benefit": pl.String}
        ),
        steered=(
            Steered(
                name="often",
                channels=("push",),
                goals=None,
                users=pl.DataFrame(
                    {"user": people, "factor": rng.random(USERS).round(1), "reason": "enough"}
                ),
            ),
        ),
    )


def proposed(known: Known, *, keep: Keep, daily: DailyLimits | None = None, **more: Any) -> Proposed:
    return propose(TASKS, RESOURCES, known, daily or limits(), keep=keep, seed=1, **more)


def worth(found: Proposed) -> Allocation:
    answer = allocate(found.candidates.frame, found.limits, time_limit=20.0, gap=1e-5)
    assert answer.objective is not None
    return answer


def test_parts_come_to_the_same_as_the_whole(known: Known) -> None:
    whole = proposed(known, keep=Keep())
    seen: list[int] = []
    parts = proposed(known, keep=Keep(), chunk=500, told=seen.append)
    assert whole.pruning is parts.pruning is None
    assert_frame_equal(whole.candidates.frame, parts.candidates.frame)
    assert whole.candidates.pruned == parts.candidates.pruned
    assert whole.candidates.withheld is not None
    assert parts.candidates.withheld is not None
    assert_frame_equal(whole.candidates.withheld, parts.candidates.withheld)
    assert whole.limits == parts.limits
    assert len(seen) > 10
    assert seen[-1] == whole.candidates.frame.height


@pytest.mark.parametrize("most", [2, 12])
def test_what_is_left_out_costs_no_more_than_is_told(known: Known, most: int) -> None:
    whole = proposed(known, keep=Keep())
    fewer = proposed(known, keep=Keep(above=1_000, most=most), chunk=2_000)
    assert fewer.pruning is not None
    assert fewer.candidates.frame.height < 0.75 * whole.candidates.frame.height
    assert fewer.candidates.frame.group_by("user").len()["len"].max() <= most + 1
    best, ours = worth(whole), worth(fewer)
    assert best.objective is not None
    assert ours.objective is not None
    told = pruning_told(fewer.pruning, TASKS, fewer.candidates.frame, ours)
    behind = best.objective / ours.objective - 1
    assert behind <= told["lost_at_most"] + 1e-9
    if most == 12:
        assert behind < 1e-3
        assert told["lost_at_most"] < 0.01
    assert told["considered"] == whole.candidates.frame.height
    gone = fewer.pruning.left_out
    assert gone["count"].sum() == whole.candidates.frame.height - fewer.candidates.frame.height
    assert set(gone["reason"]) <= set(fewer.candidates.pruned)
    each = fewer.pruning.each
    assert each is not None
    both = pl.concat(
        [each.select("user", pl.col("task").cast(pl.String)), fewer.candidates.frame.select("user", "task")]
    )
    assert_frame_equal(both.sort("user", "task"), whole.candidates.frame.select("user", "task"))
    # of the held-out stays what would have been meant for them
    assert fewer.candidates.withheld is not None
    assert whole.candidates.withheld is not None
    assert 0 < fewer.candidates.withheld.height < whole.candidates.withheld.height


def test_limits_that_cannot_hold_leave_everything_in(known: Known) -> None:
    """So that the allocation says which contradict each other."""
    whole = proposed(known, keep=Keep(), daily=limits(floor=USERS))
    fewer = proposed(known, keep=Keep(above=1_000), daily=limits(floor=USERS))
    assert fewer.pruning is None
    assert_frame_equal(whole.candidates.frame, fewer.candidates.frame)
