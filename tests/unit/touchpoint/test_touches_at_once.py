"""Touches from an instant on, in what is left of each user's day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from kernel.contact import QuietHours
from kernel.work import Touchpoint
from storage.exposures_lmdb import LmdbLedger
from storage.online_lmdb import LmdbOnlineStore
from touchpoint.api import TouchPlan, plan_touches

DAY = date(2026, 3, 2)
HOLD = 31 * 86_400 * 1_000_000
PUSH = Touchpoint(name="push_main", channel="push", cost_per_touch=0.0, hours=(9, 20))
NOON = QuietHours(name="noon", start=12, end=14)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[LmdbLedger]:
    store = LmdbOnlineStore(tmp_path / "online", keep=HOLD, hold=HOLD, idle=HOLD)
    store.ready()
    ledger = LmdbLedger(store, tmp_path / "ledger")
    yield ledger
    ledger.close()
    store.close()


def plan(ledger: LmdbLedger, users: list[str], earliest: datetime | None, **changed: Any) -> TouchPlan:
    labels = {"goal": "g", "benefit": "b", "touchpoint": "push_main", "channel": "push", "content": "c"}
    rows = pl.DataFrame([{"user": user, "task": "t", **labels} for user in users])
    given: dict[str, Any] = {
        "touchpoints": [PUSH], "caps": [], "quiet_hours": [NOON], "consent": None, "zones": None,
        "default_zone": ZoneInfo("UTC"), "habits": pl.DataFrame({"user": users, "hour": [18] * len(users)}),
        "plan_date": DAY, "run": "r", "seed": 7, "plan": "rules/x", "earliest": earliest,
    }  # fmt: skip
    return plan_touches(assignments=rows, ledger=ledger, **(given | changed))


def test_now_where_an_hour_is_open_whatever_the_habit(ledger: LmdbLedger) -> None:
    now = datetime(2026, 3, 2, 10, 20, 5, tzinfo=UTC)
    found = plan(ledger, ["u1", "u2"], now).touches
    assert found["send_at"].to_list() == [now, now]
    assert found["local_time"].to_list() == ["2026-03-02T10:20:05+00:00"] * 2


def test_else_in_the_next_open_hour_of_the_day(ledger: LmdbLedger) -> None:
    users = [f"u{number}" for number in range(50)]
    found = plan(ledger, users, datetime(2026, 3, 2, 12, 30, tzinfo=UTC)).touches
    assert {at.hour for at in found["send_at"]} == {14}
    assert found["send_at"].n_unique() > 40  # a wave, not a spike


def test_each_day_ends_on_its_own_wall(ledger: LmdbLedger) -> None:
    zones = pl.DataFrame({"user": ["east", "west"], "timezone": ["Asia/Shanghai", "America/New_York"]})
    found = plan(ledger, ["east", "west"], datetime(2026, 3, 2, 12, 30, tzinfo=UTC), zones=zones)
    (touch,) = found.touches.to_dicts()
    assert touch["user"] == "west"
    # 07:30 in New York: its first hour begins at 9
    assert touch["send_at"].astimezone(ZoneInfo("America/New_York")).hour == 9
    (refused,) = found.refusals.to_dicts()
    assert (refused["user"], refused["rule"]) == ("east", "push_main")
    assert "no hour of 2026-03-02 in which 'push_main' may send is left" in refused["reason"]


def test_a_run_replaces_itself_and_no_plan(ledger: LmdbLedger) -> None:
    now = datetime(2026, 3, 2, 10, 20, tzinfo=UTC)
    plan(ledger, ["planned"], None, plan=None)
    plan(ledger, ["first", "second"], now)
    plan(ledger, ["second"], now)
    held = ledger.held(
        users=["planned", "first", "second"], since=now - timedelta(days=1), until=now + timedelta(days=1)
    )
    assert sorted(held["user"].to_list()) == ["planned", "second"]
