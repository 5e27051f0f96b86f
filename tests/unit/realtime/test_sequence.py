"""Sessions from the log, and the policy that is credited with what comes later."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kernel.errors import BadInput, Unavailable
from kernel.learning import Action, Decision
from realtime.policy import Greedy
from realtime.sequence import WORTH, Sequential, no_worth
from realtime.sessions import STAGE, STEP, SessionStep, one_each, placed, sessions_of
from realtime.vw import SquareCB

AT = datetime(2017, 10, 16, tzinfo=UTC)
NOW, LATER = Action(id="now", value=1.0), Action(id="later", value=0.5)
ACTIONS = (NOW, LATER)
#: somewhere in a session
THERE = placed({"u": 1}, stage="basket", step=0)


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
    assert greedy.distribution(THERE, ACTIONS) == (1.0, 0.0)
    policy = Sequential(greedy, worth)
    assert policy.distribution(THERE, ACTIONS) == (0.0, 1.0)
    assert [each.value for each in policy.credited(THERE, ACTIONS)] == [0.0, 1.5]
    assert [each.features[WORTH] for each in policy.credited(THERE, ACTIONS)] == [-1.0, 1.0]
    assert policy.distribution(THERE, ()) == ()


def test_it_learns_reward_and_future_worth() -> None:
    """Both bring 1 at once; only the worth of what comes later tells them apart."""
    policy, plain = Sequential(SquareCB(bits=14), worth), SquareCB(bits=14)
    for turn in range(300):
        for learner in (policy, plain):
            learner.learn(THERE, ACTIONS, turn % 2, 0.5, 1.0)
    assert policy.distribution(THERE, ACTIONS)[1] > 0.9
    assert plain.distribution(THERE, ACTIONS)[1] < 0.8


def test_saved_and_restored_and_foreign_states_refused() -> None:
    policy, other = (Sequential(SquareCB(bits=14), worth) for _ in range(2))
    policy.learn(THERE, ACTIONS, 1, 0.5, 1.0)
    other.restore(policy.save())
    assert other.name == policy.name == "sequential-squarecb@1"
    assert other.distribution(THERE, ACTIONS) == policy.distribution(THERE, ACTIONS)
    with pytest.raises(Unavailable, match="not that of"):
        other.restore(SquareCB(bits=14).save())


@pytest.mark.parametrize("wrong", [[1.0], [1.0, math.nan]])
def test_a_worth_that_is_none_is_no_answer(wrong: list[float]) -> None:
    policy = Sequential(Greedy(), lambda _context, _actions: wrong)
    with pytest.raises(Unavailable, match="future worth"):
        policy.distribution(THERE, ACTIONS)


def test_a_lesson_of_nonsense_is_refused() -> None:
    policy = Sequential(Greedy(), worth)
    with pytest.raises(BadInput, match="chosen"):
        policy.learn(THERE, ACTIONS, 2, 0.5, 1.0)


def test_outside_a_session_nothing_comes_later() -> None:
    policy = Sequential(Greedy(epsilon=0.0), worth)
    assert policy.distribution({"u": 1}, ACTIONS) == (1.0, 0.0)
    assert [each.value for each in policy.credited({"u": 1}, ACTIONS)] == [1.0, 0.5]


def loaded(kept: bytes) -> Callable[..., list[float]]:
    if kept != b"later":
        raise Unavailable("is no worth")
    return worth


def keeping(*, fitted: bool) -> Sequential:
    return Sequential(
        SquareCB(bits=14), worth if fitted else no_worth, kept=b"later" if fitted else b"", load=loaded
    )


def test_a_state_holds_the_worth_where_it_can_be_opened() -> None:
    policy, other, ahead = keeping(fitted=True), keeping(fitted=False), keeping(fitted=False)
    for turn in range(50):
        policy.learn(THERE, ACTIONS, turn % 2, 0.5, 1.0)
    assert other.credited(THERE, ACTIONS)[1].value == 0.5
    state = policy.save()
    other.restore(state)
    assert other.distribution(THERE, ACTIONS) == policy.distribution(THERE, ACTIONS)
    again = keeping(fitted=False)
    again.restore(other.save())
    assert again.distribution(THERE, ACTIONS) == policy.distribution(THERE, ACTIONS)
    ahead.foresee(state)
    assert ahead.name == "sequential-squarecb@0"
    assert ahead.credited(THERE, ACTIONS)[1].value == 1.5
    assert keeping(fitted=False).name == ahead.name


def test_a_worth_that_cannot_be_opened_is_refused_and_changes_nothing() -> None:
    policy, other = keeping(fitted=True), keeping(fitted=False)
    state = policy.save()
    flipped = state.replace(b"later", b"laten")
    assert flipped != state
    for bad in (flipped, state[:30], Sequential(SquareCB(bits=14), worth, kept=b"x", load=loaded).save()):
        for take in (other.restore, other.foresee):
            with pytest.raises(Unavailable):
                take(bad)
    with pytest.raises(Unavailable, match="nothing opens it"):
        Sequential(SquareCB(bits=14), worth).restore(state)
    assert other.credited(THERE, ACTIONS)[1].value == 0.5


def test_one_decision_of_each_session_with_what_still_came() -> None:
    log = [row("a", 1), row("a", 2), row("a", 4), row("b", 8), row("a", 64), row(None, 16), row(None, 32)]
    for _ in range(2):
        found = one_each([*log, row("b", 9, policy="default")])
        assert [reward for *_, reward in found][1:] == [8, 16, 32, 64]
        assert found[0][2] in (1 + 2 + 4, 2 + 4, 4)
        assert {1: 7, 2: 6, 4: 4}[int(found[0][0].decision_id[1:])] == found[0][2]
        log.reverse()
    many = one_each([row(f"s{number}", number * 100 + minute) for number in range(90) for minute in range(3)])
    drawn = [round(float(decision.decision_id[1:])) % 100 for decision, *_ in many]
    assert all(15 < drawn.count(place) < 45 for place in range(3))
