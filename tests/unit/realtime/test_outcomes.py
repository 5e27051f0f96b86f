from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kernel.clock import FixedClock, micros
from kernel.errors import BadInput, NotFound, Unavailable
from realtime.decision_ids import DecisionIds
from realtime.outcomes import SKEW, OutcomeReport, Outcomes, family
from realtime.records import decode_outcome
from realtime.rewards import ELSEWHERE, NET_VALUE, Outcome, RewardRule
from storage.journal import FileJournalReader, FileJournalWriter
from storage.online_lmdb import LmdbOnlineStore

AT = datetime(2017, 10, 16, 8, tzinfo=UTC)
WINDOW, TICK = timedelta(minutes=30), timedelta(microseconds=1)
RULES = {"guidance": RewardRule(name="g", within="30m", grace="1m"), ELSEWHERE: NET_VALUE}
IDS = DecisionIds(b"0123456789abcdef")


class Desk:
    def __init__(self, folder: Path) -> None:
        self.store = LmdbOnlineStore(folder / "online", keep=10**12, hold=1, idle=1)
        self.journal = FileJournalWriter(folder / "journal", "w0")
        self._reader = FileJournalReader(folder / "journal")

    def kept(self) -> list[Outcome]:
        return [decode_outcome(record) for _, record in self._reader.read("w0", (0, 0))]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.store.close()
    desk.journal.close()


def report(
    desk: Desk, after: timedelta = TICK, *, now: timedelta = WINDOW, moment: str = "guidance", **changes: Any
) -> str:
    made = {"outcome_id": "o1", "decision_id": IDS.new(micros(AT), moment), "name": "order", "value": 4.0}
    said = OutcomeReport.model_validate({**made, "occurred_at": AT + after, **changes})
    clock = FixedClock(at=AT + now)
    return Outcomes(
        store=desk.store, journal=desk.journal, ids=IDS, clock=clock, rules=lambda: RULES
    ).observe(said)  # fmt: skip


def test_an_outcome_is_in_the_journal_when_it_is_answered(desk: Desk) -> None:
    made = IDS.new(micros(AT), "guidance")
    assert report(desk, decision_id=made) == "counted"
    then, now = micros(AT + TICK), micros(AT + WINDOW)
    assert desk.kept() == [Outcome(made, "o1", "order", 4.0, then, now)]


def test_the_window_is_closed_at_its_end(desk: Desk) -> None:
    assert report(desk, WINDOW) == "counted"
    assert report(desk, WINDOW + TICK, outcome_id="o2") == "late"
    assert len(desk.kept()) == 2


def test_what_comes_after_the_reward_is_final_is_late(desk: Desk) -> None:
    final = WINDOW + timedelta(minutes=1)
    assert report(desk, now=final) == "counted"
    assert report(desk, now=final + TICK, outcome_id="o2") == "late"


def test_another_moment_has_another_rule(desk: Desk) -> None:
    assert report(desk, timedelta(hours=2), now=timedelta(hours=3), moment="checkout") == "counted"
    assert report(desk, timedelta(hours=2), now=timedelta(hours=3), outcome_id="o2") == "late"


def test_a_repeated_outcome_changes_nothing(desk: Desk) -> None:
    assert [report(desk), report(desk, value=99.0)] == ["counted", "repeated"]
    assert [each.value for each in desk.kept()] == [4.0]


@pytest.mark.parametrize("given", ["nobody", "00" * 26])
def test_an_outcome_of_an_unknown_decision_is_not_found(desk: Desk, given: str) -> None:
    with pytest.raises(NotFound, match="decision_id"):
        report(desk, decision_id=given)
    assert desk.kept() == []


@pytest.mark.parametrize("after", [-SKEW - TICK, WINDOW + SKEW + TICK])
def test_a_time_before_the_decision_or_to_come_is_refused(desk: Desk, after: timedelta) -> None:
    with pytest.raises(BadInput, match="occurred_at"):
        report(desk, after)
    assert report(desk, -SKEW) == "counted"
    assert report(desk, WINDOW + SKEW, outcome_id="o2") == "late"


@pytest.mark.parametrize("what", ["store", "journal"])
def test_an_outcome_that_cannot_be_kept_is_not_acknowledged(desk: Desk, what: str) -> None:
    getattr(desk, what).close()
    with pytest.raises(Unavailable):
        report(desk)


def test_a_family_is_a_name_without_its_version() -> None:
    assert (family("squarecb@12"), family("uniform")) == ("squarecb", "uniform")
