from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

ROOMS = ["conflict", "insight", "models", "planner", "realtime", "touchpoint"]
#: libraries that take long to load, and what they are not needed for
HEAVY = {
    "lightgbm",
    "matplotlib",
    "mlflow",
    "optuna",
    "ortools",
    "pyspark",
    "redis",
    "sklearn",
    "vowpalwabbit",
}


@pytest.mark.parametrize("room", ROOMS)
def test_everything_that_a_door_names_is_there(room: str) -> None:
    module = import_module(f"{room}.api")
    assert len(module.__all__) > 10
    for name in module.__all__:
        assert getattr(module, name) is getattr(module, name)
    with pytest.raises(AttributeError, match=f"module '{room}.api' has no attribute 'nothing'"):
        _ = module.nothing


def test_who_asks_for_definitions_and_groups_waits_for_no_model() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import engine.usecases, engine.selecting, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert HEAVY & set(said.stdout.split()) == set()
