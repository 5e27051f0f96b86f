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
