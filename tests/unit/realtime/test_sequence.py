"""Sessions from the log, and the policy that is credited with what comes later."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kernel.errors import BadInput, Unavailable
from kernel.learning import Action, Decision
from realtime.policy import Greedy
from realtime.sequence import WORTH, Sequential
from realtime.sessions import STAGE, STEP, SessionStep, placed, sessions_of
from realtime.vw import SquareCB

AT = datetime(2017, 10, 16, tzinfo=UTC)
NOW, LATER = Action(id="now", value=1.0), Action(id="later", value=0.5)
ACTIONS = (NOW, LATER)


def worth(_context: Mapping[str, Any], actions: Sequence[Action]) -> list[float]:
    return [3.0 if each.id == "later" else 1.0 for each in actions]


def row(session: str | None, minute: float, *, policy: str = "uniform", **context: Any) -> Any:
    decision = Decision(
        decision_id=f"d{minute}",
        user_id="u",
        moment="guidance",
        decided_at=AT + timedelta(minutes=minute),
        context=context,
        actions=("now", "later"),
        propensities=(0.5, 0.5),
        action="later",
        propensity=0.5,
        policy=policy,
        prices={},
        reason="",
    )
    return session, decision, ACTIONS, minute


def test_sessions_are_in_order_and_split_where_the_visit_was_over() -> None:
    log = [row("b", 5), row("a", 70), row("a", 1), row("a", 20), row("a", 101), row(None, 3)]
    sessions = sessions_of(log)
    assert [[step.reward for step in session] for session in sessions] == [[1, 20], [5], [70], [101]]
    assert [step.chosen for step in sessions[0]] == [1, 1]
    assert [(step.context[STAGE], step.context[STEP]) for step in sessions[0]] == [
        ("guidance", 0),
        ("guidance", 1),
    ]


def test_exactly_the_idle_time_does_not_split() -> None:
    assert len(sessions_of([row("a", 0), row("a", 30)])) == 1
    assert len(sessions_of([row("a", 0), row("a", 30.01)])) == 2


def test_defaults_that_no_policy_chose_are_left_out_and_the_callers_stage_stays() -> None:
    log = [row("a", 1, policy="default"), row("a", 2, **placed({"x": 1}, stage="basket", step=4))]
    ((step,),) = sessions_of(log)
    assert step.context == {"x": 1, STAGE: "basket", STEP: 4}


@pytest.mark.parametrize(
    ("chosen", "reward", "field"), [(2, 0.0, "chosen"), (-1, 0.0, "chosen"), (0, math.nan, "reward")]
)
def test_a_step_of_nonsense_is_refused(chosen: int, reward: float, field: str) -> None:
    with pytest.raises(BadInput) as caught:
        SessionStep(context={}, actions=ACTIONS, chosen=chosen, reward=reward)
    assert caught.value.field == field


def test_future_worth_joins_the_value_and_turns_the_choice() -> None:
    greedy = Greedy(epsilon=0.0)
    assert greedy.distribution({}, ACTIONS) == (1.0, 0.0)
    policy = Sequential(greedy, worth)
    assert policy.distribution({}, ACTIONS) == (0.0, 1.0)
    assert [each.value for each in policy.credited({}, ACTIONS)] == [0.0, 1.5]
    assert [each.features[WORTH] for each in policy.credited({}, ACTIONS)] == [-1.0, 1.0]
    assert policy.distribution({}, ()) == ()


def test_it_learns_reward_and_future_worth() -> None:
    """Both bring 1 at once; only the worth of what comes later tells them apart."""
    policy, plain = Sequential(SquareCB(bits=14), worth), SquareCB(bits=14)
    for turn in range(300):
        for learner in (policy, plain):
            learner.learn({"u": 1}, ACTIONS, turn % 2, 0.5, 1.0)
    assert policy.distribution({"u": 1}, ACTIONS)[1] > 0.9
    assert plain.distribution({"u": 1}, ACTIONS)[1] < 0.8


def test_saved_and_restored_and_foreign_states_refused() -> None:
    policy, other = (Sequential(SquareCB(bits=14), worth) for _ in range(2))
    policy.learn({"u": 1}, ACTIONS, 1, 0.5, 1.0)
    other.restore(policy.save())
    assert other.name == policy.name == "sequential-squarecb@1"
    assert other.distribution({"u": 1}, ACTIONS) == policy.distribution({"u": 1}, ACTIONS)
    with pytest.raises(Unavailable, match="not that of"):
        other.restore(SquareCB(bits=14).save())


@pytest.mark.parametrize("wrong", [[1.0], [1.0, math.nan]])
def test_a_worth_that_is_none_is_no_answer(wrong: list[float]) -> None:
    policy = Sequential(Greedy(), lambda _context, _actions: wrong)
    with pytest.raises(Unavailable, match="future worth"):
        policy.distribution({}, ACTIONS)


def test_a_lesson_of_nonsense_is_refused() -> None:
    policy = Sequential(Greedy(), worth)
    with pytest.raises(BadInput, match="chosen"):
        policy.learn({}, ACTIONS, 2, 0.5, 1.0)
