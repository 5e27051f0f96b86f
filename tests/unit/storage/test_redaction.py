"""What names her goes, what only looks alike stays."""

from __future__ import annotations

from typing import Any

import pytest

from storage.redaction import GONE, Person

MAIL = Person(ids=("ann-77@x.example",))
NUMBER = Person(ids=(42,), keys=frozenset({"household_key"}))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"user_id": "ann-77@x.example", "age": 3}, {"user_id": GONE, "age": 3}),
        ([{"user": "ann-77@x.example"}, {"user": "bo"}], [{"user": "bo"}]),
        ({"seen": ["ann-77@x.example", "bo"]}, {"seen": ["bo"]}),
        ({"ann-77@x.example": 1, "bo": 2}, {"bo": 2}),
        ({"note": "call ann-77@x.example."}, {"note": f"call {GONE}."}),
        ({"session": "ann-77@x.example/9"}, {"session": f"{GONE}/9"}),
        ({"user": "joann-77@x.example2"}, {"user": "joann-77@x.example2"}),
    ],
)
def test_a_text_that_can_be_nothing_else_goes_wherever_it_stands(value: Any, expected: Any) -> None:
    assert MAIL.in_json(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"user_id": 42, "age": 42}, {"user_id": GONE, "age": 42}),
        ({"user_id": "42"}, {"user_id": GONE}),
        ({"order.household_key": 42}, {"order.household_key": GONE}),
        ([{"user": 42, "n": 1}, {"user": 420, "n": 42}], [{"user": 420, "n": 42}]),
        ({"users": [42, 43], "ages": [42]}, {"users": [43], "ages": [42]}),
        ({"why": "user 42 is 42"}, {"why": f"user {GONE} is 42"}),
        ({"why": "user_id=\"42\", user=421"}, {"why": f"user_id=\"{GONE}\", user=421"}),
        ({"why": "/users/42/groups"}, {"why": f"/users/{GONE}/groups"}),
        ({"user": 42.0, "ok": True}, {"user": 42.0, "ok": True}),
        ({"why": "user 42.5"}, {"why": "user 42.5"}),
    ],
)  # fmt: skip
def test_a_number_is_hers_only_where_it_says_so(value: Any, expected: Any) -> None:
    assert NUMBER.in_json(value) == expected


@pytest.mark.parametrize("user", ["anna", "123456", "a-1", "Shanghai"])
def test_a_common_word_is_no_name(user: str) -> None:
    person = Person(ids=(user,))
    assert not person.distinctive
    assert person.in_json({"city": user, "user": user}) == {"city": user, "user": GONE}
    assert person.in_text(f"{user} and user {user}") == f"{user} and user {GONE}"


def test_what_is_without_her_is_as_it_was() -> None:
    value = {"a": [1, 2.5, None, True, {"b": "x"}], "user": "bo", "text": "a.b*c"}
    assert Person(ids=("a.b*c-1",)).in_json(value) == value
