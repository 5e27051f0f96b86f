"""A disk that is full: defaults are answered, nobody dies of it, and when there is room again all goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from realtime.records import decode_decision, decode_void, head
from storage.journal import FileJournalReader

ROOT = Path(__file__).parents[2]
#: files may not grow beyond some size for a while, which is what a full disk is to who writes
STORY = """
import json, logging, resource, signal, sys
from pathlib import Path
from kernel.clock import SystemClock
from kernel.contact import Cap
from kernel.learning import Action
from realtime.decider import Decider, rooms_of
from realtime.decision_ids import DecisionIds
from realtime.moments import MOMENTS, DecisionRequest
from realtime.policy import Uniform
from storage.journal import FileJournalWriter
from storage.online_lmdb import LmdbOnlineStore

logging.disable(logging.CRITICAL)
folder, policy = Path(sys.argv[1]), Uniform()
store = LmdbOnlineStore(folder / "online", keep=10**12, hold=10**12, idle=10**12)
store.ready()
decider = Decider(
    policy=lambda: policy, store=store, journal=FileJournalWriter(folder / "journal", "w0"),
    ids=DecisionIds(b"0123456789abcdef"), clock=SystemClock(), seed=1, prices=dict, moments=lambda: MOMENTS,
    rooms=rooms_of([Cap(name="c", channel="sms", at_most=3, within="7d")]),
)

def some(name, count):
    for number in range(count):
        answer = decider.decide(
            DecisionRequest(
                user_id=f"{name}{number}", moment="guidance", idempotency_key="k", context={"x": "y" * 200},
                actions=(Action(id="sms", value=1.0, channel="sms"),),
            )
        )
        print(json.dumps([name, answer.decision_id, answer.action, answer.degraded]), flush=True)

some("before", 50)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
some("full", 400)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
some("after", 50)
"""


def test_a_full_disk_answers_defaults_and_nobody_dies(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STORY, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [sum(each[0] == name for each in said) for name in ("before", "full", "after")] == [50, 400, 50]
    assert not any(degraded for name, _, _, degraded in said if name != "full")
    assert sum(degraded for *_, degraded in said) > 100
    assert all(action == "usual_page" for _, _, action, degraded in said if degraded)
    kept, void = set[str](), set[str]()
    reader, after = FileJournalReader(tmp_path / "journal"), (0, 0)
    while records := reader.read("w0", after):
        after = records[-1][0]
        for _, record in records:
            if head(record)[0] == b"D":
                kept.add(decode_decision(record).decision_id)
            else:
                void.add(decode_void(record))
    assert {decision_id for _, decision_id, _, degraded in said if not degraded} <= kept - void
