"""A challenger in the shadow of journals: sampled as decisions come, judged as rewards become final."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernel.errors import Unavailable
from kernel.learning import Action, Decision
from realtime.choosing import NO_POLICY
from realtime.join import Join, Joined
from realtime.offpolicy import evaluate
from realtime.policy import Fixed
from realtime.records import encode_decision, encode_outcome, micros
from realtime.replay import as_logged, replay
from realtime.rewards import Outcome
from realtime.shadowing import JournalShadow, Tally
from storage.journal import FileJournalReader, FileJournalWriter

AT = datetime(2017, 10, 16, 8, tzinfo=UTC)
ACTIONS = (Action(id="a"), Action(id="b", cost=0.1))
LATE = micros(AT + timedelta(days=30), "at")
B = Fixed(action="b")


def at(number: int) -> datetime:
    return AT + timedelta(seconds=number)


def fill(folder: Path, numbers: range, writer: str = "w0", policy: str = "uniform") -> None:
    """`b` pays half the time, `a` never; P(b) = 1/4 where the number is even, else 3/4."""
    rng, journal = np.random.default_rng(numbers.start), FileJournalWriter(folder, writer)
    for number in numbers:
        low = number % 2 == 0
        propensities = (0.75, 0.25) if low else (0.25, 0.75)
        chosen = int(rng.random() < propensities[1])
        decision = Decision(
            decision_id=f"d{number}", user_id="u", moment="guidance", decided_at=at(number),
            context={"low": low}, actions=("a", "b"), propensities=propensities, action=ACTIONS[chosen].id,
            propensity=propensities[chosen], policy=policy, prices={}, reason="",
        )  # fmt: skip
        journal.append(encode_decision(decision, ACTIONS))
        if chosen and rng.random() < 0.5:
            then = micros(at(number), "at") + 1_000_000
            journal.append(encode_outcome(Outcome(f"d{number}", f"o{number}", "order", 2.0, then, then)))
    journal.close()


def shadow(folder: Path, challenger: Any = B, **more: Any) -> JournalShadow:
    return JournalShadow(challenger, FileJournalReader(folder), **{"since": 0, "most": 10_000, **more})


def final(folder: Path) -> list[Joined]:
    return list(Join(FileJournalReader(folder)).final(LATE, 100_000))


def test_its_value_is_that_of_the_off_policy_estimate(tmp_path: Path) -> None:
    fill(tmp_path, range(2000))
    seen = shadow(tmp_path)
    for joined in final(tmp_path):
        seen.judge(joined)
    log = [(each.choice.decision, each.actions, each.reward) for each in final(tmp_path)]
    judged, tally = evaluate(replay(log, B)), seen.tally
    value, live = tally.value(), tally.live()
    assert value is not None
    assert live is not None
    assert value.mean == pytest.approx(judged.snips.mean)
    assert (value.low, value.high) == pytest.approx((judged.snips.low, judged.snips.high), abs=1e-3)
    assert value.low < 0.9 < value.high  # half of 2, less the cost
    assert tally.judged == 2000
    assert tally.effective == pytest.approx(judged.effective)
    paid = as_logged(log).rewards
    assert live.mean == pytest.approx(paid.mean())
    assert live.high - live.mean == pytest.approx(1.96 * paid.std(ddof=1) / 2000**0.5, rel=1e-3)
    assert tally.warning == ""


def test_as_they_come_it_tells_how_far_apart_they_are(tmp_path: Path) -> None:
    fill(tmp_path, range(40))
    seen = shadow(tmp_path)
    assert seen.follow() == 40
    assert (seen.tally.decisions, seen.tally.agreement, seen.tally.apart) == (40, 0.5, 0.5)
    assert seen.follow() == 0
    fill(tmp_path, range(40, 60))
    fill(tmp_path, range(60, 70), writer="w1")
    assert seen.follow() == 30


def test_a_round_samples_so_many_and_passes_over_the_rest(tmp_path: Path) -> None:
    fill(tmp_path, range(40))
    seen = shadow(tmp_path, most=10)
    for joined in final(tmp_path):
        seen.judge(joined)
    assert seen.follow() == 10
    assert (seen.tally.decisions, seen.tally.judged) == (10, 10)
    assert seen.follow() == 0
    fill(tmp_path, range(40, 60))
    for joined in final(tmp_path)[40:]:
        seen.judge(joined)
    assert seen.follow() == 10
    assert seen.tally.judged == 20


def test_what_the_challenger_knew_and_what_no_policy_decided_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path, range(20))
    fill(tmp_path, range(20, 30), policy=NO_POLICY)
    seen = shadow(tmp_path, since=micros(at(14), "at"))
    for joined in final(tmp_path):
        seen.judge(joined)
    assert seen.follow() == 5
    assert seen.tally.judged == 5


def test_kept_and_gone_on_with_it_counts_each_once(tmp_path: Path) -> None:
    fill(tmp_path, range(50))
    calm, first = shadow(tmp_path), shadow(tmp_path)
    told = final(tmp_path)
    for joined in told[:20]:
        first.judge(joined)
    first.settle(told[19].final)
    first.follow()
    again = shadow(tmp_path, tally=Tally(**asdict(first.tally)), place=first.place)
    fill(tmp_path, range(50, 60))
    told = final(tmp_path)
    for joined in told:  # a learner that was killed tells all of them again
        again.judge(joined)
    again.follow()
    for joined in told:
        calm.judge(joined)
    calm.follow()
    assert asdict(again.tally) == pytest.approx(asdict(calm.tally))
    assert again.tally.decisions == again.tally.judged == 60


def test_one_that_fails_is_counted_and_breaks_nothing(tmp_path: Path) -> None:
    class Broken(Fixed):
        def distribution(self, context: Any, actions: Sequence[Action]) -> tuple[float, ...]:
            if context["low"]:
                raise Unavailable("no idea")
            return super().distribution(context, actions)

    fill(tmp_path, range(20))
    seen = shadow(tmp_path, Broken(action="b"))
    for joined in final(tmp_path):
        seen.judge(joined)
    seen.follow()
    tally = seen.tally
    assert (tally.decisions, tally.failures, tally.failure, tally.judged) == (20, 10, "no idea", 10)
    assert tally.agreement == 1.0


def test_of_nothing_there_is_nothing_to_tell_and_of_little_a_warning() -> None:
    tally = Tally()
    assert (tally.agreement, tally.apart, tally.value(), tally.live(), tally.warning) == (None,) * 4 + ("",)
    for weight in (0.0, 0.0):
        tally.earned(weight, 1.0)
    assert tally.value() is None
    assert tally.live() is not None
    tally.earned(2.0, 1.0)
    assert tally.warning == "3 decisions say only as much as 1 of its own"
