"""Users of the global holdout get every moment's default, and it is in the journal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from kernel.clock import FixedClock
from kernel.learning import Action
from realtime.decider import Decider
from realtime.decision_ids import DecisionIds
from realtime.moments import DecisionRequest, Moment
from realtime.policy import Uniform
from storage.journal import FileJournalWriter
from storage.online_lmdb import LmdbOnlineStore

MOMENTS = {"leaving": Moment(default=Action(id="nothing"), actions=(Action(id="coupon"),))}


def test_the_held_out_get_the_default_and_the_others_what_the_policy_says(tmp_path: Path) -> None:
    store = LmdbOnlineStore(tmp_path / "online", keep=1, hold=1, idle=1)
    journal = FileJournalWriter(tmp_path / "journal", "w0")
    decider = Decider(
        policy=Uniform, store=store, journal=journal, ids=DecisionIds(b"0123456789abcdef"),
        clock=FixedClock(at=datetime(2026, 3, 2, tzinfo=UTC)), seed=1, prices=dict,
        moments=lambda: MOMENTS, held_out=lambda user: user == "anna",
    )  # fmt: skip
    users = ("anna", "bert")
    asked = {each: decider.decide(DecisionRequest(user_id=each, moment="leaving")) for each in users}
    assert (asked["anna"].action, asked["anna"].propensity, asked["anna"].degraded) == ("nothing", 1.0, False)
    assert "held out" in asked["anna"].reason
    assert asked["bert"].action == "coupon"
    journal.close()
    store.close()
    text = b"".join(path.read_bytes() for path in (tmp_path / "journal").rglob("*") if path.is_file())
    assert b'"anna"' in text
