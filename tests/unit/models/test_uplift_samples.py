"""Rows that uplift is learned from, how they are divided, and what a later model is compared with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from kernel.errors import BadInput
from kernel.learning import Interval
from models.api import CONTROL, History, UpliftRecipe, UpliftSample, train_uplift, uplift_sample
from models.uplift_average import shrunken
from models.uplift_base import Trees
from models.uplift_scores import AverageEffect
from models.uplift_training import CHAMPION_EFFECTS

BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
INSTANT = pl.Datetime("us", "UTC")
WEEK = timedelta(days=7)
RECIPE = UpliftRecipe(name="effect", goal="grow", benefit="coupon", history=("28d",), learner="s", halves=2)


def day(number: float) -> datetime:
    return BEGIN + timedelta(days=number)


def events(rows: list[tuple[int, float, float]]) -> History:
    """user, day, amount."""
    frame = pl.DataFrame(rows, schema=["user", "day", "amount"], orient="row")
    at = pl.Series("at", [day(each) for each in frame["day"]], dtype=INSTANT)
    return History(purchases=frame.select("user", at, pl.int_range(pl.len()).alias("event_id"), "amount"))


def assigned(rows: list[tuple[int, float, str]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=["user", "day", "treatment"], orient="row")
    at = pl.Series("at", [day(each) for each in frame["day"]], dtype=INSTANT)
    return frame.select("user", at, "treatment")


def test_outcomes_are_of_whole_windows_that_do_not_overlap() -> None:
    bought = events([(1, 0, 1.0), (1, 10, 2.0), (1, 11, 4.0), (1, 17, 8.0), (1, 17.5, 16.0), (2, 12, 32.0)])
    none = [(1, 17, CONTROL), (2, 10, CONTROL), (3, 10, CONTROL)]
    rows = assigned([(1, 10, "coupon"), (1, 13, "coupon"), *none, (2, 95, "coupon")])
    found = uplift_sample(bought, rows, RECIPE, WEEK, day(100))
    # (10, 17] of user 1: the purchase at the very beginning does not count, that at the end does
    told = found.frame.sort("at", "user").select("user", "at", "treatment", "y").rows()
    assert told == [
        (1, day(10), "coupon", 12.0),
        (2, day(10), CONTROL, 32.0),
        (3, day(10), CONTROL, 0.0),
        (1, day(17), CONTROL, 16.0),
    ]
    assert found.immature == 1
    bought_or_not = RECIPE.model_copy(update={"outcome": "bought", "worth": 1.0})
    assert uplift_sample(bought, rows, bought_or_not, WEEK, day(100)).frame["y"].max() == 1.0
    how_many = RECIPE.model_copy(update={"outcome": "purchases", "worth": "basket"})
    counted = uplift_sample(bought, rows, how_many, WEEK, day(100)).frame.sort("at", "user")
    assert counted["y"].to_list() == [2.0, 1.0, 0.0, 1.0]
    lines = History(purchases=bought.purchases.with_columns(event_id=pl.lit(1)))
    assert uplift_sample(lines, rows, how_many, WEEK, day(100)).frame["y"].max() == 1.0


def test_features_know_nothing_of_what_came_after() -> None:
    early = events([(1, 0, 5.0), (1, 9, 5.0)])
    late = events([(1, 0, 5.0), (1, 9, 5.0), (1, 10.5, 500.0)])
    rows = assigned([(1, 10, "coupon")])
    frames = [uplift_sample(each, rows, RECIPE, WEEK, day(50)).frame for each in (early, late)]
    names = [name for name in frames[0].columns if name != "y"]
    assert frames[0].select(names).equals(frames[1].select(names))
    assert [frame["y"][0] for frame in frames] == [0.0, 500.0]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (assigned([(1, 99, "coupon")]), "has no user whose window is over"),
        (assigned([(1, 1, "coupon")]).drop("at"), "at: is missing"),
        (
            assigned([(1, 1, "coupon")]).with_columns(p_coupon=pl.lit(None, pl.Float64)),
            "missing for some users",
        ),
    ],
)
def test_what_cannot_be_a_sample_is_one_sentence(rows: pl.DataFrame, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        uplift_sample(events([(1, 0, 1.0)]), rows, RECIPE, WEEK, day(100))


def world(count: int, seed: int, days: int = 1, slope: float = 2.0) -> UpliftSample:
    """Effect `slope` × z on an outcome that `amount_28d` tells otherwise."""
    rng = np.random.default_rng(seed)
    z, amount, treated = rng.normal(size=count), rng.normal(size=count), rng.random(count) < 0.5
    frame = pl.DataFrame(
        {
            "user": np.arange(count),
            "at": pl.Series([day(7 * (each % days)) for each in range(count)], dtype=INSTANT),
            "treatment": np.where(treated, "coupon", CONTROL),
            "y": rng.normal(size=count) - 2 * z + 2 * amount + slope * z * treated,
            "p_coupon": np.full(count, 0.5),
            "z": z,
            "amount_28d": amount,
            "constant": np.ones(count),
        }
    )
    return UpliftSample(frame=frame, within=WEEK, as_of=day(200))


def test_later_days_are_judged_on_where_there_are_some_else_other_users() -> None:
    split = world(1000, 1, days=10).split("x")
    assert split.begin is not None
    late, early = split.late.frame["at"].min(), split.early.frame["at"].max()
    assert isinstance(late, datetime)
    assert isinstance(early, datetime)
    # what is learned from had ended
    assert early + WEEK <= late == split.begin
    assert split.late.frame.height >= 300
    one = world(1000, 1).split("x")
    assert one.begin is None
    assert not set(one.early.frame["user"]) & set(one.late.frame["user"])
    assert one.late.frame["user"].equals(world(1000, 2).split("x").late.frame["user"])
    with pytest.raises(BadInput, match="leaves too few users to"):
        world(70, 1).split("x")


def test_a_sample_tells_which_columns_say_something() -> None:
    assert world(100, 1).features == ("z", "amount_28d")


def test_a_later_model_must_beat_the_champion_on_users_that_it_has_not_seen() -> None:
    few = Trees(rounds=0)
    first = train_uplift(world(3000, 3), RECIPE, worth=1.0, seed=1, trees=few)
    assert first.model.trusted
    baselines = {each.baseline for each in first.evidence["coupon"].verdict.margins}
    assert baselines == {"random", "response", "last value", "average effect"}
    # as good as the champion is not better
    again = train_uplift(world(3000, 3), RECIPE, worth=1.0, seed=1, champion=first.model, trees=few)
    assert not again.model.trusted
    assert f"does not beat {CHAMPION_EFFECTS}" in again.model.reasons["coupon"]
    # a champion that learned from those judged on, or knows other features, is no judge
    for changed in ({"judged_from": day(1)}, {"judged": replace(first.model.judged, features=("other",))}):
        champion = replace(first.model, **changed)
        found = train_uplift(world(3000, 3), RECIPE, worth=1.0, seed=1, champion=champion, trees=few)
        assert found.model.trusted
        assert "not compared" in found.warnings[0]


def test_refused_effects_are_the_shrunken_average() -> None:
    found = train_uplift(world(800, 5, slope=0.0), RECIPE, worth=2.0, seed=1, trees=Trees(rounds=0))
    assert not found.model.trusted
    told = found.model.effects(world(10, 6).frame.select("user", "z", "amount_28d"))
    average = found.model.averages["coupon"]
    assert told["effect"].unique().to_list() == [average.mean]
    assert (told["low"][0], told["high"][0]) == (average.low, average.high)
    measured = found.model.fitted.averages[0].effect
    assert abs(average.mean) < abs(measured.mean)


def test_shrunken_effects_are_used_without_beating_every_baseline() -> None:
    """What differs between users is what the stack believes of it; the average is the shrunken one."""
    recipe = RECIPE.model_copy(update={"trust": "shrunken", "learner": "stack"})
    sample = world(800, 5, slope=0.3)
    found = train_uplift(sample, recipe, worth=2.0, seed=1, trees=Trees(rounds=0))
    assert found.evidence["coupon"].verdict.promote is False
    assert found.model.trusted
    told = found.model.effects(sample.frame.select("user", "z", "amount_28d"))
    assert told["effect"].n_unique() > 100
    measured, average = found.model.fitted.averages[0].effect, found.model.averages["coupon"]
    assert abs(average.mean) < abs(measured.mean)
    learned = found.model.fitted.effects(sample.frame)[:, 0]
    np.testing.assert_allclose(told["effect"] - learned, average.mean - measured.mean, atol=1e-12)
    assert (told["low"] < told["effect"]).all()
    assert (told["effect"] < told["high"]).all()


def test_effects_depend_on_the_features_that_are_named_alone() -> None:
    named = RECIPE.model_copy(update={"features": ("z",), "trust": "shrunken"})
    found = train_uplift(world(3000, 3), named, worth=1.0, seed=1, trees=Trees(rounds=0))
    assert found.model.features == ("z",)
    told = found.model.effects(world(500, 4).frame.select("user", "z"))
    assert np.corrcoef(told["effect"], world(500, 4).frame["z"])[0, 1] > 0.95
    for features, said in ((("zz",), "features = 'zz'"), (("constant",), "say nothing")):
        wrong = RECIPE.model_copy(update={"features": features})
        with pytest.raises(BadInput, match=said):
            train_uplift(world(900, 3), wrong, worth=1.0, seed=1, trees=Trees(rounds=0))


def test_trials_of_long_ago_teach_less() -> None:
    """Taste turns in the middle: whoever forgets tells the later one."""
    rng, frame = np.random.default_rng(3), world(3000, 3, days=10).frame
    treated = (frame["treatment"] == "coupon").to_numpy()
    slope = np.where(frame["at"] < day(35), 2.0, -2.0)
    y = rng.normal(size=3000) + slope * frame["z"].to_numpy() * treated
    sample = UpliftSample(frame=frame.with_columns(y=pl.Series(y)), within=WEEK, as_of=day(70))
    asked = world(500, 5).frame
    slopes = {}
    for forgets in (None, "7d"):
        recipe = RECIPE.model_copy(update={"forgets": forgets, "features": ("z",), "trust": "shrunken"})
        model = train_uplift(sample, recipe, worth=1.0, seed=1, trees=Trees(rounds=0)).model
        told = model.effects(asked.select("user", "z"))["effect"]
        slopes[forgets] = np.polyfit(asked["z"], told, 1)[0]
    assert abs(slopes[None]) < 0.5
    assert slopes["7d"] < -1.5
    weight = sample.weight(timedelta(days=7))
    assert weight is not None
    assert weight[frame["at"] == day(63)] == pytest.approx(0.5)
    assert weight[frame["at"] == day(0)] == pytest.approx(0.5**10)


@pytest.mark.parametrize("learner", ["s", "class"])
def test_effects_through_all_touchpoints_are_those_of_a_touch_that_is_seen(learner: str) -> None:
    rng, frame = np.random.default_rng(9), world(6000, 9).frame
    given = (frame["treatment"] == "coupon").to_numpy()
    reach = np.where(given, np.where(rng.random(6000) < 0.5, 0.9, 0.3), 1.0)
    z = frame["z"].to_numpy()
    y = rng.normal(size=6000) + 1 - z + (0.5 + 2 * z) * (given & (rng.random(6000) < reach))
    frame = frame.with_columns(y=pl.Series(y), reach=pl.Series(reach))
    sample = UpliftSample(frame=frame, within=WEEK, as_of=day(20))
    assert "reach" not in sample.features
    recipe = RECIPE.model_copy(update={"features": ("z",), "trust": "shrunken", "learner": learner})
    model = train_uplift(sample, recipe, worth=1.0, seed=1, trees=Trees(rounds=0)).model
    assert model.as_seen
    asked = world(500, 5).frame
    slope, level = np.polyfit(asked["z"], model.effects(asked.select("user", "z"))["effect"], 1)
    assert slope == pytest.approx(2.0, abs=0.3)
    assert level == pytest.approx(0.5, abs=0.15)
    assert model.fitted.averages[0].effect.mean == pytest.approx(0.5, abs=0.15)
    weight, chance = sample.weight(None), sample.propensity
    assert weight is not None
    assert weight == pytest.approx(reach**2)
    # a coupon befalls half of the users, who weigh .45 on average
    assert chance is not None
    assert chance["coupon"].to_numpy() == pytest.approx(0.45 / 1.45, abs=0.01)


def test_where_nothing_can_be_seen_of_users_that_is_said() -> None:
    frame = world(600, 9).frame.select("user", "at", "treatment", "y").with_columns(reach=pl.lit(1.0))
    nobody = UpliftSample(frame=frame, within=WEEK, as_of=day(20))
    with pytest.raises(BadInput, match="say nothing"):
        train_uplift(nobody, RECIPE, worth=1.0, seed=1, trees=Trees(rounds=0))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"outcome": "purchases"}, "outcome purchases needs worth"),
        ({"worth": "basket"}, "spend is money already"),
        ({"by_reach": True}, "by_reach needs exploration"),
        ({"outcome": "bought", "worth": "wallet"}, "worth"),
        ({"trust": "blind"}, "trust"),
        ({"features": []}, "features"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(more: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        UpliftRecipe.model_validate({"name": "effect", "goal": "grow", "benefit": "coupon", **more})


def test_averages_are_drawn_to_nothing_as_their_noise_says() -> None:
    def effect(mean: float, error: float) -> AverageEffect:
        return AverageEffect(effect=Interval(mean=mean, low=0, high=0), error=error, share=1.0, warning="")

    (sure,) = shrunken([effect(5.0, 1.0)])
    assert sure.mean == pytest.approx(5 * 24 / 25)
    assert sure.high - sure.low == pytest.approx(2 * 1.959964, rel=1e-6)
    (noise,) = shrunken([effect(0.9, 1.0)])
    assert noise.mean == 0.0
    # together they tell how large effects are: 2 and −2 of error 1 keep three quarters
    assert [each.mean for each in shrunken([effect(2.0, 1.0), effect(-2.0, 1.0)])] == pytest.approx(
        [1.5, -1.5]
    )
