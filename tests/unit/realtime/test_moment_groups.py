"""A moment that is for members of groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kernel.clock import FixedClock
from kernel.errors import Unavailable
from kernel.learning import Action
from realtime.decider import Answer, Decider
from realtime.decision_ids import DecisionIds
from realtime.moments import DecisionRequest, Moment
from realtime.policy import Uniform
from storage.journal import FileJournalWriter
from storage.online_lmdb import LmdbOnlineStore

Member = Callable[[str, str], bool]
MOMENTS = {
    "unboxing": Moment(
        default=Action(id="plain_card"), actions=(Action(id="guide"),), groups=("lapsed", "new")
    )
}


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Callable[[str, Member | None], Answer]]:
    store = LmdbOnlineStore(tmp_path / "online", keep=1, hold=1, idle=1)
    journal = FileJournalWriter(tmp_path / "journal", "w0")

    def asked(user: str, member: Member | None) -> Answer:
        decider = Decider(
            policy=Uniform, store=store, journal=journal, ids=DecisionIds(b"0123456789abcdef"),
            clock=FixedClock(at=datetime(2026, 3, 2, tzinfo=UTC)), seed=1, prices=dict,
            moments=lambda: MOMENTS, member=member,
        )  # fmt: skip
        return decider.decide(DecisionRequest(user_id=user, moment="unboxing"))

    yield asked
    store.close()
    journal.close()


def test_members_of_any_group_are_decided_for(ask: Callable[[str, Member | None], Answer]) -> None:
    answer = ask("anna", lambda group, user: (group, user) == ("new", "anna"))
    assert (answer.action, answer.degraded) == ("guide", False)


def test_others_get_the_safe_default(ask: Callable[[str, Member | None], Answer]) -> None:
    answer = ask("bert", lambda group, user: user == "anna")
    assert (answer.action, answer.degraded) == ("plain_card", False)
    assert answer.reason == "this user is in none of the groups lapsed, new"


def test_groups_that_cannot_be_asked_fail_closed(ask: Callable[[str, Member | None], Answer]) -> None:
    def down(_group: str, _user: str) -> bool:
        raise Unavailable("still loading")

    for member in (down, None):
        answer = ask("anna", member)
        assert (answer.action, answer.degraded) == ("plain_card", True)
        assert answer.reason.startswith("groups cannot be asked")
