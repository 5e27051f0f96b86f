from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine

from kernel.clock import FixedClock
from kernel.errors import BadInput, NotFound, Unavailable
from kernel.learning import Action, Decision
from realtime.decide import NO_POLICY, decide
from realtime.moments import MOMENTS, DecisionRequest, Moment
from realtime.policy import Greedy, Uniform
from storage.decisions import SqlDecisionLog
from storage.tables import metadata

CLOCK = FixedClock(at=datetime(2017, 10, 16, 8, tzinfo=UTC))
COUPON = Action(id="coupon", value=3.0, cost=0.5, resource="coupons")
BANNER = Action(id="banner", value=0.4)
POPUP = Action(id="popup", value=1.0, cost=0.2)
PRICES = {"coupons": 1.9}


class Broken(Uniform):
    """A policy that answers what real learners have been seen to answer."""

    def __init__(self, answer: Sequence[float] | Exception) -> None:
        object.__setattr__(self, "answer", answer)

    def distribution(self, context: Any, actions: Any) -> tuple[float, ...]:
        answer = self.answer  # type: ignore[attr-defined]  # frozen: set above
        if isinstance(answer, Exception):
            raise answer
        return tuple(answer)


def ask(log: SqlDecisionLog, *actions: Action, **changes: Any) -> Decision:
    request = {"user_id": "42", "moment": "exit-intercept", "actions": actions or (COUPON, BANNER, POPUP)}
    settings: dict[str, Any] = {"policy": Uniform(), "prices": PRICES, "clock": CLOCK, "seed": 1}
    for name, value in changes.items():
        (settings if name in {*settings, "allowed", "moments", "new_id"} else request)[name] = value
    return decide(DecisionRequest.model_validate(request), log=log, **settings)


def test_it_is_in_the_log_before_it_is_answered(log: SqlDecisionLog) -> None:
    decision = ask(log, context={"basket": 31.5})
    assert log.find(decision.decision_id) == (decision, (COUPON, BANNER, POPUP))
    assert decision.actions == ("coupon", "banner", "popup")
    assert decision.propensities == pytest.approx((1 / 3,) * 3)
    assert decision.propensity == decision.propensities[decision.actions.index(decision.action)]
    assert (decision.policy, decision.prices, decision.degraded) == ("uniform", {"coupons": 1.9}, False)


def test_an_action_not_worth_its_price_is_dropped_and_the_reason_says_so(log: SqlDecisionLog) -> None:
    decision = ask(log, prices={"coupons": 2.5})
    assert decision.actions == ("banner", "popup")
    assert "coupon: value 3.00 does not exceed cost 0.50 + price 2.50" in decision.reason
    assert ask(log, prices={"coupons": 2.4999}).actions == ("coupon", "banner", "popup")


def test_a_price_below_zero_pays_for_a_floor(log: SqlDecisionLog) -> None:
    weak = COUPON.model_copy(update={"value": 0.1})
    assert ask(log, weak, prices={"coupons": -0.5}).action == "coupon"


@pytest.mark.parametrize("prices", [{}, {"coupons": math.nan}, {"coupons": math.inf}])
def test_a_resource_without_a_price_is_in_no_budget(log: SqlDecisionLog, prices: dict[str, float]) -> None:
    decision = ask(log, prices=prices)
    assert decision.actions == ("banner", "popup")
    assert "coupon: resource 'coupons' has no price today" in decision.reason


def test_what_is_free_and_claims_nothing_may_be_tried(log: SqlDecisionLog) -> None:
    assert ask(log, Action(id="x"), Action(id="y"), Action(id="z", value=-0.1)).actions == ("x", "y")


def test_the_policy_sees_the_price(log: SqlDecisionLog) -> None:
    greedy = Greedy(epsilon=0.0)
    assert ask(log, policy=greedy, prices={"coupons": 0.0}).action == "coupon"
    assert ask(log, policy=greedy, prices={"coupons": 1.9}).action == "popup"


@pytest.mark.parametrize("moment", list(MOMENTS))
def test_nothing_left_answers_the_default_of_the_moment(log: SqlDecisionLog, moment: str) -> None:
    decision = ask(log, COUPON, prices={"coupons": 9.0}, moment=moment)
    assert decision.action == MOMENTS[moment].default.id
    assert (decision.propensity, decision.propensities, decision.policy) == (1.0, (1.0,), NO_POLICY)
    assert decision.reason.startswith("nothing is left: coupon: value")
    assert not decision.degraded
    assert log.find(decision.decision_id) == (decision, (MOMENTS[moment].default,))


def test_what_is_forbidden_is_dropped(log: SqlDecisionLog) -> None:
    decision = ask(
        log, allowed=lambda user, action: f"{user} has opted out" if action.id == "popup" else None
    )
    assert decision.actions == ("coupon", "banner")
    assert "popup: 42 has opted out" in decision.reason


def test_consent_that_cannot_be_checked_fails_closed(log: SqlDecisionLog) -> None:
    def down(_user: str, action: Action) -> str | None:
        if action.id == "popup":
            raise Unavailable("the ledger does not answer")
        return None

    decision = ask(log, allowed=down)
    assert (decision.action, decision.degraded) == ("let_go", True)
    assert "the ledger does not answer" in decision.reason


@pytest.mark.parametrize(
    "answer",
    [
        (math.nan, 0.5, 0.5),
        (1.0,),
        (-0.5, 1.0, 0.5),
        (0.5, 0.5, 0.5),
        (math.inf, 0.0, 0.0),
        Unavailable("no learner"),
        ZeroDivisionError("oops"),
    ],
)
def test_a_policy_that_fails_degrades_to_the_default(log: SqlDecisionLog, answer: Any) -> None:
    decision = ask(log, policy=Broken(answer))
    assert (decision.action, decision.degraded, decision.propensity) == ("let_go", True, 1.0)
    assert "policy" in decision.reason
    assert log.find(decision.decision_id) is not None


def test_a_log_that_is_down_degrades_to_the_default(log: SqlDecisionLog, engine: Engine) -> None:
    metadata.drop_all(engine)
    for key in (None, "k"):
        decision = ask(log, idempotency_key=key)
        assert (decision.action, decision.degraded) == ("let_go", True)
        assert "the decision log is down" in decision.reason


def test_the_same_key_gets_the_same_answer_whatever_has_changed(log: SqlDecisionLog) -> None:
    first = ask(log, idempotency_key="k")
    assert [ask(log, idempotency_key="k", prices={}, seed=seed) for seed in range(9)] == [first] * 9


@pytest.mark.parametrize("other", [{"user_id": "43"}, {"moment": "guidance"}])
def test_a_key_of_another_user_or_moment_is_refused(log: SqlDecisionLog, other: dict[str, str]) -> None:
    ask(log, idempotency_key="k")
    with pytest.raises(BadInput, match="idempotency_key = 'k': was used before"):
        ask(log, idempotency_key="k", **other)


def test_the_draw_belongs_to_the_seed_and_the_decision(log: SqlDecisionLog, engine: Engine) -> None:
    def picks(seed: int) -> list[str]:
        metadata.drop_all(engine)
        metadata.create_all(engine)
        return [ask(log, seed=seed, new_id=lambda n=n: f"d{n}").action for n in range(25)]

    first = picks(1)
    assert set(first) == {"coupon", "banner", "popup"}
    assert picks(1) == first
    assert picks(2) != first


def test_the_moment_s_own_actions_are_taken_when_none_are_given(log: SqlDecisionLog) -> None:
    moments = {"guidance": Moment(default=Action(id="usual"), actions=(BANNER,))}
    assert ask(log, moment="guidance", actions=None, moments=moments).action == "banner"


@pytest.mark.parametrize("actions", [None, ()])
def test_no_action_at_all_is_bad_input(log: SqlDecisionLog, actions: Any) -> None:
    with pytest.raises(BadInput, match="actions"):
        ask(log, actions=actions)


def test_an_unknown_moment_is_not_found(log: SqlDecisionLog) -> None:
    with pytest.raises(NotFound, match=r"moment = 'guidence'.*did you mean 'guidance'"):
        ask(log, moment="guidence")


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": ""},
        {"user_id": "a\nb"},
        {"user_id": "\x00"},
        {"user_id": True},
        {"context": {"x": math.nan}},
        {"context": {"x": math.inf}},
        {"context": {"x": [1]}},
        {"actions": (BANNER, BANNER)},
        {"actions": ({"id": "x", "cost": -1},)},
        {"surprise": 1},
    ],
)
def test_a_bad_request_is_refused_at_birth(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DecisionRequest.model_validate(
            {"user_id": "42", "moment": "guidance", "actions": (BANNER,), **change}
        )


def test_a_number_is_a_user_too() -> None:
    assert DecisionRequest(user_id=42, moment="guidance").user_id == "42"  # type: ignore[arg-type]


def test_a_default_that_costs_is_no_default() -> None:
    with pytest.raises(ValidationError, match="must have no cost"):
        Moment(default=COUPON)
