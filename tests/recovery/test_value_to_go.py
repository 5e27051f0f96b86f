"""Visits with planted structure: guidance pays three steps later, an early coupon spoils the margin."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.sequence import interval, myopic, sequential, visits
from benchmarks.session_world import ACTIONS, State, at_once, best_value, exact_value, oracle
from models.value_to_go import fit_value_to_go
from realtime.policy import Uniform

SEEDS, SESSIONS, EXPLORED = 10, 1000, 0.05


def test_the_oracle_is_the_best_there_is() -> None:
    assert exact_value(Uniform()) < 1.2 < 2.4 < oracle(EXPLORED) < oracle()
    assert oracle() == pytest.approx(2.539, abs=0.001)


def test_value_to_go_is_near_the_truth_and_orders_early_actions() -> None:
    worth = fit_value_to_go(visits(2000, 3), seed=3)
    errors = []
    for needs_help in (False, True):
        state = State(0, needs_help, False)
        true = [best_value(state, each.id, EXPLORED) - at_once(state, each.id) for each in ACTIONS]
        found = worth(state.context, ACTIONS)
        errors += [a - b for a, b in zip(true, found, strict=True)]
        assert found[2] < min(found[:2]) - 0.3  # the coupon spoils what comes
    assert np.abs(errors).mean() < 0.8
    told = State(2, True, False)
    nothing, guidance, _coupon = worth(told.context, ACTIONS)
    assert guidance > nothing + 0.3  # the last chance to be of help


def test_it_beats_the_myopic_bandit_on_every_seed_and_nears_the_oracle() -> None:
    ours, theirs = [], []
    for seed in range(SEEDS):
        log = visits(SESSIONS, 150 + seed)
        ours.append(exact_value(sequential(log, seed)))
        theirs.append(exact_value(myopic(log, seed)))
    mean, low, high = interval([a - b for a, b in zip(ours, theirs, strict=True)])
    assert low > 0.8, (mean, low, high)
    assert all(a > b for a, b in zip(ours, theirs, strict=True))
    assert interval(ours)[0] > 0.8 * oracle(EXPLORED), ours
    assert max(ours) <= oracle(EXPLORED) + 1e-9
