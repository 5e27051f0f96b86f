"""A solver in a process of its own: the same answers, and nothing left of it when it is closed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

from conflict.apart import Apart
from conflict.programs import Answer, Program, Solver, solve


def _knapsack(rng: np.random.Generator, size: int, rows: int) -> Program:
    """Some columns under some rows, all full."""
    weights = rng.integers(10, 100, (rows, size)).astype(np.float64)
    return Program(
        value=rng.integers(10, 100, size).astype(np.float64),
        low=np.zeros(size),
        high=np.ones(size),
        whole=np.ones(size, np.bool_),
        starts=np.arange(0, rows * size + 1, size),
        columns=np.tile(np.arange(size), rows),
        coefficients=weights.ravel(),
        row_low=np.full(rows, -np.inf),
        row_high=weights.sum(axis=1) / 3,
    )


@pytest.fixture
def apart() -> Iterator[Apart]:
    one = Apart()
    yield one
    one.close()


def _ask(apart: Apart, program: Program, seconds: float = 30.0) -> None:
    apart.ask(program, seconds=seconds, gap=0.0, absolute=0.0, seed=1)


def _child(apart: Apart) -> int:
    child = apart._child
    assert child is not None
    return child.pid


def _gone(pid: int) -> bool:
    """Whether no process of that number is left, not even one that waits to be buried."""
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def _hard() -> Program:
    return _knapsack(np.random.default_rng(7), 400, 30)


def test_the_answers_are_those_of_this_process(apart: Apart, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    pids = set()
    for _ in range(4):
        program = _knapsack(rng, 20, 2)
        _ask(apart, program)
        there, here = apart.answer(), solve(program, Solver.HIGHS, seconds=30)
        assert there.answer is here.answer is Answer.OPTIMAL
        assert there.objective == here.objective
        assert there.x is not None
        assert program.value @ there.x == pytest.approx(there.objective)
        assert not apart.busy
        pids.add(_child(apart))
    assert len(pids) == 1, "one child answers all"
    apart.close()
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_closing_kills_the_child_at_its_work(apart: Apart) -> None:
    _ask(apart, _hard())
    pid = _child(apart)
    assert apart.busy
    began = time.monotonic()
    apart.close()
    assert time.monotonic() - began < 10, "far from the seconds that it was given"
    assert _gone(pid)
    assert not apart.busy
    assert apart.answer().answer is Answer.UNKNOWN
    apart.close()


def test_another_question_ends_the_one_before(apart: Apart) -> None:
    _ask(apart, _hard())
    before = _child(apart)
    program = _knapsack(np.random.default_rng(1), 12, 1)
    _ask(apart, program)
    assert apart.answer().objective == solve(program, Solver.HIGHS, seconds=30).objective
    assert _gone(before)


def test_a_killed_child_answers_unknown_and_the_next_question_gets_a_new_one(apart: Apart) -> None:
    _ask(apart, _hard())
    pid = _child(apart)
    os.kill(pid, signal.SIGKILL)
    assert apart.answer().answer is Answer.UNKNOWN
    program = _knapsack(np.random.default_rng(2), 12, 1)
    _ask(apart, program)
    assert apart.answer().answer is Answer.OPTIMAL
    assert _gone(pid)


def test_nothing_asked_is_nothing_known(apart: Apart) -> None:
    assert not apart.busy
    assert apart.answer().answer is Answer.UNKNOWN
    apart.close()


def test_time_is_kept(apart: Apart) -> None:
    began = time.monotonic()
    _ask(apart, _hard(), seconds=0.2)
    answer = apart.answer()
    assert time.monotonic() - began < 20
    assert answer.answer in (Answer.FEASIBLE, Answer.UNKNOWN, Answer.OPTIMAL)


def test_closing_in_the_middle_of_a_question_is_quiet(apart: Apart) -> None:
    # more than a pipe holds, to a child that is still starting
    _ask(apart, _knapsack(np.random.default_rng(3), 3_000, 20))
    pid = _child(apart)
    apart.close()
    assert _gone(pid)
    assert apart.answer().answer is Answer.UNKNOWN
