"""Prices of any kind: what users' best replies prove at them, against every choice of tiny problems."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from conflict.feasible import worth_of
from conflict.greedy import greedy
from conflict.prices import Prices, bound_of, ends, find_prices, start_of, units_of
from conflict.problem import Floats, Problem, compile_problem
from conflict.reply import Box, Here, narrowed, worth

_SPEC = importlib.util.spec_from_file_location(
    "allocation_oracle", Path(__file__).with_name("allocation_oracle.py")
)
assert _SPEC is not None
assert _SPEC.loader is not None
oracle = importlib.util.module_from_spec(_SPEC)
sys.modules["allocation_oracle"] = oracle
_SPEC.loader.exec_module(oracle)

SEEDS = range(8)


def _problem(rng: np.random.Generator) -> tuple[Problem, float]:
    """A tiny problem and its optimum; −inf where nothing is allowed."""
    frame, limits = oracle.random_problem(rng, size=9)
    problem, rows = compile_problem(frame, limits)
    assert rows is None
    return problem, oracle.truth(frame, limits).best


def _prices(rng: np.random.Generator, problem: Problem) -> Floats:
    """Any prices that are allowed: no less than a floor's penalty, no more than a ceiling's."""
    least, most = ends(problem.rules, 3.0 * units_of(problem))
    return least + rng.random(least.size) * (most - least)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_price_bounds_the_optimum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(40):
        problem, best = _problem(rng)
        prices = _prices(rng, problem)
        assert bound_of(problem.rules, prices, worth(problem, prices)) >= best - 1e-9


@pytest.mark.parametrize("seed", SEEDS)
def test_every_box_leaves_the_bound_as_it_was(seed: int) -> None:
    rng = np.random.default_rng(50 + seed)
    for _ in range(40):
        problem, _ = _problem(rng)
        at = _prices(rng, problem)
        if worth(problem, at).net == -np.inf:
            continue
        wide = rng.choice([0.1, 0.5, 2.0]) * units_of(problem)
        least, most = ends(problem.rules, 1e3 * units_of(problem))
        box = Box(at=at, low=np.maximum(least, at - wide), high=np.minimum(most, at + wide))
        inner = narrowed(problem, box)
        prices = box.low + rng.random(at.size) * (box.high - box.low)
        whole = bound_of(problem.rules, prices, worth(problem, prices))
        left = bound_of(inner.rules, prices, worth(inner, prices), inner.elsewhere)
        assert left == pytest.approx(whole, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_prices_bound_no_worse_than_any(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conflict.prices._SAMPLE", 4)
    monkeypatch.setattr("conflict.prices._SAMPLE_LIMIT", 0)
    rng = np.random.default_rng(100 + seed)
    for _ in range(12):
        problem, best = _problem(rng)
        found: Prices = find_prices(Here(problem=problem), seed=seed, end=np.inf, trusting=True)
        bound = bound_of(problem.rules, found.values, worth(problem, found.values))
        assert bound >= best - 1e-9
        if best == -np.inf:
            continue
        for _ in range(20):
            prices = _prices(rng, problem)
            assert bound <= bound_of(problem.rules, prices, worth(problem, prices)) + 1e-7
        start = start_of(problem, found)
        assert worth_of(problem, start) <= best + 1e-9


@pytest.mark.parametrize("seed", SEEDS)
def test_greedy_passes_no_ceiling_and_no_cap_and_never_beats_the_optimum(seed: int) -> None:
    rng = np.random.default_rng(150 + seed)
    for _ in range(40):
        problem, best = _problem(rng)
        rules = problem.rules
        chosen = greedy(problem, problem.value.astype(np.float64), np.zeros(problem.size, np.bool_))
        assert worth_of(problem, chosen) <= best + 1e-9
        used = problem.used(chosen)
        plain = np.array([(problem.usage(each) >= 0).all() for each in range(rules.limits)], np.bool_)
        assert (used[plain] <= rules.at_most[plain] + 1e-9).all()
        owner = problem.user_of()[chosen]
        assert np.bincount(owner, minlength=1).max() <= rules.max_tasks
        for slots in rules.slots.T:
            keys = owner * rules.caps.size + slots[problem.kind[chosen]]
            held, times = np.unique(keys, return_counts=True)
            assert (times <= rules.caps[held % rules.caps.size]).all()
