from __future__ import annotations

import math
from typing import Any

import pytest

from realtime.tokens import LARGEST, SMALLEST, terms


def test_plain_names_and_values_stay_readable() -> None:
    assert terms([("city", "Shanghai"), ("age", 31), ("rate", 0.25), ("new", True), ("gap", None)]) == [
        ("city=Shanghai", None),
        ("age", 31.0),
        ("rate", 0.25),
        ("new=True", None),
    ]


@pytest.mark.parametrize("text", ["a b", "a\nb", "a:b", "a|b", "", "🍵", "x" * 65, "=", "\ud800", "#1"])
def test_no_token_holds_what_a_learner_s_text_is_ruled_by(text: str) -> None:
    ((token, number),) = terms([(text, text)])
    assert number is None
    assert not set(token) & set(" \n\r\t:|")
    assert terms([(text, text)]) == [(token, number)]
    assert terms([(text, text + "x")]) != [(token, number)]
    assert terms([(text + "x", text)]) != [(token, number)]


@pytest.mark.parametrize(
    ("value", "number"),
    [(1e308, LARGEST), (-(10**400), -LARGEST), (SMALLEST / 2, 0.0), (5e-324, 0.0), (-0.5, -0.5)],
)
def test_numbers_are_held_where_their_squares_fit(value: float, number: float) -> None:
    assert terms([("x", value)]) == [("x", number)]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, [1, "|"], {"a": 1}])
def test_what_is_no_number_is_a_category(value: Any) -> None:
    ((token, number),) = terms([("x", value)])
    assert number is None
    assert token.startswith("x=")
