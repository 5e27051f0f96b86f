"""Kill a process that writes decisions: every one that it acknowledged is in the log, whole."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, select

from storage import database, decisions
from storage.decisions import SqlDecisionLog
from storage.tables import metadata

WRITER = """
import sys
from sqlalchemy import create_engine, event
from kernel.clock import SystemClock
from kernel.learning import Action
from realtime.decide import decide
from realtime.moments import DecisionRequest
from realtime.policy import Uniform
from storage import database
from storage.decisions import SqlDecisionLog

engine = create_engine(sys.argv[1])
event.listen(engine, "connect", database._durable_sqlite)
log, policy = SqlDecisionLog(engine), Uniform()
for number in range(100_000):
    request = DecisionRequest(
        user_id=f"u{number}", moment="guidance", actions=(Action(id="a"), Action(id="b")),
        context={"n": number}, idempotency_key=f"{sys.argv[2]}-{number}",
    )
    made = decide(request, policy=policy, prices={}, log=log, clock=SystemClock(), seed=1)
    print(made.decision_id, made.action, made.degraded, flush=True)
"""


@pytest.mark.parametrize("after", [1, 7, 40])
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, after: int) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    engine = create_engine(url)
    event.listen(engine, "connect", database._durable_sqlite)
    metadata.create_all(engine)
    acknowledged = [line for life in range(3) for line in acknowledged_until_killed(url, life, after)]
    assert len(acknowledged) >= 3 * after
    log = SqlDecisionLog(engine)
    for line in acknowledged:
        decision_id, action, degraded = line.split()
        found = log.find(decision_id)
        assert degraded == "False"
        assert found is not None, f"{decision_id} was acknowledged and is lost"
        assert found[0].action == action
    with engine.connect() as connection:
        kept = connection.execute(select(decisions.decisions.c.decision_id)).scalars().all()
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
    # a decision may be durable and unacknowledged: at most the one in the making, a life
    assert 0 <= len(kept) - len(acknowledged) <= 3


def acknowledged_until_killed(url: str, life: int, after: int) -> list[str]:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url, str(life)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(after)]
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
    return [line for line in lines if line.endswith("\n")]
