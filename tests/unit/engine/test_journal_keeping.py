"""How long decisions are remembered, who lets them go, and who learns of a promotion when."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from engine.journal_keeping import describe_journals, journal_age
from engine.learning import Learning
from engine.live import Promotions, tell_of_promotion
from engine.realtime_service import RealTimeService
from engine.usecases import apply
from engine.wiring import Workspace, open_workspace
from kernel.errors import BadInput
from kernel.learning import Action
from realtime.api import Answer, DecisionRequest
from storage.journal import FileJournalReader
from storage.journal_pruning import journal_size

pytestmark = pytest.mark.filterwarnings("default::Warning:mlflow", "default::ResourceWarning")
BEGIN = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CATALOG = """
sources: {shop: {url: "parquet://data"}}
entities: {user: {source: shop, table: users, key: uid}}
fields: {}
"""


class Hands:
    """A clock that is set by hand."""

    at = BEGIN

    def now(self) -> datetime:
        return self.at


def workspace(root: Path, hands: Hands, *said: dict[str, Any], **settings: Any) -> Workspace:
    (root / "data").mkdir(parents=True)
    (root / "growth.toml").write_text("name = 'shop'")
    (root / "catalog.yaml").write_text(CATALOG)
    pl.DataFrame({"uid": ["u"]}).write_parquet(root / "data" / "users.parquet")
    opened = open_workspace(root)
    if said:
        (root / "said.yaml").write_text(yaml.safe_dump_all(said))
        apply(opened, root / "said.yaml", by="tests")
    return Workspace(root=root, settings=opened.settings.model_copy(update=settings), clock=hands)


def show(space: Workspace, user: str = "u") -> Answer:
    service, sms = RealTimeService(space), Action(id="sms", channel="sms", value=1.0)
    service.start()
    service._consent.refresh()  # which its thread does in its own time
    try:
        return service.decide(DecisionRequest(user_id=user, moment="guidance", actions=(sms,)))
    finally:
        service.close()


def cap(within: str) -> dict[str, Any]:
    return {"kind": "cap", "name": "rare", "channel": "sms", "at_most": 1, "within": within}


def learned(space: Workspace) -> None:
    """Until nothing is left, and once more for what was published first."""
    learning = Learning(space)
    while learning.round():
        pass
    learning._pruned = float("-inf")
    learning.round()
    learning.close()


def kept(space: Workspace) -> int:
    reader, found = FileJournalReader(space.journal), 0
    for writer in reader.writers():
        after = (0, 0)
        while records := reader.read(writer, after):
            after, found = records[-1][0], found + len(records)
    return found


def age(space: Workspace, at: datetime) -> None:
    for each in space.journal.glob("*.log"):
        os.utime(each, (at.timestamp(), at.timestamp()))


def test_journals_are_kept_as_long_as_told_or_as_a_cap_looks_back(tmp_path: Path) -> None:
    assert journal_age(workspace(tmp_path / "a", Hands())) == 90 * DAY
    assert journal_age(workspace(tmp_path / "b", Hands(), keep_journal=5)) == 32 * DAY
    assert journal_age(workspace(tmp_path / "c", Hands(), cap("120d"))) == 120 * DAY
    reward = {"kind": "reward", "name": "slow", "within": "200d", "grace": "1d"}
    assert journal_age(workspace(tmp_path / "d", Hands(), reward)) == 202 * DAY


def test_who_learns_lets_go_of_what_is_old_and_learned(tmp_path: Path) -> None:
    hands = Hands()
    space = workspace(tmp_path / "shop", hands)
    for number in range(3):
        show(space, f"u{number}")
        hands.at += timedelta(minutes=1)
    age(space, BEGIN)
    hands.at = BEGIN + 89 * DAY
    learned(space)
    assert kept(space) == 3
    assert "kept for 90" in describe_journals(space)
    hands.at = BEGIN + 91 * DAY
    learned(space)
    assert kept(space) == 0
    hands.at = BEGIN + 92 * DAY
    show(space)
    assert kept(space) == 1


def test_what_is_old_and_not_learned_stays_and_the_doctor_says_so(tmp_path: Path) -> None:
    hands = Hands()
    space = workspace(tmp_path / "shop", hands)
    assert describe_journals(space) == "nothing was decided yet"
    show(space)
    age(space, BEGIN)
    hands.at = BEGIN + 100 * DAY
    with pytest.raises(BadInput, match="the oldest of 100 days; kept for 90; who learns prunes them"):
        describe_journals(space)
    assert journal_size(space.journal).bytes > 0


def test_a_cap_that_looks_back_far_holds_after_the_machine_went_down(tmp_path: Path) -> None:
    hands = Hands()
    space = workspace(tmp_path / "shop", hands, cap("60d"))
    assert show(space).action == "sms"
    hands.at = BEGIN + 40 * DAY
    assert show(space, "other").action == "sms"  # and what is over goes
    (space.root / "var" / "online" / "boot").write_text("before the machine went down")
    assert show(space).action == "usual_page"
    hands.at = BEGIN + 61 * DAY
    assert show(space).action == "sms"


def test_a_promotion_here_is_seen_at_once_and_others_now_and_then(tmp_path: Path) -> None:
    space = workspace(tmp_path / "shop", Hands())
    rarely = Promotions(space, every=1e9)
    assert [rarely.due() for _ in range(3)] == [True, False, False]
    tell_of_promotion(space)
    assert [rarely.due() for _ in range(3)] == [True, False, False]
    rarely.missed()
    assert [rarely.due() for _ in range(3)] == [True, False, False]
    assert all(Promotions(space, every=0.0).due() for _ in range(3))
