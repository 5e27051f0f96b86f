from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from kernel.learning import Action, Decision
from realtime.forgetting import decision_of, without
from realtime.records import (
    decode_decision,
    decode_outcome,
    encode_decision,
    encode_outcome,
    encode_void,
    head,
)
from realtime.rewards import Outcome
from storage.redaction import Person

AT = datetime(2017, 10, 16, 8, tzinfo=UTC)
ANN = Person(ids=("ann-77@x.example",))
HER = "ann-77@x.example"
DECISION = Decision(
    decision_id="d1", user_id="bo", moment="guidance", decided_at=AT, context={"city": "Ulm"},
    actions=("a", "b"), propensities=(0.5, 0.5), action="b", propensity=0.5, policy="p@1", prices={},
    reason="drawn",
)  # fmt: skip
ACTIONS = (Action(id="a"), Action(id="b"))


def record(**changes: object) -> bytes:
    return encode_decision(replace(DECISION, **changes), ACTIONS, key="k")


def test_her_decision_is_blank_but_for_its_time() -> None:
    before = record(user_id=HER)
    assert decision_of(before, ANN) == "d1"
    after = without(before, ANN, {"d1"})
    assert len(after) == len(before)
    assert head(after) == (b"X", head(before)[1])
    assert set(after[9:]) == {0}
    assert without(after, ANN, {"d1"}) == after


def test_others_keep_theirs_to_the_byte() -> None:
    for each in (record(), encode_void("d1", 5), encode_outcome(Outcome("d2", "o", "buy", 1.0, 2, 3))):
        assert decision_of(each, ANN) is None
        assert without(each, ANN, {"d1x"}) == each


@pytest.mark.parametrize("context", [{"friend": HER, "city": "Ulm"}, {"note": f"by {HER}!", "n": 1}])
def test_others_lose_what_names_her_and_stay_decisions(context: dict[str, object]) -> None:
    before = record(context=context)
    after = without(before, ANN, set())
    assert len(after) == len(before)
    assert HER.encode() not in after
    choice = decode_decision(after)
    assert set(choice.context) == set(context)
    assert choice.decision == replace(DECISION, context=choice.context)


def test_an_id_shorter_than_what_stands_for_it_goes_with_all_the_context() -> None:
    short = Person(ids=("7",))
    before = record(context={"user_id": "7", "city": "Ulm"})
    after = without(before, short, set())
    assert len(after) == len(before)
    choice = decode_decision(after)
    assert choice.context == {}
    assert choice.decision == replace(DECISION, context={})
    assert without(record(context={"age": 7}), short, set()) == record(context={"age": 7})


def test_ids_that_json_escapes_are_found() -> None:
    odd = Person(ids=("zo\u00eb\ud800-77",))
    before = record(user_id="zo\u00eb\ud800-77")
    assert decision_of(before, odd) == "d1"


@pytest.mark.parametrize(
    ("outcome", "gone"),
    [
        (Outcome("d1", "o", "buy", 1.0, 2, 3), True),
        (Outcome("d2", f"order of {HER}", "buy", 1.0, 2, 3), True),
        (Outcome("d2", "o", HER, 1.0, 2, 3), True),
        (Outcome("d2", "o", "buy", 1.0, 2, 3), False),
    ],
)
def test_outcomes_of_hers_go(outcome: Outcome, gone: bool) -> None:
    before = encode_outcome(outcome)
    after = without(before, ANN, {"d1"})
    assert len(after) == len(before)
    assert (head(after)[0] == b"X") == gone
    if not gone:
        assert decode_outcome(after) == outcome
