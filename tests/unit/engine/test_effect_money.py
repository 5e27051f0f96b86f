"""Measured effects in money: by the own basket, and by the reach of each touchpoint."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import polars as pl
import pytest

from engine.definitions import Definitions
from engine.effect_money import effect_money
from kernel.work import Goal, Touchpoint
from models.api import Exploration, History, UpliftRecipe

NOW = datetime(2026, 3, 1, tzinfo=UTC)
GOAL = Goal(
    name="grow", outcome="order", window="28d", audiences=("all",), margin=0.5, base="spend", lift=0.3
)
WAYS = [("big", "sms"), ("big", "push"), ("small", "push")]
DRAWN = [{"benefit": benefit, "touchpoint": touchpoint} for benefit, touchpoint in WAYS]
TRIALS = Exploration.model_validate({"name": "trials", "goal": "grow", "share": 0.1, "ways": DRAWN})
RECIPE = UpliftRecipe(
    name="effect", goal="grow", exploration="trials", outcome="purchases", worth="basket", by_reach=True
)


class Known:
    """Definitions as they are asked for."""

    def of(self, kind: type[Any]) -> tuple[Any, ...]:
        sms = Touchpoint(name="sms", channel="sms", cost_per_touch=0.1, reach=0.9)
        push = Touchpoint(name="push", channel="push", cost_per_touch=0.0, reach=0.3)
        return {Touchpoint: (sms, push), Exploration: (TRIALS,)}[kind]


def money(recipe: UpliftRecipe, goal: Goal = GOAL) -> Any:
    rows = [(1, 20.0), (1, 20.0), (1, 20.0), (2, 60.0), (2, 60.0), (2, 60.0)]
    purchases = pl.DataFrame(
        {
            "user": [user for user, _ in rows],
            "at": pl.Series([NOW - timedelta(days=9)] * 6, dtype=pl.Datetime("us", "UTC")),
            "event_id": range(6),
            "amount": [amount for _, amount in rows],
        }
    )
    known = cast("Definitions", Known())
    return effect_money(known, recipe, goal, History(purchases=purchases), NOW)


def test_a_purchase_more_is_worth_the_margin_of_the_own_basket() -> None:
    found = money(RECIPE)
    told = found.worth(pl.DataFrame({"user": [1, 2, 3], "effect": [0.1, 0.2, 0.3]}))
    # baskets that never vary are believed whole; who never bought has everybody's
    assert told["worth"].to_list() == pytest.approx([10.0, 30.0, 20.0])
    assert told.columns == ["user", "effect", "worth"]
    assert found.typical == pytest.approx(20.0)
    fewer = money(RECIPE, GOAL.model_copy(update={"direction": "decrease"}))
    assert fewer.worth(pl.DataFrame({"user": [1]}))["worth"].to_list() == pytest.approx([-10.0])


def test_without_a_basket_everyone_is_worth_the_same() -> None:
    found = money(UpliftRecipe.model_validate({**RECIPE.model_dump(), "worth": 7}))
    assert found.worth(pl.DataFrame({"user": [1, 9]}))["worth"].to_list() == [7.0, 7.0]
    assert found.typical == 7.0


def test_an_effect_goes_with_the_reach_of_its_touchpoint() -> None:
    found = money(RECIPE)
    assert [found.factor("big", each) for each in ("sms", "push")] == [0.9, 0.3]
    assert found.factor("small", "push") == 0.3
    plain = money(RECIPE.model_copy(update={"by_reach": False}))
    assert plain.factor("big", "sms") == 1.0
