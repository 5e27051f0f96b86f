from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kernel.clock import FixedClock
from kernel.errors import BadInput, NotFound, Stale
from kernel.learning import Action
from realtime.decide import decide
from realtime.moments import DecisionRequest
from realtime.outcomes import SKEW, OutcomeReport, learn_due, net_value, observe, restore_newest
from realtime.policy import Policy, Uniform
from realtime.vw import SquareCB
from storage.decisions import SqlDecisionLog

AT = datetime(2017, 10, 16, 8, tzinfo=UTC)
WINDOW = timedelta(minutes=30)
OVER = FixedClock(at=AT + WINDOW + SKEW)
ACTIONS = (Action(id="coupon", value=3.0, cost=0.5), Action(id="banner", value=0.4))


def choose(log: SqlDecisionLog, number: int = 0, policy: Policy | None = None, value: float = 3.0) -> str:
    actions = (ACTIONS[0].model_copy(update={"value": value}), *ACTIONS[1:]) if value > 0 else ACTIONS[:1]
    return decide(
        DecisionRequest(user_id=f"u{number}", moment="guidance", actions=actions, context={"n": number}),
        policy=policy or SquareCB(bits=12),
        prices={},
        log=log,
        clock=FixedClock(at=AT),
        seed=1,
        allowed=lambda _user, _action: None if value > 0 else "no consent",
        new_id=lambda: f"d{number}",
    ).decision_id


def report(
    log: SqlDecisionLog, decision_id: str = "d0", after: timedelta = timedelta(), **changes: Any
) -> str:
    body = {"outcome_id": "o1", "decision_id": decision_id, "name": "order", "value": 4.0}
    outcome = OutcomeReport.model_validate({**body, "occurred_at": AT + after, **changes})
    return observe(outcome, log=log, clock=FixedClock(at=AT + timedelta(days=1)), window=WINDOW)


def learn(log: SqlDecisionLog, policy: SquareCB, clock: FixedClock = OVER, **changes: Any) -> Any:
    return learn_due(policy, log=log, clock=clock, window=WINDOW, **changes)


def test_the_window_is_closed_at_its_end(log: SqlDecisionLog) -> None:
    choose(log)
    tick = timedelta(microseconds=1)
    assert report(log, after=WINDOW) == "counted"
    assert report(log, after=WINDOW + tick, outcome_id="o2") == "late"


def test_a_repeated_outcome_changes_nothing(log: SqlDecisionLog) -> None:
    choose(log)
    assert [report(log), report(log, value=99.0)] == ["counted", "repeated"]
    assert log.due(AT, 9)[0][2] == [("order", 4.0)]


def test_an_outcome_of_an_unknown_decision_is_not_found(log: SqlDecisionLog) -> None:
    with pytest.raises(NotFound, match="decision_id = 'd9': unknown decision"):
        report(log, "d9")


@pytest.mark.parametrize("after", [-SKEW - timedelta(seconds=1), timedelta(days=1, minutes=6)])
def test_a_time_before_the_decision_or_to_come_is_refused(log: SqlDecisionLog, after: timedelta) -> None:
    choose(log)
    with pytest.raises(BadInput, match="occurred_at"):
        report(log, after=after)
    assert report(log, after=-SKEW) == "counted"


def test_the_reward_is_value_less_cost(log: SqlDecisionLog) -> None:
    choose(log)
    decision, actions, _ = log.due(AT, 9)[0]
    assert net_value(decision, actions[0], [("order", 4.0), ("return", -1.0)]) == 2.5
    assert net_value(decision, actions[0], []) == -0.5


def test_nothing_is_learned_before_its_window_is_over(log: SqlDecisionLog) -> None:
    choose(log)
    policy = SquareCB(bits=12)
    early = FixedClock(at=OVER.at - timedelta(microseconds=1))
    assert learn(log, policy, early).decisions == 0
    assert learn(log, policy).decisions == 1


def test_each_decision_is_learned_from_once_with_what_counted(log: SqlDecisionLog) -> None:
    for number in range(6):
        choose(log, number)
    report(log, "d0", value=4.0)
    report(log, "d0", value=1.0, outcome_id="o2")
    report(log, "d1", value=9.0, outcome_id="o3", after=WINDOW * 2)
    costs = sum(
        {each.id: each.cost for each in actions}[decision.action] for decision, actions, _ in log.due(AT, 9)
    )
    policy = SquareCB(bits=12)
    lesson = learn(log, policy)
    assert (lesson.decisions, lesson.policy) == (6, "squarecb@6")
    assert lesson.reward == pytest.approx(5.0 - costs)
    assert learn(log, policy).decisions == 0
    assert policy.name == "squarecb@6"
    assert report(log, "d0", outcome_id="o4") == "late"


def test_a_choice_of_no_policy_is_passed_over(log: SqlDecisionLog) -> None:
    choose(log, value=0.0)
    policy = SquareCB(bits=12)
    assert learn(log, policy).decisions == 1
    assert policy.name == "squarecb@0"
    assert learn(log, policy).decisions == 0


def test_a_learner_that_dies_and_starts_again_loses_and_doubles_nothing(log: SqlDecisionLog) -> None:
    for number in range(8):
        choose(log, number)
        report(log, f"d{number}", outcome_id=f"o{number}", value=float(number))
    steady, first, second = SquareCB(bits=12), SquareCB(bits=12), SquareCB(bits=12)
    for decision, actions, outcomes in log.due(AT, 9):
        chosen = decision.actions.index(decision.action)
        reward = net_value(decision, actions[chosen], outcomes)
        steady.learn(decision.context, actions, chosen, decision.propensity, reward)
    learn(log, first, limit=5)
    assert restore_newest(second, log)
    assert learn(log, second).decisions == 3
    assert second.name == steady.name == "squarecb@8"
    for number in range(20):
        context = {"n": number}
        assert second.distribution(context, ACTIONS) == steady.distribution(context, ACTIONS)


def test_a_learner_that_is_behind_learns_on_from_the_newest_state(log: SqlDecisionLog) -> None:
    choose(log, 0)
    learn(log, SquareCB(bits=12))
    choose(log, 1)
    behind = SquareCB(bits=12)
    learn(log, behind)
    assert behind.name == "squarecb@2"


def test_what_fails_leaves_the_policy_as_it_was(log: SqlDecisionLog) -> None:
    choose(log, 0)
    choose(log, 1)
    policy = SquareCB(bits=12)

    def rival_learns_meanwhile(*_: Any) -> float:
        other = SquareCB(bits=12)
        if log.snapshot("squarecb") is None:
            learn(log, other)
        return 1.0

    before = policy.distribution({}, ACTIONS)
    with pytest.raises(Stale):
        learn(log, policy, reward=rival_learns_meanwhile)
    assert policy.name == "squarecb@0"
    assert policy.distribution({}, ACTIONS) == before


def test_without_a_kept_state_nothing_is_restored(log: SqlDecisionLog) -> None:
    assert not restore_newest(SquareCB(bits=12), log)


def test_a_policy_that_does_not_learn_marks_all_the_same(log: SqlDecisionLog) -> None:
    choose(log, policy=Uniform())
    assert learn_due(Uniform(), log=log, clock=OVER, window=WINDOW).decisions == 1
    assert learn_due(Uniform(), log=log, clock=OVER, window=WINDOW).decisions == 0
