"""Apprentice and shadow: the rule decides, the learner watches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from kernel.errors import BadInput, Unavailable
from kernel.learning import Action, Decision
from realtime.apprentice import Apprentice
from realtime.outcomes import family
from realtime.policy import Greedy, Uniform
from realtime.shadow import shadow, shadow_report
from realtime.vw import SquareCB

A, B, C = (Action(id=each, value=value) for each, value in (("a", 0.0), ("b", 1.0), ("c", 0.5)))
ACTIONS = (A, B, C)


class BySegment:
    """A rule: `a` for new users, `b` for others."""

    name = "rule@1"

    def distribution(self, context: Any, actions: Sequence[Action]) -> tuple[float, ...]:
        wanted = "a" if context["new"] else "b"
        return tuple(float(each.id == wanted) for each in actions)

    def learn(self, *_: Any) -> None: ...


def made(**changes: Any) -> Apprentice:
    return Apprentice(BySegment(), SquareCB(bits=14), **{"live_at": 0.9, "window": 50, **changes})


def teach(policy: Apprentice, rounds: int, seed: int = 1) -> Apprentice:
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        context = {"new": bool(rng.integers(2))}
        distribution = policy.distribution(context, ACTIONS)
        chosen = int(rng.choice(3, p=distribution))
        policy.learn(context, ACTIONS, chosen, distribution[chosen], 0.0)
    return policy


def test_the_rule_decides_until_the_apprentice_agrees_and_then_it_goes_live() -> None:
    policy = made()
    for context in ({"new": True}, {"new": False}):
        assert policy.distribution(context, ACTIONS) == BySegment().distribution(context, ACTIONS)
    teach(policy, 49)
    assert not policy.agreement.live
    assert policy.agreement.decisions == 49
    assert policy.name == "apprentice@49"
    teach(policy, 200, seed=2)
    assert policy.agreement.live
    assert policy.name.startswith("apprentice@live-squarecb@")
    assert family(policy.name) == family(made().name)  # who follows it goes on following
    for new, place in ((True, 0), (False, 1)):
        live = policy.distribution({"new": new}, ACTIONS)
        assert max(range(3), key=lambda each: live[each]) == place
        assert min(live) > 0  # it explores now


def test_one_that_cannot_follow_the_rule_never_goes_live() -> None:
    """The rule goes by what the learner cannot see."""

    class ByTurn(BySegment):
        turn = 0

        def distribution(self, context: Any, actions: Sequence[Action]) -> tuple[float, ...]:
            self.turn += 1
            return tuple(float(place == self.turn % 3) for place in range(len(actions)))

    policy = Apprentice(ByTurn(), SquareCB(bits=14), live_at=0.9, window=50)
    for _ in range(300):
        policy.learn({"new": True}, ACTIONS, 0, 1.0, 0.0)
    assert policy.agreement.share < 0.7
    assert not policy.agreement.live


def test_live_it_learns_from_rewards() -> None:
    policy = teach(made(), 300)
    assert policy.agreement.live
    for turn in range(600):
        policy.learn({"new": True}, ACTIONS, turn % 3, 1 / 3, 5.0 * (turn % 3 == 2))
    assert policy.distribution({"new": True}, ACTIONS)[2] > 0.8


@pytest.mark.parametrize("rounds", [30, 300])
def test_saved_and_restored_it_goes_on_alike(rounds: int) -> None:
    policy, other = teach(made(), rounds), made()
    other.restore(policy.save())
    assert (other.name, other.agreement) == (policy.name, policy.agreement)
    teach(policy, 40, seed=3)
    teach(other, 40, seed=3)
    assert (other.name, other.agreement) == (policy.name, policy.agreement)
    for new in (True, False):
        assert other.distribution({"new": new}, ACTIONS) == policy.distribution({"new": new}, ACTIONS)


def test_foreign_and_damaged_states_are_refused_and_change_nothing() -> None:
    policy = teach(made(), 30)
    state, before = policy.save(), policy.agreement
    flipped = state.replace(b'"live": false', b'"live": true ')
    assert flipped != state
    for bad in (b"", SquareCB(bits=14).save(), state[:-1], state[:30], flipped, made(live_at=0.8).save()):
        with pytest.raises(Unavailable):
            policy.restore(bad)
    assert policy.agreement == before


@pytest.mark.parametrize("wrong", [{"live_at": 0.0}, {"live_at": 1.1}, {"window": 0}, {"praise": math.nan}])
def test_settings_of_nonsense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        made(**wrong)


DECISION = Decision(
    decision_id="d1",
    user_id="u",
    moment="guidance",
    decided_at=datetime(2017, 10, 16, tzinfo=UTC),
    context={"new": True},
    actions=("a", "b", "c"),
    propensities=(0.5, 0.25, 0.25),
    action="c",
    propensity=0.25,
    policy="squarecb@3",
    prices={},
    reason="",
)


def test_a_shadow_says_what_it_would_have_done() -> None:
    ruled = shadow(DECISION, ACTIONS, BySegment())
    assert ruled is not None
    assert (ruled.decision_id, ruled.policy, ruled.propensities) == ("d1", "rule@1", (1.0, 0.0, 0.0))
    assert (ruled.agrees, ruled.distance) == (True, 0.5)
    greedy = shadow(DECISION, ACTIONS, Greedy(epsilon=0.0))
    assert greedy is not None
    assert (greedy.agrees, greedy.distance) == (False, 0.75)


def test_the_shadow_sees_the_prices_that_were_paid() -> None:
    dear = (A, B.model_copy(update={"resource": "coupons"}), C)
    priced = replace(DECISION, prices={"coupons": 0.8})
    greedy = shadow(priced, dear, Greedy(epsilon=0.0))
    assert greedy is not None
    assert greedy.propensities == (0.0, 0.0, 1.0)


def test_a_shadow_that_fails_breaks_nothing() -> None:
    class Broken(BySegment):
        def distribution(self, context: Any, actions: Sequence[Action]) -> tuple[float, ...]:
            return (0.5,)

    broken = shadow(DECISION, ACTIONS, Broken())
    assert broken is not None
    assert "gave 1 probabilities" in broken.failure
    nameless = shadow(replace(DECISION, context={}), ACTIONS, BySegment())
    assert nameless is not None
    assert nameless.failure
    report = shadow_report(
        [broken, nameless, *(each for each in [shadow(DECISION, ACTIONS, Uniform())] if each)]
    )
    assert (report.decisions, report.failures, report.agreement) == (3, 2, 1.0)
    assert report.distance == pytest.approx(1 / 6)


def test_a_default_has_no_shadow_and_nothing_has_no_report() -> None:
    assert shadow(replace(DECISION, policy="default"), (A,), Uniform()) is None
    assert math.isnan(shadow_report([]).agreement)
