"""What a person wrote wrongly is named by place, field and value; rules that contradict are refused."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from pydantic import BaseModel

from kernel.choices import Limit, Limits, PerUser
from kernel.definitions import parse
from kernel.errors import BadInput
from kernel.work import Benefit, Goal, Touchpoint

GOAL = {
    "kind": "goal",
    "name": "win_back",
    "outcome": "order",
    "audiences": ["all"],
    "base": "spend",
    "margin": 0.3,
    "lift": 0.1,
}


def said(model: type[BaseModel], raw: object) -> str:
    with pytest.raises(BadInput) as error:
        parse(model, raw, "goals.yaml")
    return str(error.value)


def test_a_whole_definition_is_read_and_frozen() -> None:
    goal = parse(Goal, GOAL, "goals.yaml")
    assert (goal.name, goal.window, goal.title) == ("win_back", "56d", "win back")
    assert goal.model_copy(update={"label": "Win back!"}).title == "Win back!"
    with pytest.raises(Exception, match="frozen"):
        goal.name = "other"


@pytest.mark.parametrize("missing", ["name", "outcome", "base", "margin"])
def test_a_missing_field_is_named(missing: str) -> None:
    raw = {key: value for key, value in GOAL.items() if key != missing}
    assert said(Goal, raw) == f"goals.yaml: {missing}: is required and missing"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"marginn": 1}, "goals.yaml: marginn = 1: is not a known field here"),
        ({"margin": "much"}, "goals.yaml: margin = 'much': input should be a valid number"),
        ({"margin": 1.5}, "goals.yaml: margin = 1.5: input should be less than or equal to 1"),
        ({"margin": float("nan")}, "goals.yaml: margin = nan: input should be"),
        ({"lift": -0.1}, "goals.yaml: lift = -0.1: input should be greater than or equal to 0"),
        ({"audiences": "all"}, "goals.yaml: audiences = 'all': input should be a valid tuple"),
        ({"base": "spent"}, "goals.yaml: base = 'spent': input should be 'spend'"),
        ({"name": "1st goal"}, "goals.yaml: name = '1st goal': is not a name"),
        ({"name": "x" * 101}, "is not a name"),
        ({"kind": "gaol"}, "goals.yaml: kind = 'gaol': input should be 'goal'"),
    ],
)
def test_a_wrong_field_is_named_with_its_value(changed: dict[str, Any], message: str) -> None:
    assert message in said(Goal, GOAL | changed)


def test_a_goal_without_audiences_is_one_for_rules_only() -> None:
    raw = {key: value for key, value in GOAL.items() if key != "audiences"}
    assert parse(Goal, raw, "goals.yaml").audiences == ()


def test_a_window_that_is_none_is_said_once() -> None:
    with pytest.raises(BadInput, match=r"'soon'.*is not a window such as 90d"):
        parse(Goal, GOAL | {"window": "soon"}, "goals.yaml")


@pytest.mark.parametrize("raw", [None, [], "goal", 3])
def test_what_is_no_mapping_is_said(raw: object) -> None:
    assert "is not a mapping of names to values" in said(Goal, raw)


def test_a_long_value_is_cut() -> None:
    assert len(said(Goal, GOAL | {"margin": "x" * 5000})) < 250


def test_dates_and_hours_in_order() -> None:
    benefit = {"name": "b", "cost_per_response": 1, "goals": ["g"], "touchpoints": ["t"]}
    dated = benefit | {"valid_from": "2017-02-01", "valid_to": "2017-01-01"}
    assert "valid_from is after valid_to" in said(Benefit, dated)
    assert "cost_per_response = -1" in said(Benefit, benefit | {"cost_per_response": -1})
    for hours in ([20, 9], [9, 9], [0, 25], [-1, 5]):
        raw = {"name": "t", "channel": "mail", "cost_per_touch": 0, "hours": hours}
        assert "hours are not [from, to) within 0 and 24" in said(Touchpoint, raw)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"max_tasks": -1}, "max_tasks = -1"),
        ({"max_tasks": 1, "min_tasks": 2}, "min_tasks 2 is above max_tasks 1"),
        ({"max_by": {"channel": {"sms": -1}}}, "max_by channel sms = -1 is negative"),
        ({"never_together": [["a"]]}, "never_together needs two different tasks"),
        ({"never_together": [["a", "a"]]}, "never_together needs two different tasks"),
    ],
)
def test_rules_that_contradict_are_refused(rules: dict[str, Any], message: str) -> None:
    assert message in said(PerUser, rules)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({}, "needs at_most or at_least"),
        ({"at_most": 1, "at_least": 2}, "at_least 2.0 is above at_most 1.0"),
        ({"at_most": -1}, "at_most -1.0 is negative, and a count cannot be"),
        ({"at_most": float("inf")}, "at_most = inf"),
        ({"at_most": 1, "name": ""}, "is not a name"),
    ],
)
def test_limits_that_say_nothing_or_nonsense_are_refused(limit: dict[str, Any], message: str) -> None:
    assert message in said(Limit, {"name": "budget"} | limit)


def test_limits_that_make_sense_are_kept() -> None:
    assert Limit(name="a", at_most=0).at_most == 0
    assert Limit(name="a", at_least=2, at_most=2).at_least == 2
    assert Limit(name="a", sum="profit", at_most=-5).at_most == -5  # a sum may be negative


def test_two_limits_of_one_name_are_refused() -> None:
    pair = [{"name": "budget", "at_most": 1}, {"name": "budget", "at_most": 2}]
    assert "limit 'budget' is named twice" in said(Limits, {"limits": pair})
    assert "limits.0.at_mots = 1: is not a known field" in said(
        Limits, {"limits": [{"name": "b", "at_mots": 1}]}
    )


def test_what_was_pickled_before_a_field_was_there_has_its_default() -> None:
    goal = Goal(
        name="grow", outcome="order", audiences=("all",), base="spend", margin=0.5, lift=0.1, least_value=2
    )
    vars(goal).pop("least_value")
    assert pickle.loads(pickle.dumps(goal)).least_value == 0.0  # noqa: S301  our own
    kept = goal.model_copy(update={"least_value": 2.0})
    assert pickle.loads(pickle.dumps(kept)) == kept  # noqa: S301  our own
