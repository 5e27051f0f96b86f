"""Candidates whose gain was measured, those that are withheld, and what each user would get at prices."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from kernel.choices import Limit, Limits
from kernel.work import Benefit, Content, Goal, Task, Touchpoint
from planner.api import Resources, Scores, derive_candidates, intended

USERS = [1, 2, 3, 4]
RESOURCES = Resources(
    goals=(
        Goal(
            name="grow", outcome="order", window="28d", audiences=("all",), base="spend", margin=0.5, lift=0.4
        ),
    ),
    benefits=tuple(
        Benefit(name=name, goals=("grow",), touchpoints=("letter",), cost_per_response=2.0)
        for name in ("book", "coupon")
    ),
    touchpoints=(Touchpoint(name="letter", channel="mail", cost_per_touch=0.5, reach=0.8),),
    contents=(Content(name="hello", goals=("grow",), touchpoints=("letter",)),),
)
TASKS = [
    Task(
        name=f"grow.{benefit}.letter.all",
        goal="grow",
        audience="all",
        benefit=benefit,
        touchpoint="letter",
        channel="mail",
        content="hello",
    )
    for benefit in ("book", "coupon")
]
EFFECTS = pl.DataFrame(
    {
        "user": [1, 2],
        "goal": ["grow", "grow"],
        "benefit": ["coupon", "coupon"],
        "touchpoint": ["letter", "letter"],
        "adds": [7.0, -1.0],
        "adds_low": [5.0, -2.0],
        "adds_high": [9.0, 0.5],
    }
)


def derive(effects: pl.DataFrame | None = None, **given: Any) -> Any:
    people = {"user": USERS, "spend": [100.0] * 4, "churn": [0.1] * 4, "habit": [100.0] * 4}
    pairs = [(user, benefit) for user in USERS for benefit in ("book", "coupon")]
    responses = pl.DataFrame(pairs, schema=["user", "benefit"], orient="row").with_columns(response=0.5)
    scores = Scores(
        users=pl.DataFrame(people), window=timedelta(days=28), responses=responses, effects=effects
    )
    audience = pl.DataFrame({"user": USERS, "audience": ["all"] * 4})
    return derive_candidates(TASKS, RESOURCES, audience, scores, **given)


def of(frame: pl.DataFrame, user: int, benefit: str) -> dict[str, Any]:
    return frame.filter(user=user, benefit=benefit).row(0, named=True)


def test_a_measured_gain_takes_the_place_of_the_assumption() -> None:
    found = derive(EFFECTS)
    row = of(found.frame, 1, "coupon")
    assert (row["gain"], row["gain_low"], row["gain_high"]) == (7.0, 5.0, 9.0)
    assert row["cost"] == pytest.approx(0.5 + 0.8 * 0.5 * 2)
    assert row["value"] == pytest.approx(7 - 1.3)
    # what was measured to hurt is no candidate, however willing the user is to respond
    assert found.frame.filter(user=2, benefit="coupon").is_empty()
    assert found.pruned == {"costs more than it is expected to gain": 1}
    assumed = of(found.frame, 3, "coupon")
    assert assumed["gain"] == pytest.approx(0.8 * 0.5 * 0.5 * 0.4 * 100)
    assert assumed["gain_low"] is None


def test_without_effects_the_frame_is_as_it_was() -> None:
    assert "gain_low" not in derive().frame.columns
    assert derive().withheld is None


def test_the_withheld_are_kept_apart_and_counted() -> None:
    withheld = pl.DataFrame(
        {"user": [1, 1, 2], "benefit": [None, "book", "book"], "why": ["holdout", "trial", "trial"]}
    )
    found, whole = derive(withheld=withheld), derive()
    assert set(found.frame.select("user", "benefit").rows()) == {
        (2, "coupon"),
        *((user, benefit) for user in (3, 4) for benefit in ("book", "coupon")),
    }
    assert found.withheld.select("user", "benefit", "why").sort("user", "benefit").rows() == [
        (1, "book", "holdout"),
        (1, "coupon", "holdout"),
        (2, "book", "trial"),
    ]
    assert found.pruned == {"held out, to measure by": 3}
    together = pl.concat([found.frame, found.withheld.drop("why")]).sort("user", "task")
    assert together.equals(whole.frame.sort("user", "task"))


def test_what_was_meant_is_the_best_after_prices() -> None:
    frame = pl.DataFrame(
        {
            "user": [1, 1, 2, 2, 3],
            "task": ["a", "b", "a", "b", "a"],
            "goal": ["g"] * 5,
            "benefit": ["a", "b", "a", "b", "a"],
            "touchpoint": ["t"] * 5,
            "channel": ["c"] * 5,
            "value": [5.0, 4.0, 5.0, 2.0, 1.0],
            "gain": [6.0] * 5,
            "cost": [1.0, 0.0, 1.0, 0.0, 1.0],
        }
    )
    limits = Limits(
        limits=(
            Limit(name="a_capacity", where={"benefit": "a"}, at_most=1),
            Limit(name="money", sum="cost", at_most=1.0),
        )
    )
    free = intended(frame, limits, {})
    assert free.select("user", "task", "worth").rows() == [(1, "a", 5.0), (2, "a", 5.0), (3, "a", 1.0)]
    # each `a` pays 2 for its place and 0.5 for its money: 5 − 2.5 < 4, and 1 − 2.5 is nothing
    paid = intended(frame, limits, {"a_capacity": 2.0, "money": 0.5})
    assert paid.select("user", "task", "worth").rows() == [(1, "b", 4.0), (2, "a", 2.5)]
