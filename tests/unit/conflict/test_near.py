"""What counts as proven."""

from __future__ import annotations

import numpy as np
import pytest

from conflict.core import core_of, relax
from conflict.integers import dust_of, near
from conflict.problem import Problem, compile_problem
from conflict.programs import UNKNOWN
from conflict.reply import Box
from kernel.choices import Limit, Limits


def _problem(values: list[float]) -> Problem:
    import polars as pl

    frame = pl.DataFrame({"user": range(len(values)), "task": "a", "value": values, "cost": 1.0})
    limits = Limits(limits=(Limit(name="budget", sum="cost", at_most=2.0),))
    return compile_problem(frame, limits)[0]


def test_a_huge_value_that_nobody_takes_makes_no_gap_small() -> None:
    dust = dust_of(_problem([1.0, 1.0, 1.0, 1e12]))
    assert not near(3.0, 3.1, 1e-6, dust)
    assert near(3.0, 3.0 + 2e-6, 1e-6, dust)


def test_rounding_about_nothing_is_no_gap() -> None:
    assert near(0.0, 1e-12, 1e-6, dust_of(_problem([5.0, 4.0])))
    assert not near(0.0, 1e-6, 1e-6, dust_of(_problem([5.0, 4.0])))


def test_no_choice_at_all_is_near_nothing() -> None:
    assert not near(-np.inf, 5.0, 1e-6, 0.0)


def test_a_solver_that_fails_finds_no_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = _problem([4.0, 3.0, 2.0, 1.0])
    box = Box(at=np.array([2.0]), low=np.array([0.0]), high=np.array([5.0]))
    core = core_of(problem, box)
    found = relax(core, box)
    assert found is not None
    assert 2.0 <= found[0][0] <= 3.0
    monkeypatch.setattr("conflict.core.solve", lambda *_, **__: UNKNOWN)
    assert relax(core, box) is None
