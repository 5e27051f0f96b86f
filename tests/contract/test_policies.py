"""The laws of `realtime.policy.Policy`, on every policy there is."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import realtime
from kernel.errors import BadInput, Unavailable
from kernel.learning import Action
from realtime.apprentice import Apprentice
from realtime.outcomes import family
from realtime.policies import POLICIES as MAKERS
from realtime.policy import Greedy, Learner, Uniform, checked, draw
from realtime.promoted import Promoted
from realtime.sequence import Sequential
from realtime.vw import SquareCB

#: parameters of each, and the probability that it spreads over all actions
PARAMETERS: dict[str, list[tuple[dict[str, Any], float]]] = {
    "uniform": [({}, 1.0)],
    "greedy": [({}, 0.05), ({"epsilon": 0.0}, 0.0)],
    "fixed": [({"action": "a1"}, 0.0)],
    "squarecb": [({"bits": 14}, 0.05), ({"bits": 14, "memory": 50, "epsilon": 0.2}, 0.2)],
    "ridge": [({"dimensions": 128}, 0.01), ({"dimensions": 64, "memory": 50, "epsilon": 0.2}, 0.2)],
    "thompson": [({"dimensions": 64}, 0.05), ({"dimensions": 64, "memory": 50, "seed": 3}, 0.05)],
}


def constant(kept: bytes) -> Callable[..., list[float]]:
    """A future worth out of its bytes."""
    return lambda _context, actions: [float(kept)] * len(actions)


POLICIES: dict[str, tuple[Callable[[], Learner], float]] = {
    " ".join([name, *(f"{key}={value}" for key, value in given.items())]): (partial(make, **given), floor)
    for name, make in MAKERS.items()
    for given, floor in PARAMETERS[name]
} | {
    "sequential": (
        lambda: Sequential(SquareCB(bits=14), lambda _context, actions: [len(each.id) for each in actions]),
        0.05,
    ),
    "sequential, keeping": (
        lambda: Sequential(
            SquareCB(bits=14), lambda _context, actions: [1.0] * len(actions), kept=b"1", load=constant
        ),
        0.05,
    ),
    "promoted": (lambda: Promoted(SquareCB(bits=14), 7), 0.05),
    "apprentice": (lambda: Apprentice(Uniform(), SquareCB(bits=14), live_at=1.0), 1.0),
    "apprentice, live": (lambda: Apprentice(Greedy(), SquareCB(bits=14), live_at=0.01, window=20), 0.05),
}
ACTIONS = tuple(
    Action(id=f"a{number}", features={"colour": "red", "size": number}, value=number % 3, cost=0.1)
    for number in range(5)
)
CONTEXT = {"city": "Shanghai", "age": 31, "new": True, "rate": 0.25, "session.step": 1}
HOSTILE: list[Any] = [
    "a\nb", "\n", "\r\n|a x", "a:b", ":", "|", "a|b c", "", " ", "\t", "\0", "x" * 10_000, "🍵🍵", "\ud800",
    math.inf, -math.inf, math.nan, 1e308, -1e308, 1e-320,
    5e-189, 1e-39, 1e-20, 1e-9, 1e-6, 1e6, 1e39, 10**400, -(10**400), True, None, [1, "|"], {"a": 1},
    "0:1:0.5 |a", "shared |u", "#", "'tag", "=", "1", "-0",
]  # fmt: skip


@pytest.fixture(params=list(POLICIES))
def made(request: pytest.FixtureRequest) -> tuple[Callable[[], Learner], float]:
    return POLICIES[request.param]


@pytest.fixture
def make(made: tuple[Callable[[], Learner], float]) -> Callable[[], Learner]:
    return made[0]


@pytest.fixture
def floor(made: tuple[Callable[[], Learner], float]) -> float:
    return made[1]


def test_every_policy_of_the_room_is_held_to_these_laws() -> None:
    modules = [
        importlib.import_module(f"realtime.{each.name}") for each in pkgutil.iter_modules(realtime.__path__)
    ]
    classes = {each for module in modules for _, each in inspect.getmembers(module, inspect.isclass)}
    found = {
        each
        for each in classes
        if each.__module__.startswith("realtime.")
        and hasattr(each, "distribution")
        and not getattr(each, "_is_protocol", False)
    }
    assert found == {*MAKERS.values(), Sequential, Apprentice, Promoted}


def test_a_policy_is_found_by_the_name_that_it_decides_under() -> None:
    for name, make in MAKERS.items():
        assert family(make(**PARAMETERS[name][0][0]).name) == name


def teach(policy: Learner, rounds: int = 200) -> Learner:
    for turn in range(rounds):
        chosen = turn % len(ACTIONS)
        context = {**CONTEXT, "segment": f"s{turn % 2}"}
        policy.learn(context, ACTIONS, chosen, 0.2, float(chosen == turn % 2))
    return policy


def must_hold(distribution: tuple[float, ...], count: int, floor: float) -> None:
    assert isinstance(distribution, tuple)
    assert len(distribution) == count
    assert all(math.isfinite(each) for each in distribution)
    assert min(distribution) >= floor / count - 1e-7
    assert abs(math.fsum(distribution) - 1) < 1e-9


def test_finite_above_the_floor_and_sum_to_one(make: Callable[[], Learner], floor: float) -> None:
    for policy in (make(), teach(make())):
        for count in range(1, len(ACTIONS) + 1):
            must_hold(policy.distribution(CONTEXT, ACTIONS[:count]), count, floor)


def test_in_the_order_of_the_actions(make: Callable[[], Learner]) -> None:
    policy = teach(make())
    forth = policy.distribution({**CONTEXT, "segment": "s1"}, ACTIONS[:2])
    back = policy.distribution({**CONTEXT, "segment": "s1"}, ACTIONS[1::-1])
    assert back == pytest.approx(forth[::-1], abs=1e-6)


def test_no_action_and_one_action(make: Callable[[], Learner]) -> None:
    for policy in (make(), teach(make())):
        assert policy.distribution(CONTEXT, ()) == ()
        assert policy.distribution(CONTEXT, ACTIONS[:1]) == (1.0,)


def answers(policy: Learner) -> list[tuple[float, ...]]:
    """To the last bit, over many contexts."""
    return [
        policy.distribution({**CONTEXT, "segment": f"s{turn % 3}", "turn": turn}, ACTIONS)
        for turn in range(30)
    ]


def test_deciding_never_learns(make: Callable[[], Learner]) -> None:
    policy, twin = teach(make()), teach(make())
    first = answers(policy)
    for turn in range(100):
        policy.distribution({**CONTEXT, "new": f"value {turn}"}, ACTIONS)
    assert answers(policy) == first
    assert policy.name == twin.name
    assert answers(teach(policy, 30)) == answers(teach(twin, 30))


def test_same_seed_same_choice(make: Callable[[], Learner]) -> None:
    def choices(seed: int) -> list[int]:
        policy = teach(make())
        return [
            draw(policy.distribution({"turn": turn}, ACTIONS), seed, f"decision {turn}") for turn in range(50)
        ]

    assert choices(7) == choices(7)


def test_saved_and_restored_it_decides_and_learns_on_alike(make: Callable[[], Learner]) -> None:
    policy, other = teach(make()), make()
    other.restore(policy.save())
    assert other.name == policy.name
    for _ in range(2):
        assert answers(other) == answers(policy)
        teach(policy, 30)
        teach(other, 30)
    assert answers(other) == answers(policy)


def test_a_damaged_or_foreign_state_is_refused_and_changes_nothing(make: Callable[[], Learner]) -> None:
    policy = teach(make())
    state, before = policy.save(), policy.distribution(CONTEXT, ACTIONS)
    for bad in (b"", b"x", state[:-1], state + b"\0", bytes([*state[:-1], state[-1] ^ 1])):
        with pytest.raises(Unavailable):
            policy.restore(bad)
    assert policy.distribution(CONTEXT, ACTIONS) == before


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20])
def test_hostile_values_and_names_survive(make: Callable[[], Learner], floor: float, value: Any) -> None:
    policy = teach(make(), 20)
    before = policy.distribution(CONTEXT, ACTIONS)
    context = {"x": value, "y": 2.0, **({value: value, "plain": 1} if isinstance(value, str) else {})}
    actions = [
        Action.model_construct(id=f"{value}{n}", features={"f": value, str(value): n}, value=1.0, cost=0.0)
        for n in range(3)
    ]
    for turn in range(5):
        must_hold(policy.distribution(context, actions), 3, floor)
        policy.learn(context, actions, turn % 3, 0.5, 1.0)
    must_hold(policy.distribution(CONTEXT, ACTIONS), 5, floor)
    assert len(before) == 5


@settings(max_examples=40, deadline=None)
@given(
    context=st.dictionaries(st.text(max_size=20), st.text() | st.floats() | st.integers() | st.booleans()),
    ids=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=6, unique=True),
)
def test_any_context_and_any_ids_give_a_distribution(context: dict[str, Any], ids: list[str]) -> None:
    actions = [Action.model_construct(id=each, features=context, value=0.0, cost=0.0) for each in ids]
    for build, floor in POLICIES.values():
        policy = build()
        policy.learn(context, actions, 0, 0.5, -1.0)
        must_hold(policy.distribution(context, actions), len(ids), floor)


def test_extreme_but_true_lessons_leave_it_able_to_answer(make: Callable[[], Learner], floor: float) -> None:
    policy = make()
    for propensity in (1e-300, 1e-9, 0.5, 1.0):
        for reward in (1e300, -1e300, 1e-300, -0.0, 5e-189, 1e6):
            policy.learn(CONTEXT, ACTIONS, 1, propensity, reward)
            must_hold(policy.distribution(CONTEXT, ACTIONS), 5, floor)


@pytest.mark.parametrize(
    ("chosen", "propensity", "reward", "field"),
    [
        (5, 0.5, 1.0, "chosen"),
        (-1, 0.5, 1.0, "chosen"),
        (0, 0.0, 1.0, "propensity"),
        (0, 1.5, 1.0, "propensity"),
        (0, math.nan, 1.0, "propensity"),
        (0, 0.5, math.nan, "reward"),
        (0, 0.5, math.inf, "reward"),
    ],
)
def test_a_lesson_of_nonsense_is_refused(
    make: Callable[[], Learner], chosen: int, propensity: float, reward: float, field: str
) -> None:
    policy = make()
    before = policy.save()
    with pytest.raises(BadInput) as caught:
        policy.learn(CONTEXT, ACTIONS, chosen, propensity, reward)
    assert caught.value.field == field
    assert policy.save() == before


@pytest.mark.parametrize(
    "bad", [(0.5,), (0.5, 0.6), (-0.1, 1.1), (math.nan, 1.0), (math.inf, 0.0), (0.0, 0.0), (0.3, 0.3, 0.4)]
)
def test_a_distribution_that_is_none_is_caught(bad: tuple[float, ...]) -> None:
    with pytest.raises(Unavailable, match="policy x gave"):
        checked(bad, 2, "x")


def test_draws_follow_the_distribution_and_never_take_the_impossible() -> None:
    picks = [draw((0.0, 0.25, 0.75, 0.0), 1, str(turn)) for turn in range(4000)]
    assert set(picks) == {1, 2}
    assert abs(picks.count(1) / 4000 - 0.25) < 0.03
    assert picks != [draw((0.0, 0.25, 0.75, 0.0), 2, str(turn)) for turn in range(4000)]
