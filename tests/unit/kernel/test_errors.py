"""One sentence that names place, field and value."""

from __future__ import annotations

import pytest

from kernel.errors import BadInput, GrowthError, Infeasible, NotFound, Stale, Unavailable


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "is wrong"),
        ({"where": "a.yaml"}, "a.yaml: is wrong"),
        ({"where": "a.yaml", "field": "cost"}, "a.yaml: cost: is wrong"),
        ({"where": "a.yaml", "field": "cost", "value": -1}, "a.yaml: cost = -1: is wrong"),
        ({"field": "cost", "value": "x"}, "cost = 'x': is wrong"),
        ({"field": "cost", "value": 0}, "cost = 0: is wrong"),
    ],
)
def test_bad_input_says_what_it_knows(given: dict[str, object], said: str) -> None:
    error = BadInput("is wrong", **given)  # type: ignore[arg-type] # the table is untyped
    assert str(error) == said
    assert error.problem == "is wrong"


def test_not_found_names_the_nearest_or_a_few() -> None:
    near = NotFound("goal", "win_bak", ["win_back", "retain"], where="benefit x", field="goals")
    assert str(near) == "benefit x: goals = 'win_bak': unknown goal; did you mean 'win_back'?"
    assert str(NotFound("goal", "zzz", ["b", "a"])) == "goal = 'zzz': unknown goal; known: a, b"
    assert str(NotFound("goal", "zzz", [])) == "goal = 'zzz': unknown goal; known: none"
    assert str(NotFound("version", 12, range(20, 40))).endswith("known: 20, 21, 22, 23, 24, 25, 26, 27")


def test_infeasible_names_what_conflicts() -> None:
    error = Infeasible(["budget", "volume"], where="limits.yaml")
    assert error.conflicting == ("budget", "volume")
    assert str(error) == "limits.yaml: limits: these cannot hold together: budget, volume"


def test_the_tree_is_the_one_that_the_shells_translate() -> None:
    assert issubclass(NotFound, BadInput)
    assert issubclass(Infeasible, BadInput)
    for kind in (BadInput, Stale, Unavailable):
        assert issubclass(kind, GrowthError)
    assert not issubclass(Stale, BadInput)
    assert not issubclass(Unavailable, BadInput)
