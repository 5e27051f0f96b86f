"""Kill a process that appends events: every one that it acknowledged is in the log, whole and once."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from storage.database import open_database
from storage.events import EventLog

WRITER = """
import sys
from concurrent.futures import wait
from datetime import UTC, datetime
from storage.database import open_database
from storage.events import EventLog, NewEvent
from storage.group_commit import GroupCommit

log = EventLog(open_database(sys.argv[1]))
at = datetime(2017, 10, 16, tzinfo=UTC)
writer = GroupCommit(lambda requests: log.append(requests, at))
for number in range(100_000):
    names = [f"{sys.argv[2]}-{number}-{part}" for part in range(8)]
    done = [
        writer.submit(
            [NewEvent(event_id=name, user_id="u", name="view", occurred_at=at, lines=[{"n": name}])]
        )
        for name in names
    ]
    wait(done)
    print(*names, flush=True)
"""


@pytest.mark.parametrize("after", [2, 25])
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, after: int) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    engine = open_database(url)
    acknowledged: list[str] = []
    for life in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, url, str(life)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(after)]
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.readlines()
        acknowledged += [name for line in lines if line.endswith("\n") for name in line.split()]
    assert len(acknowledged) >= 2 * after * 8
    kept = EventLog(engine).after(0, ["view"], limit=1_000_000)
    names = [event.event_id for event in kept]
    assert len(set(names)) == len(names)
    assert set(acknowledged) <= set(names)
    assert all(event.lines == ({"n": event.event_id},) for event in kept)
    assert [event.number for event in kept] == sorted(event.number for event in kept)
    # durable and not acknowledged: at most the eight in the making, a life
    assert len(names) - len(acknowledged) <= 16
