"""What is let go of after the last run: old versions and old runs, and nothing that is still spoken of."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import polars as pl
import pytest
import yaml

from engine.selecting import select_audience
from engine.selection_jobs import run_selections
from engine.usecases import apply, init_workspace
from engine.wiring import Workspace, open_workspace

DAY = timedelta(days=1)
FIRST = date(2017, 10, 1)
BOUGHT = {"event": "order", "agg": "count", "within": "30d", "op": "ge", "value": 3}


class Hand:
    """A clock that the test sets, and that goes on from there: runs of a backfill wait for each other."""

    def __init__(self) -> None:
        self.set(datetime(2017, 10, 1, 3, tzinfo=UTC))

    def set(self, at: datetime) -> None:
        self._at, self._since = at, monotonic()

    def now(self) -> datetime:
        return self._at + timedelta(seconds=monotonic() - self._since)


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def space(tmp_path: Path, clock: Hand) -> Workspace:
    root = tmp_path / "w"
    init_workspace(root)
    with (root / "growth.toml").open("a") as settings:
        settings.write("\nkeep_versions = 2\nkeep_groups = 3\nkeep_runs = 4\n")
    at = datetime(2017, 9, 30, tzinfo=UTC)
    rows = [(n, f"{n}-{k}", at - k * DAY, 1.0) for n in range(20) for k in range(n % 5 + 1)]
    schema = {
        "user_id": pl.Int64,
        "order_id": pl.String,
        "ordered_at": pl.Datetime("us", "UTC"),
        "total": pl.Float64,
    }
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(root / "data" / "orders.parquet")
    groups: list[dict[str, Any]] = [
        {"kind": "group", "name": "bought", "where": BOUGHT},
        {"kind": "group", "name": "seed", "where": BOUGHT, "mode": "static"},
        {"kind": "group", "name": "left", "where": BOUGHT},
    ]
    path = root / "definitions" / "these.yaml"
    path.write_text(yaml.safe_dump_all(groups))
    space = open_workspace(root, clock)
    apply(space, path, by="test")
    return space


def a_day(space: Workspace, clock: Hand, day: int, keys: list[str] | None = None) -> str:
    # a minute later each day, so that how long a run takes decides nothing
    clock.set(datetime(2017, 10, 1, 3, tzinfo=UTC) + day * (DAY + timedelta(minutes=1)))
    return run_selections(space, [FIRST + day * DAY], keys)[0]


def versions(space: Workspace, name: str) -> list[int]:
    return [each.version for each in space.groups.versions(name)]


def test_old_versions_and_runs_go_after_a_run_and_what_is_spoken_of_stays(
    space: Workspace, clock: Hand, tmp_path: Path
) -> None:
    first = a_day(space, clock, 0)
    exported = str(tmp_path / "bought.parquet")
    said = select_audience(space, "bought", exported, datetime(2017, 10, 1, tzinfo=UTC))
    assert said["version"] == 1
    runs = [a_day(space, clock, day, ["bought", "seed"]) for day in range(1, 7)]
    # 1 was exported; the last three are younger than three days
    assert versions(space, "bought") == [1, 5, 6, 7]
    assert versions(space, "seed") == [1]
    assert versions(space, "left") == [1]
    kept = {run.run for run in space.runs.latest(100)}
    assert kept == {first, *runs[2:]}  # `left` was never worked out again: its newest job is of the first
    assert set(space.runs.newest_jobs()) == {"bought", "seed", "left"}


def test_a_run_that_was_let_go_of_can_be_made_again(space: Workspace, clock: Hand) -> None:
    name = a_day(space, clock, 0, ["bought"])
    a_day(space, clock, 10, ["bought"])
    assert name not in {run.run for run in space.runs.latest(100)}
    assert run_selections(space, [FIRST], ["bought"]) == [name]  # hangs where DBOS takes it for done
    assert [row.state for row in space.runs.jobs(name)] == ["unchanged"]


def test_nothing_goes_while_a_backfill_is_going_on(space: Workspace, clock: Hand) -> None:
    a_day(space, clock, 0, ["bought"])
    clock.set(clock.now() + 20 * DAY)
    run_selections(space, [FIRST + day * DAY for day in range(1, 7)], ["bought"])
    # what the backfill made is young, though its instants are old; what was there before is neither
    assert versions(space, "bought") == [2, 3, 4, 5, 6, 7]
