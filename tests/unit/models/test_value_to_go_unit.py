"""Fitted Q iteration on worlds small enough to know by heart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from kernel.errors import BadInput, Unavailable
from kernel.learning import Action
from models.value_to_go import ValueToGo, fit_value_to_go

A, B = Action(id="a", features={"size": 1}), Action(id="b", features={"size": "large"})


@dataclass(frozen=True)
class Logged:
    context: Mapping[str, Any]
    actions: tuple[Action, ...]
    chosen: int
    reward: float


def chain(count: int, seed: int = 1) -> list[list[Logged]]:
    """Two steps: `b` first opens a door behind which `a` brings 4; else `a` brings 1, and `b` nothing."""
    rng = np.random.default_rng(seed)
    sessions = []
    for _ in range(count):
        first, second = rng.integers(0, 2, 2)
        gain = (4.0 if first else 1.0) * (1 - second)
        door = "open" if first else "shut"
        sessions.append(
            [
                Logged({"step": 0, "door": None}, (A, B), int(first), 0.0),
                Logged({"step": 1, "door": door}, (A, B), int(second), gain),
            ]
        )
    return sessions


@pytest.fixture(scope="module")
def worth() -> ValueToGo:
    return fit_value_to_go(chain(1500), seed=1, explore=0.0)


def test_an_early_action_is_worth_the_best_that_follows(worth: ValueToGo) -> None:
    assert worth({"step": 0}, (A, B)) == pytest.approx((1.0, 4.0), abs=0.1)
    assert worth({"step": 1, "door": "open"}, (A, B)) == pytest.approx((0.0, 0.0), abs=0.1)
    assert worth({"step": 0}, (B,))[0] == worth({"step": 0}, (A, B))[1]
    assert worth({"step": 0}, ()) == ()
    assert worth.sessions == 1500


def test_a_session_is_worth_nothing_to_the_one_before_it() -> None:
    sessions = [
        [Logged({"step": 0}, (A, B), n % 2, 5.0), Logged({"step": 1}, (A, B), n % 2, 0.0)] for n in range(400)
    ]
    worth = fit_value_to_go(sessions, seed=1)
    assert worth({"step": 1}, (A, B)) == pytest.approx((0.0, 0.0), abs=0.1)


def test_what_will_be_explored_is_worth_less() -> None:
    half = fit_value_to_go(chain(1500), seed=1, explore=0.5)
    assert half({"step": 0}, (A, B)) == pytest.approx((0.75, 3.0), abs=0.15)


def test_a_discount_is_taken_once_a_step() -> None:
    near = fit_value_to_go(chain(1500), seed=1, explore=0.0, discount=0.5)
    assert near({"step": 0}, (A, B)) == pytest.approx((0.5, 2.0), abs=0.1)


def test_the_same_log_and_seed_give_the_same_and_it_survives_saving(worth: ValueToGo) -> None:
    again = fit_value_to_go(chain(1500), seed=1, explore=0.0)
    loaded = ValueToGo.load(worth.save())
    for other in (again, loaded):
        assert other({"step": 0}, (A, B)) == worth({"step": 0}, (A, B))


def test_the_unseen_and_the_hostile_get_a_number(worth: ValueToGo) -> None:
    strange = Action(id="🍵\n|", features={"size": "x" * 1000, "new": True})
    for context in ({}, {"step": "zero", "door": 3}, {"step": float("nan")}, {"step": 10**400}):
        assert all(np.isfinite(worth(context, (A, strange))))


@pytest.mark.parametrize("saved", [b"", b"{}", b'{"columns": [], "forests": ["x", "y"], "sessions": 1}'])
def test_a_damaged_state_is_refused(saved: bytes) -> None:
    with pytest.raises(Unavailable, match="cannot be read"):
        ValueToGo.load(saved)


@pytest.mark.parametrize("wrong", [{"explore": 1.5}, {"explore": float("nan")}, {"discount": -0.1}])
def test_a_setting_of_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        fit_value_to_go(chain(200), seed=1, **wrong)


def test_too_few_sessions_are_refused() -> None:
    with pytest.raises(BadInput, match="too few"):
        fit_value_to_go([*chain(99), []], seed=1)
