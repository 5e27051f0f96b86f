"""Kill the learner again and again, also while it prunes: it ends bit for bit where one that was never killed
ends."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kernel.clock import FixedClock
from kernel.learning import Action, Decision
from realtime.learner import Follower, JournalLearner, Learned
from realtime.records import encode_decision, encode_outcome, micros
from realtime.rewards import Outcome
from realtime.vw import SquareCB
from storage.journal import FileJournalReader, FileJournalWriter
from storage.journal_pruning import journal_size
from storage.snapshots import FileSnapshots

AT = datetime(2017, 10, 16, 8, tzinfo=UTC)
COUNT = 3000
LEARNER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from kernel.clock import FixedClock
from realtime.learner import JournalLearner
from realtime.vw import SquareCB
from storage.journal import FileJournalReader
from storage.journal_pruning import prune
from storage.snapshots import FileSnapshots

folder = Path(sys.argv[1])
learner = JournalLearner(
    SquareCB(bits=12), journal=FileJournalReader(folder / "journal"),
    snapshots=FileSnapshots(folder / "snapshots"), clock=FixedClock(at=datetime(2018, 1, 1, tzinfo=UTC)),
)
print("up", flush=True)
left = True
while left:
    left = learner.step(20)
    learner.publish()
    if sys.argv[2] == "prunes":
        prune(folder / "journal", 1e12, learner.passed)
    print(learner.learned.decisions, flush=True)
print("done", flush=True)
"""


@pytest.mark.parametrize("how", ["keeps all", "prunes"])
def test_each_decision_is_learned_from_once_whenever_it_is_killed(tmp_path: Path, how: str) -> None:
    fill(tmp_path / "journal", segment=30_000)
    calm, learned = finished(tmp_path / "journal", tmp_path / "calm")
    whole = journal_size(tmp_path / "journal").bytes
    lives, chance, last = 0, random.Random(1), ""  # noqa: S311  a test's
    while last != "done":
        with subprocess.Popen(
            [sys.executable, "-c", LEARNER, str(tmp_path), how], stdout=subprocess.PIPE, text=True
        ) as learner:
            assert learner.stdout is not None
            lines = [learner.stdout.readline() for _ in range(chance.randint(2, 40))]
            if lives < 8:
                learner.send_signal(signal.SIGKILL)
            lines += learner.stdout.readlines()
        last, lives = lines[-1].strip(), lives + 1
    assert lives > 5
    killed = SquareCB(bits=12)
    follower = Follower(killed, FileSnapshots(tmp_path / "snapshots"))
    assert follower.refresh()
    assert follower.learned == learned
    assert (learned.decisions, learned.lessons, learned.outcomes) == (COUNT, COUNT, COUNT // 5)
    assert killed.save() == calm
    left = journal_size(tmp_path / "journal").bytes
    assert left < 0.2 * whole if how == "prunes" else left == whole


def finished(journal: Path, snapshots: Path) -> tuple[bytes, Learned]:
    policy = SquareCB(bits=12)
    learner = JournalLearner(
        policy,
        journal=FileJournalReader(journal),
        snapshots=FileSnapshots(snapshots),
        clock=FixedClock(at=datetime(2018, 1, 1, tzinfo=UTC)),
    )
    while learner.step(20):
        pass
    learner.publish()
    restored = SquareCB(bits=12)  # the vendor's bytes tell a state that was opened from one that was made
    restored.restore(policy.save())
    return restored.save(), learner.learned


def fill(journal: Path, segment: int) -> None:
    """Three writers, each started twice, with a torn record at the end of some segments."""
    actions = tuple(Action(id=f"a{each}", cost=0.1 * each) for each in range(4))
    for life in range(2):
        writers = [FileJournalWriter(journal, f"w{each}", segment=segment) for each in range(3)]
        for number in range(life * COUNT // 2, (life + 1) * COUNT // 2):
            at = AT + timedelta(seconds=number)
            decision = Decision(
                decision_id=f"d{number}",
                user_id=f"u{number}",
                moment="guidance",
                decided_at=at,
                context={"n": number % 7, "city": f"c{number % 5}"},
                actions=tuple(each.id for each in actions),
                propensities=(0.25,) * 4,
                action=f"a{number % 4}",
                propensity=0.25,
                policy="squarecb@0",
                prices={},
                reason="",
            )
            writers[number % 3].append(encode_decision(decision, actions))
            if number % 5 == 0:
                for writer in (writers[number % 2], writers[2]):  # each is reported twice
                    then = micros(at + timedelta(minutes=1), "at")
                    outcome = Outcome(decision.decision_id, f"o{number}", "order", 2.0, then, then)
                    writer.append(encode_outcome(outcome))
        for writer in writers:
            writer.close()
        for torn in journal.glob(f"*.{life + 1:08d}.log"):
            with torn.open("ab") as file:
                file.write(b"\x40\0\0\0torn")
