"""How fast decisions and outcomes are learned from the journals, beside the learner alone."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import vowpalwabbit

from benchmarks.case import Case, Line
from kernel.clock import FixedClock
from kernel.learning import Action, Decision
from realtime.learner import Follower, JournalLearner
from realtime.records import encode_decision, encode_outcome, micros
from realtime.rewards import Outcome
from realtime.tokens import terms
from realtime.vw import SquareCB
from storage.journal import FileJournalReader, FileJournalWriter
from storage.snapshots import FileSnapshots

_AT = datetime(2026, 1, 1, tzinfo=UTC)
_LATER = FixedClock(at=_AT + timedelta(days=30))
ACTIONS = tuple(
    Action(
        id=f"a{each}", features={"kind": f"k{each % 3}", "size": each / 10, "new": each % 2 == 0}, cost=0.1
    )
    for each in range(10)
)


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size` decisions among ten actions with twenty features of the user, an outcome to each."""
    decisions = _decisions(size, seed)
    with tempfile.TemporaryDirectory() as folder:
        journal, snapshots = Path(folder) / "journal", FileSnapshots(Path(folder) / "snapshots")
        written = _timed(lambda: _write(journal, decisions))
        policy = SquareCB()
        learner = JournalLearner(
            policy, journal=FileJournalReader(journal), snapshots=snapshots, clock=_LATER
        )
        ours = _timed(lambda: _until_done(learner))
        published = _timed(learner.publish)
        follower = Follower(SquareCB(), snapshots)
        refreshed = _timed(follower.refresh)
    assert learner.learned.outcomes == size
    alone = _timed(lambda: _raw(decisions))
    return [
        Line(
            size=size,
            who="ours",
            ratio=1.0,
            times=1.0,
            seconds=ours,
            notes={
                "decisions with their outcome, a second": f"{size / ours:,.0f}",
                "records a second": f"{2 * size / ours:,.0f}",
                "written a second": f"{2 * size / written:,.0f}",
                "publishing, ms": f"{1000 * published:.1f}",
                "taking over, ms": f"{1000 * refreshed:.1f}",
            },
        ),
        Line(
            size=size,
            who="Vowpal Wabbit alone",
            ratio=ours / alone,
            times=alone / ours,
            seconds=alone,
            notes={"decisions with their outcome, a second": f"{size / alone:,.0f}"},
        ),
    ]


def _timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return max(time.process_time() - start, 1e-9)


def _until_done(learner: JournalLearner) -> None:
    while learner.step():
        pass


def _decisions(size: int, seed: int) -> list[Decision]:
    rng = np.random.default_rng(seed)
    labels, numbers = rng.integers(0, 20, (size, 10)).tolist(), rng.random((size, 10)).round(3).tolist()
    return [
        Decision(
            decision_id=f"{row:032x}",
            user_id=f"u{row}",
            moment="guidance",
            decided_at=_AT + timedelta(milliseconds=row),
            context={f"f{each}": f"v{label}" for each, label in enumerate(labels[row])}
            | {f"n{each}": number for each, number in enumerate(numbers[row])},
            actions=tuple(each.id for each in ACTIONS),
            propensities=(0.1,) * 10,
            action=f"a{row % 10}",
            propensity=0.1,
            policy="squarecb@0",
            prices={},
            reason="drawn",
        )
        for row in range(size)
    ]


def _write(journal: Path, decisions: list[Decision]) -> None:
    writer = FileJournalWriter(journal, "w0")
    for number, decision in enumerate(decisions):
        writer.append(encode_decision(decision, ACTIONS))
        at = micros(decision.decided_at, "at") + 1000
        outcome = Outcome(decision.decision_id, f"o{number}", "order", float(number % 3 == 0), at, at)
        writer.append(encode_outcome(outcome))
    writer.close()


def _raw(decisions: list[Decision]) -> None:
    """As the vendor's manual has it: all actions parsed, one labelled."""
    workspace = vowpalwabbit.Workspace(
        "--cb_explore_adf --squarecb --gamma_scale 10 --epsilon 0.05 --cb_type mtr --interactions ua "
        "-b 18 --quiet"
    )
    offered = [_tokens([("id", each.id), *each.features.items()]) for each in ACTIONS]
    for number, decision in enumerate(decisions):
        lines = [f"|a {each}" for each in offered]
        lines[number % 10] = f"0:{-float(number % 3 == 0):g}:0.1 {lines[number % 10]}"
        examples = workspace.parse("\n".join([f"shared |u {_tokens(decision.context.items())}", *lines]))
        workspace.learn(examples)
        workspace.finish_example(examples)


def _tokens(pairs: Iterable[tuple[object, object]]) -> str:
    return " ".join(each if number is None else f"{each}=:{number:.7g}" for each, number in terms(pairs))


CASE = Case(
    about=(
        "One learner reads the journals, joins decisions with outcomes and learns. Seconds are of the "
        "processor. The peer makes the same text, and parses and learns it, with no journal and no join."
    ),
    measure="decisions a second",
    sizes=(50_000,),
    smoke=300,
    run=run,
    packages=("vowpalwabbit",),
)
