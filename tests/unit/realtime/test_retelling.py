from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from kernel.clock import FixedClock, micros
from kernel.contact import Cap
from kernel.learning import Action
from realtime.decider import Answer, Decider, rooms_of
from realtime.decision_ids import DecisionIds
from realtime.moments import MOMENTS, DecisionRequest
from realtime.policy import Uniform
from realtime.records import encode_outcome, encode_void
from realtime.retelling import retell
from realtime.rewards import Outcome
from storage.journal import FileJournalReader, FileJournalWriter
from storage.online_lmdb import LmdbOnlineStore

AT = datetime(2017, 10, 16, 8, tzinfo=UTC)
NOW = micros(AT)
SMS = Action(id="sms", value=1.0, channel="sms", resource="texts")
LONG = 10**15


def test_what_the_journals_say_is_what_was_shared(tmp_path: Path) -> None:
    journal = FileJournalWriter(tmp_path / "journal", "w0")
    stores = [
        LmdbOnlineStore(tmp_path / each, keep=LONG, hold=LONG, idle=LONG) for each in ("before", "after")
    ]
    before, after = stores
    rooms = rooms_of([Cap(name="week", channel="sms", at_most=2, within="7d")])

    def ask(user: str, key: str | None, store: LmdbOnlineStore = before) -> Answer:
        decider = Decider(
            policy=Uniform, store=store, journal=journal, ids=DecisionIds(b"0123456789abcdef"), rooms=rooms,
            clock=FixedClock(at=AT), seed=1, prices=lambda: {"texts": 0.0}, moments=lambda: MOMENTS,
        )  # fmt: skip
        actions = (SMS,)
        return decider.decide(
            DecisionRequest(user_id=user, moment="guidance", actions=actions, idempotency_key=key)
        )

    first = ask("ann", "k")
    ask("ann", None)
    default = ask("ann", "full")
    assert (first.action, default.action) == ("sms", "usual_page")
    never = ask("bo", None)
    journal.append(encode_void(never.decision_id, NOW))
    journal.append(encode_outcome(Outcome(first.decision_id, "o1", "buy", 1.0, NOW, NOW)))
    journal.append(encode_outcome(Outcome(first.decision_id, "old", "buy", 1.0, NOW - 9, NOW - 9)))

    spent: list[tuple[str, float, str]] = []
    reader = FileJournalReader(tmp_path / "journal")
    assert retell(reader, after, NOW - 1, lambda *said: spent.append(said) is None) == 4
    assert [each[:2] for each in spent] == [("texts", 1.0)] * 2
    assert spent[0][2] == first.decision_id
    assert ask("ann", "k", after) == first
    assert ask("ann", "full", after) == default
    assert [each.at for each in after.look("ann", NOW, key=None, session=None)[1].held()] == [NOW, NOW]
    assert after.look("bo", NOW, key=None, session=None)[1].most == 0
    assert after.reported("o1")
    assert not after.reported("old")
    for store in stores:
        store.close()
    journal.close()
