from __future__ import annotations

from typing import Any

import pytest

from kernel.definitions import parse
from kernel.errors import BadInput
from kernel.learning import Action
from realtime.moment_definitions import MomentDefinition, moments, rewards
from realtime.moments import MOMENTS
from realtime.rewards import ELSEWHERE, NET_VALUE, RewardRule

SAID: dict[str, Any] = {
    "kind": "moment",
    "name": "unboxing",
    "safe_default": "plain_card",
    "actions": [
        {"id": "coupon", "features": {"percent": 10}, "value": 3.0, "cost": 0.5, "resource": "coupons"},
        {"id": "guide", "features": {"kind": "video"}},
    ],
    "groups": ["lapsed"],
    "reward": "margin",
}


def defined(**changes: Any) -> MomentDefinition:
    return parse(MomentDefinition, {**SAID, **changes}, "moments.yaml")


def test_what_was_written_is_what_decisions_are_made_by() -> None:
    found = moments([defined()])
    assert set(found) == {*MOMENTS, "unboxing"}
    unboxing = found["unboxing"]
    assert unboxing.default == Action(id="plain_card")
    assert [each.id for each in unboxing.actions] == ["coupon", "guide"]
    assert unboxing.actions[0].resource == "coupons"
    assert unboxing.groups == ("lapsed",)


def test_the_built_in_ones_stay_and_can_be_made_over() -> None:
    found = moments([defined(name="conversion", safe_default={"id": "as_ever", "features": {"a": 1}})])
    assert set(found) == set(MOMENTS)
    assert found["conversion"].default == Action(id="as_ever", features={"a": 1})
    assert found["guidance"] == MOMENTS["guidance"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"safe_default": {"id": "x", "cost": 1.0}}, "default 'x' must have no cost, resource or channel"),
        ({"safe_default": ""}, "moments.yaml: safe_default.id"),
        ({"actions": [{"id": "a"}, {"id": "a"}]}, "action 'a' is there twice"),
        ({"actions": [{"id": "a", "cost": -1}]}, "actions.0.cost = -1"),
        ({"groups": ["not a name"]}, "groups.0 = 'not a name'"),
        ({"colour": "red"}, "colour = 'red': is not a known field here"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        defined(**changes)


def test_a_moment_is_judged_by_the_reward_that_it_names() -> None:
    margin, everywhere = RewardRule(name="margin", within="2h"), RewardRule(name="all", moments=())
    only = RewardRule(name="only", moments=("guidance",), within="1h")
    plain = defined(name="other", reward=None, groups=[])
    found = rewards([margin, only], [defined(), plain])
    assert found["unboxing"].name == "margin"
    assert found["guidance"].name == "only"
    assert found[ELSEWHERE].name == "margin"
    named = rewards([only, everywhere], [defined(reward="only")])
    assert (named["unboxing"].name, named["guidance"].name) == ("only", "only")
    assert named[ELSEWHERE].name == "all"
    assert rewards([], [plain]) == {ELSEWHERE: NET_VALUE}


@pytest.mark.parametrize(
    ("changes", "rules", "sentence"),
    [
        ({"reward": "margins"}, ["margin"], "unboxing: reward = 'margins': unknown reward; did you mean"),
        ({"groups": ["lapsd"]}, ["margin"], "unboxing: groups = 'lapsd': unknown group; did you mean"),
        ({}, ["margin", "for unboxing"], "moment 'unboxing' has its reward from"),
        ({"reward": None}, ["for nowhere"], "is none of the moments"),
    ],
)
def test_names_that_do_not_fit_are_refused(changes: dict[str, Any], rules: list[str], sentence: str) -> None:
    known = {
        "margin": RewardRule(name="margin", moments=("guidance",)),
        "for unboxing": RewardRule(name="other", moments=("unboxing",)),
        "for nowhere": RewardRule(name="other", moments=("nowhere",)),
    }
    with pytest.raises(BadInput, match=sentence):
        rewards([known[each] for each in rules], [defined(**changes)], groups={"lapsed"})
