"""Draws of an exploration: who, what, with which chances, and what an uplift model may learn from them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from kernel.errors import BadInput, NotFound
from kernel.work import Benefit, Goal
from models.experiments import Experiment
from models.exploration import Exploration, draw
from models.uplift import Uplift
from models.uplift_recipe import UpliftRecipe, check_uplift, treated_by

TOLD = {
    "name": "trials",
    "goal": "grow",
    "share": 0.2,
    "nothing": 0.4,
    "ways": [
        {"benefit": "big", "touchpoint": "sms"},
        {"benefit": "small", "touchpoint": "sms"},
        {"benefit": "small", "touchpoint": "push"},
    ],
}
TRIALS = Exploration.model_validate(TOLD)
USERS = pl.Series("user", range(20_000))


def test_shares_are_as_told_and_each_day_draws_others() -> None:
    drawn = draw(TRIALS, USERS, "2026-03-02")
    assert drawn.height == pytest.approx(4000, abs=180)
    counts = {(b, t): n for b, t, n in drawn.group_by("benefit", "touchpoint").len().iter_rows()}
    assert counts[None, None] == pytest.approx(1600, abs=130)
    for way in (("big", "sms"), ("small", "sms"), ("small", "push")):
        assert counts[way] == pytest.approx(800, abs=100)
    assert draw(TRIALS, USERS, "2026-03-02").equals(drawn)
    other = draw(TRIALS, USERS, "2026-03-03")
    both = other.join(drawn, on="user", how="semi").height
    assert both == pytest.approx(800, abs=110)  # a fifth of a fifth: independent


def test_more_are_drawn_of_those_who_promise_most_once_that_is_known() -> None:
    more = TRIALS.model_copy(update={"share": 0.05, "promising": 0.2})
    drawn = draw(more, USERS, "2026-03-02")
    # the same ones with the same lots; who is drawn of everyone anyway is among them
    assert drawn.drop("if_promising").equals(draw(TRIALS, USERS, "2026-03-02").drop("if_promising"))
    assert drawn["if_promising"].mean() == pytest.approx(0.75, abs=0.03)
    few = draw(TRIALS.model_copy(update={"share": 0.05}), USERS, "2026-03-02")
    assert drawn.filter(~pl.col("if_promising")).equals(few)
    with pytest.raises(ValidationError, match="promising is less than share"):
        Exploration.model_validate({**TOLD, "promising": 0.1})


def test_a_draw_does_not_depend_on_who_else_is_there() -> None:
    some = draw(TRIALS, USERS[::3], "2026-03-02")
    assert draw(TRIALS, USERS, "2026-03-02").join(some, on="user", how="semi").equals(some)


def test_chances_are_those_among_who_is_learned_from() -> None:
    # of nothing and the two ways by sms: .4 against .2 and .2
    assert TRIALS.chance("big", ("sms",)) == pytest.approx(0.25)
    assert TRIALS.chance("small", ("sms",)) == pytest.approx(0.25)
    assert TRIALS.chance("small", None) == pytest.approx(0.4)
    assert TRIALS.chance("big", ("push",)) == 0


@pytest.mark.parametrize("wrong", [{"nothing": 0}, {"nothing": 1}, {"share": 0}, {"ways": []}])
def test_what_cannot_be_compared_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Exploration.model_validate({**TOLD, **wrong})
    with pytest.raises(ValidationError, match="twice"):
        Exploration.model_validate({**TOLD, "ways": [TOLD["ways"][0]] * 2})  # type: ignore[index]  a list


def _goal(name: str) -> Goal:
    told = {
        "name": name,
        "outcome": "order",
        "audiences": ["all"],
        "base": "spend",
        "margin": 0.3,
        "lift": 0.1,
    }
    return Goal.model_validate(told)


def _benefit(name: str, touchpoints: list[str], goals: list[str]) -> Benefit:
    told = {"name": name, "cost_per_response": 1, "goals": goals, "touchpoints": touchpoints}
    return Benefit.model_validate(told)


def _recipe(**more: object) -> UpliftRecipe:
    return UpliftRecipe.model_validate({"name": "effect", "goal": "grow", "exploration": "trials", **more})


def _check(recipe: UpliftRecipe, *, exploration: Exploration = TRIALS, push: bool = True) -> None:
    small = _benefit("small", ["sms", "push"] if push else ["sms"], ["grow"])
    benefits = [_benefit("big", ["sms"], ["grow"]), small]
    check_uplift([recipe], [], [_goal("grow"), _goal("other")], benefits, [], [exploration])


def test_an_uplift_model_learns_the_ways_through_its_touchpoints() -> None:
    known: dict[str, Experiment] = {}
    assert treated_by(_recipe(), known, {"trials": TRIALS}) == ("big", "small")
    assert treated_by(_recipe(touchpoints=["push"]), known, {"trials": TRIALS}) == ("small",)
    _check(_recipe(touchpoints=["sms"]))


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(NotFound, match="exploration"):
        _check(_recipe(exploration="trails"))
    with pytest.raises(BadInput, match="draws for goal grow"):
        _check(_recipe(goal="other", touchpoints=["sms"]))
    with pytest.raises(BadInput, match="no way through"):
        _check(_recipe(touchpoints=["letter"]))
    with pytest.raises(NotFound, match="touchpoint"):
        _check(_recipe(touchpoints=["sms"]), push=False)
    with pytest.raises(ValidationError, match="either an experiment"):
        _recipe(benefit="big")
    with pytest.raises(ValidationError, match="touches needs exploration"):
        UpliftRecipe.model_validate({"name": "effect", "goal": "grow", "benefit": "big", "touches": True})


def test_where_most_rows_are_of_the_promising_the_average_is_nobodys_measure() -> None:
    more = TRIALS.model_copy(update={"promising": 0.3})
    for wrong, exploration in ((_recipe(touches=True), TRIALS), (_recipe(), more)):
        with pytest.raises(BadInput, match="trust = 'proven': is not shrunken"):
            _check(wrong, exploration=exploration)
        _check(wrong.model_copy(update={"trust": "shrunken"}), exploration=exploration)


def test_those_asked_about_may_all_miss_what_others_have() -> None:
    rng = np.random.default_rng(3)
    users = pl.DataFrame({"a": rng.normal(size=400), "gap": rng.normal(size=400)})
    users = users.with_columns(gap=pl.when(pl.col("a") > 0).then(pl.col("gap")))
    treated = rng.integers(0, 2, 400)
    fitted = Uplift(kind="t").fit(users, treated, rng.normal(size=400) + treated)
    asked = users.filter(pl.col("gap").is_null()).head(1)
    assert fitted.predict(asked).height == 1
