"""The ledger of an older workspace goes on in what deciders share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert, select

from engine.wiring import open_workspace
from kernel.clock import FixedClock, micros
from kernel.contact import Cap
from kernel.exposure import Reservation
from storage.ledger_import import touches

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
WEEKLY = Cap(name="weekly", at_most=1, within="7d")


def test_what_counted_in_sql_counts_on_once(tmp_path: Path) -> None:
    (tmp_path / "growth.toml").write_text("name = 'test'\n")
    space = open_workspace(tmp_path, FixedClock(at=NOON))
    rows = [
        {
            "touch_id": name, "user_id": user, "channel": "mail", "message_class": "marketing",
            "at_us": micros(NOON - timedelta(days=1)), "state": state, "expires_us": None,
            "changed_us": micros(NOON), "run": "r", "plan": "plan/2026-01-14",
        }
        for name, user, state in (("a", "u", "confirmed"), ("b", "v", "reserved"), ("c", "w", "released"))
    ]  # fmt: skip
    with space.database.begin() as connection:
        connection.execute(insert(touches), rows)
    assert space.ledger.states("abc") == {"a": "confirmed", "b": "reserved", "c": "unknown"}
    with space.database.connect() as connection:
        assert connection.execute(select(touches)).all() == []
    for user, fits in (("u", False), ("v", False), ("w", True)):
        wish = Reservation(touch_id=f"new {user}", user=user, channel="mail", at=NOON)
        assert (space.ledger.reserve(wish, caps=[WEEKLY]) is None) == fits
    assert space.ledger.reserve_many([], caps=[], replaces="plan/2026-01-14") == {}
    assert space.ledger.states("b") == {"b": "released"}
    space.ledger.close()
    space.database.dispose()
