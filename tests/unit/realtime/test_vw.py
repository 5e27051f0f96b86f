from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from kernel.errors import BadInput, Unavailable
from kernel.learning import Action
from realtime.vw import SquareCB

ACTIONS = [Action(id="a"), Action(id="b")]

#: peak memory, in MiB, that 600 rounds add to what 50 have taken; unfinished examples would add 400
MEMORY = """
import resource
from kernel.learning import Action
from realtime.vw import SquareCB

policy = SquareCB(bits=12)
actions = [Action(id=f"a{n}", features={f"f{m}": m for m in range(10)}) for n in range(10)]
def rounds(count):
    for turn in range(count):
        policy.distribution({f"c{n}": turn + n for n in range(20)}, actions)
        policy.learn({f"c{n}": turn + n for n in range(20)}, actions, 0, 0.5, 1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = rounds(50)
print(rounds(600) - before)
"""


def test_memory_stays_flat() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 30


def test_a_vanishing_propensity_weighs_a_million_at_most() -> None:
    rare, bounded = SquareCB(bits=12), SquareCB(bits=12)
    for policy, propensity in ((rare, 1e-300), (bounded, 1e-6)):
        for chosen in (0, 1):
            policy.learn({"x": 1}, ACTIONS, chosen, propensity, float(chosen))
    assert rare.distribution({"x": 1}, ACTIONS) == bounded.distribution({"x": 1}, ACTIONS)
    assert rare.distribution({"x": 1}, ACTIONS)[1] > 0.5


def test_a_state_of_other_parameters_is_refused() -> None:
    with pytest.raises(Unavailable, match=r"saved with other parameters: .*epsilon 0\.2"):
        SquareCB(bits=12).restore(SquareCB(bits=12, epsilon=0.2).save())


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": 0.0},
        {"epsilon": 1.1},
        {"gamma_scale": 0.0},
        {"gamma_scale": float("nan")},
        {"bits": 40},
        {"rate": 0.0},
        {"memory": 0},
    ],
)
def test_a_parameter_of_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        SquareCB(**wrong)


def test_what_an_action_costs_now_is_known_and_not_learned() -> None:
    """Learned at one price, right at another: at 0.6 the dear action is not worth its gain any more."""
    policy = SquareCB(bits=12)
    lesson = (Action(id="dear", cost=0.1), Action(id="free"))
    for turn in range(600):
        gain = (0.5 if turn % 2 == 0 else 0.2) - lesson[turn % 2].cost
        policy.learn({"x": 1}, lesson, turn % 2, 0.5, gain)
    assert policy.distribution({"x": 1}, lesson)[0] > 0.9
    now = (Action(id="dear", cost=0.6), Action(id="free"))
    assert policy.distribution({"x": 1}, now)[0] < 0.1


def test_exploring_does_not_depend_on_the_currency() -> None:
    """Gains in cents or in thousands: the same gaps, relative to what is usual, are explored alike."""
    shares = []
    for unit in (0.01, 1.0, 1000.0):
        policy = SquareCB(bits=12)
        for turn in range(200):
            policy.learn({}, ACTIONS, turn % 2, 0.5, unit * (turn % 2))
        shares.append(policy.distribution({}, ACTIONS)[0])
    assert shares[0] == pytest.approx(shares[1], rel=0.02)
    assert shares[2] == pytest.approx(shares[1], rel=0.02)


def test_one_outlier_does_not_set_the_unit() -> None:
    policy = SquareCB(bits=12)
    for turn in range(1000):
        policy.learn({}, ACTIONS, turn % 2, 0.5, 1e9 if turn == 500 else float(turn % 2))
    assert policy.distribution({}, ACTIONS)[1] > 0.8


def test_an_action_whose_features_changed_is_not_taken_for_its_former_self() -> None:
    policy = SquareCB(bits=12)
    for turn in range(200):
        actions = [Action(id="a", features={"size": turn % 2}), Action(id="b")]
        policy.learn({}, actions, 0, 0.5, float(turn % 2))
    small, large = (
        policy.distribution({}, [Action(id="a", features={"size": size}), Action(id="b")]) for size in (0, 1)
    )
    assert large[0] > small[0]
