"""Tasks come only from what fits together; every name that nothing answers to is said."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from kernel.errors import BadInput, NotFound
from kernel.work import Benefit, Content, Goal, Touchpoint
from planner.api import Resources, compose

DAY = date(2017, 10, 16)
AUDIENCES = ("stage:lapsed", "families")


def goal(name: str = "win_back", **changed: Any) -> Goal:
    fields: dict[str, Any] = {
        "audiences": ("stage:lapsed", "families"),
        "outcome": "order",
        "base": "spend_lost",
        "margin": 0.25,
        "lift": 0.2,
    }
    return Goal(name=name, **fields | changed)


def benefit(name: str = "coupon", **changed: Any) -> Benefit:
    fields: dict[str, Any] = {"goals": ("win_back",), "touchpoints": ("letter",), "cost_per_response": 2.0}
    return Benefit(name=name, **fields | changed)


def touchpoint(name: str = "letter", **changed: Any) -> Touchpoint:
    fields: dict[str, Any] = {"channel": "mail", "cost_per_touch": 0.5}
    return Touchpoint(name=name, **fields | changed)


def content(name: str = "hello", **changed: Any) -> Content:
    fields: dict[str, Any] = {"goals": ("win_back",), "touchpoints": ("letter",)}
    return Content(name=name, **fields | changed)


def resources(**changed: Any) -> Resources:
    whole: dict[str, Any] = {
        "goals": (goal(),),
        "benefits": (benefit(),),
        "touchpoints": (touchpoint(),),
        "contents": (content(),),
    }
    return Resources(**whole | changed)


def test_one_task_an_audience_and_its_name_says_what_it_is() -> None:
    composed = compose(resources(), DAY)
    assert [task.name for task in composed.tasks] == [
        "win_back.coupon.letter.lapsed",
        "win_back.coupon.letter.families",
    ]
    first = composed.tasks[0]
    assert (first.goal, first.benefit, first.touchpoint) == ("win_back", "coupon", "letter")
    assert (first.audience, first.channel, first.content) == ("stage:lapsed", "mail", "hello")
    assert composed.idle == ()


@pytest.mark.parametrize(
    "broken",
    [
        {"benefits": (benefit(goals=("retain",)),)},
        {"benefits": (benefit(touchpoints=("sms",)),)},
        {"contents": (content(goals=("retain",)),)},
        {"contents": (content(touchpoints=("sms",)),)},
        {"contents": (content(goals=("retain",)), content("other", touchpoints=("sms",)))},
        {"contents": ()},
        {"touchpoints": ()},
        {"goals": ()},
    ],
    ids=lambda broken: str(next(iter(broken))),
)
def test_each_rule_of_compatibility_binds(broken: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"coupon: no goal, touchpoint and content fit together"):
        compose(resources(**broken), DAY)


def test_nothing_defined_is_said() -> None:
    with pytest.raises(BadInput, match="no benefit is defined"):
        compose(resources(benefits=()), DAY)


def test_every_fitting_combination_is_composed_once() -> None:
    known = resources(
        goals=(goal(), goal("retain", audiences=("families",))),
        benefits=(benefit("points", goals=("win_back", "retain"), touchpoints=("letter", "sms")), benefit()),
        touchpoints=(touchpoint(), touchpoint("sms", channel="sms")),
        contents=(
            content(),
            content("b_words", goals=("win_back", "retain"), touchpoints=("sms",)),
            content("a_words", goals=("retain",), touchpoints=("sms",)),
        ),
    )
    found = {task.name: task.content for task in compose(known, DAY).tasks}
    assert found == {
        "win_back.coupon.letter.lapsed": "hello",
        "win_back.coupon.letter.families": "hello",
        "win_back.points.letter.lapsed": "hello",
        "win_back.points.letter.families": "hello",
        "win_back.points.sms.lapsed": "b_words",
        "win_back.points.sms.families": "b_words",
        "retain.points.sms.families": "a_words",  # of two that fit, the first by name
    }


@pytest.mark.parametrize(
    ("dates", "reason"),
    [
        ({"valid_from": date(2017, 10, 17)}, "valid from 2017-10-17"),
        ({"valid_to": date(2017, 10, 15)}, "valid until 2017-10-15"),
    ],
)
def test_a_benefit_out_of_its_dates_is_idle(dates: dict[str, date], reason: str) -> None:
    composed = compose(resources(benefits=(benefit("always"), benefit("dated", **dates))), DAY)
    assert {task.benefit for task in composed.tasks} == {"always"}
    assert composed.idle == (("dated", reason),)


def test_the_first_and_the_last_day_belong_to_the_benefit() -> None:
    only = benefit(valid_from=DAY, valid_to=DAY)
    assert compose(resources(benefits=(only,)), DAY).tasks


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"goals": (goal(audiences=("familes",)),)},
            "goal win_back: audiences = 'familes': unknown audience; did you mean 'families'?",
        ),
        (
            {"benefits": (benefit(goals=("winback",)),)},
            "benefit coupon: goals = 'winback': unknown goal; did you mean 'win_back'?",
        ),
        (
            {"benefits": (benefit(touchpoints=("sms",)),)},
            "benefit coupon: touchpoints = 'sms': unknown touchpoint; known: letter",
        ),
        (
            {"contents": (content(goals=("x",)),)},
            "content hello: goals = 'x': unknown goal; known: win_back",
        ),
        (
            {"contents": (content(touchpoints=("leter",)),)},
            "content hello: touchpoints = 'leter': unknown touchpoint; did you mean 'letter'?",
        ),
    ],
)
def test_unknown_names_say_definition_and_field(changed: dict[str, Any], said: str) -> None:
    resources().check(AUDIENCES)
    with pytest.raises(NotFound) as error:
        resources(**changed).check(AUDIENCES)
    assert str(error.value) == said
