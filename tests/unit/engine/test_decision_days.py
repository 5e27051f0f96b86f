"""The report of a day's decisions, off real journals."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.cli.main import app
from engine.decision_days import decisions_of
from engine.usecases import init_workspace
from engine.wiring import Workspace, open_workspace
from kernel.clock import FixedClock
from kernel.learning import Action, Decision
from realtime.api import Outcome, encode_decision, encode_outcome, encode_void, micros
from storage.journal import FileJournalWriter

MIDNIGHT = datetime(2017, 10, 16, tzinfo=UTC)
DAY = date(2017, 10, 16)
ACTIONS = (Action(id="coupon", cost=0.5, resource="coupons"), Action(id="page"))


def decided(
    number: int, at: datetime, chosen: int, policy: str = "squarecb@7", *, degraded: bool = False
) -> bytes:
    decision = Decision(
        decision_id=f"d{number}", user_id="u", moment="guidance", decided_at=at, context={},
        actions=("coupon", "page"), propensities=(0.5, 0.5), action=ACTIONS[chosen].id, propensity=0.5,
        policy=policy, prices={"coupons": 0.1}, reason="", degraded=degraded,
    )  # fmt: skip
    return encode_decision(decision, ACTIONS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A day with its neighbours, by two writers and in several segments."""
    root = tmp_path / "shop"
    init_workspace(root)
    text = (root / "growth.toml").read_text()
    (root / "growth.toml").write_text("\n".join(each for each in text.splitlines() if "timezone" not in each))
    writers = [FileJournalWriter(root / "var" / "journal", f"w{each}", segment=400) for each in range(2)]
    for number in range(12):
        at = MIDNIGHT + timedelta(hours=3 * number - 6)  # two before, eight on the day, two after
        writers[number % 2].append(decided(number, at, number % 4 == 0, f"squarecb@{number}"))
        if number in (3, 5):
            then = micros(at, "at") + 60_000_000
            writers[0].append(encode_outcome(Outcome(f"d{number}", f"o{number}", "order", 2.0, then, then)))
    noon = MIDNIGHT + timedelta(hours=12)
    writers[1].append(decided(20, noon, 0))
    writers[1].append(encode_void("d20", micros(noon, "at")))
    writers[1].append(decided(21, noon, 1, "default", degraded=True))
    for each in writers:
        each.close()
    return root


def workspace(root: Path, at: datetime) -> Workspace:
    opened = open_workspace(root)
    return Workspace(root=root, settings=opened.settings, clock=FixedClock(at=at))


def test_a_day_is_told_when_its_rewards_are_final(root: Path) -> None:
    found = decisions_of(workspace(root, MIDNIGHT + timedelta(days=3)), DAY)
    assert (found["decisions"], found["pending"], found["degraded"]) == (9, 0, 1)
    coupon, fallback, page = found["shown"]
    assert (coupon["moment"], coupon["action"], coupon["policy"]) == ("guidance", "coupon", "squarecb")
    assert (coupon["decisions"], coupon["outcomes"], coupon["uses"]) == (6, 2, 6)
    assert coupon["cost"] == pytest.approx(3.0)
    assert coupon["reward"]["mean"] == pytest.approx((2 * 2.0 - 6 * 0.5) / 6)
    assert coupon["reward"]["low"] < coupon["reward"]["mean"] < coupon["reward"]["high"]
    # four rewards of −0.5 and two of 1.5: Student's quantile of five degrees is 2.5706
    assert coupon["reward"]["high"] == pytest.approx(1 / 6 + 2.5706 * math.sqrt(16 / 15 / 6), abs=1e-3)
    assert (page["action"], page["decisions"]) == ("page", 2)
    assert (fallback["policy"], fallback["decisions"]) == ("default", 1)
    assert fallback["reward"] == {"mean": 0.0, "low": None, "high": None}


def test_what_is_not_final_is_pending(root: Path) -> None:
    found = decisions_of(workspace(root, MIDNIGHT + timedelta(hours=36)), DAY)
    assert found["decisions"] == 9
    assert 0 < found["pending"] == 9 - sum(each["decisions"] for each in found["shown"]) < 9


def test_a_day_on_which_nothing_was_decided(root: Path) -> None:
    found = decisions_of(workspace(root, MIDNIGHT + timedelta(days=3)), date(2016, 1, 1))
    assert (found["decisions"], found["pending"], found["shown"]) == (0, 0, [])


def test_the_command_tells_it_to_people_and_machines(root: Path) -> None:
    words = ["decisions", "--date", "2017-10-16", "--dir", str(root)]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0
    assert "2017-10-16: 9 decisions, 0 of them with their reward still to come, 1 degraded" in told.stdout
    assert "coupon" in told.stdout
    assert json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["decisions"] == 9
