"""Kill deciders again and again at work: nothing acknowledged is lost or doubled, no limit is passed."""

from __future__ import annotations

from pathlib import Path

from benchmarks.killing import CAP, CEILING, USERS, run_killed


def test_ten_rounds_of_kills_under_load(tmp_path: Path) -> None:
    found = run_killed(tmp_path, rounds=5, seed=1)
    assert found.kills == 10
    assert found.decisions > 1000
    assert found.outcomes > 300
    assert (found.lost_decisions, found.lost_outcomes) == (0, 0)
    assert (found.doubled_answers, found.doubled_lessons) == (0, 0)
    assert (found.users_over_cap, found.over_budget, found.degraded) == (0, 0, 0)
    assert found.spent == CEILING  # there was something to pass
    assert found.touches > 0.5 * CAP * USERS
