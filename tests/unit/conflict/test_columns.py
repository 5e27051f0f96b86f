"""Candidates as columns: labels of any name, amounts of any size."""

from __future__ import annotations

import numpy as np
import polars as pl

from conflict.api import allocate
from conflict.core import core_of
from conflict.grid import step_of
from conflict.problem import compile_problem
from conflict.reply import Box
from kernel.choices import Limits, Status


def test_a_label_may_be_called_kind() -> None:
    frame = pl.DataFrame(
        {"user": [1, 2, 3], "task": ["a"] * 3, "value": [3.0, 2.0, 1.0], "kind": list("xyx")}
    )
    limits = Limits.model_validate({"limits": [{"name": "x", "where": {"kind": "x"}, "at_most": 1}]})
    found = allocate(frame, limits, time_limit=2.0)
    assert found.status is Status.OPTIMAL
    assert found.assignments["user"].to_list() == [1, 2]


def test_amounts_on_no_grid_that_numbers_can_tell() -> None:
    assert step_of(np.array([1e15, 2e15])) == 0.0
    assert step_of(np.array([0.25, 0.75, 100.0])) == 0.25


def test_columns_use_what_their_candidates_do_over_those_of_the_base() -> None:
    rng = np.random.default_rng(3)
    frame = pl.DataFrame(
        {
            "user": np.repeat(np.arange(40), 4),
            "task": np.tile(np.arange(4), 40),
            "value": rng.random(160),
            "cost": rng.random(160),
        }
    )
    limits = Limits.model_validate(
        {
            "per_user": {"max_tasks": 2},
            "limits": [
                {"name": "all", "sum": "cost", "at_most": 20},
                {"name": "few", "where": {"task": [0, 1]}, "at_most": 9},
            ],
        }
    )
    problem, _ = compile_problem(frame, limits)
    core = core_of(problem, Box(at=np.full(2, 0.3), low=np.zeros(2), high=np.ones(2)))
    assert core.value.size > 40
    for column in range(core.value.size):
        used = problem.used(core.choice(np.array([column])))
        np.testing.assert_allclose(core.use[:, column], used - core.used, atol=1e-12)
