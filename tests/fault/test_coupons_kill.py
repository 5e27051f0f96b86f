"""Clients that are killed while they issue and redeem: nothing acknowledged is lost, no code used twice."""

from __future__ import annotations

from pathlib import Path

from benchmarks.coupons import run_killed


def test_nothing_is_redeemed_twice_and_nothing_acknowledged_lost(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'growth.db'}"
    done = run_killed(url, codes=12, todo=160, kills=2, seed=1, processes=2)
    assert done.kills == 2
    assert done.redeemed > 0
    assert done.issued > 0
    assert (done.lost, done.twice, done.past) == (0, 0, 0)
