"""A plan's touches get the codes of their benefits' pools; who can have none gets no touch."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from engine.coupon_touches import with_codes
from engine.usecases import apply
from engine.wiring import Workspace, open_workspace
from kernel.clock import FixedClock
from kernel.work import Benefit, Touchpoint
from touchpoint.api import TouchPlan, plan_touches

DAY = date(2026, 1, 16)
MAIL = Touchpoint(name="mail_main", channel="mail", cost_per_touch=0.1)
GIFT = Benefit(name="gift", cost_per_response=1, goals=("g",), touchpoints=("mail_main",), pool="spring")
PLAIN = Benefit(name="plain", cost_per_response=1, goals=("g",), touchpoints=("mail_main",))


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "growth.toml").write_text("name = 'test'\n")
    (tmp_path / "pool.yaml").write_text("{kind: coupon_pool, name: spring, size: 2}")
    space = open_workspace(tmp_path, FixedClock(at=datetime(2026, 1, 15, 12, tzinfo=UTC)))
    apply(space, tmp_path / "pool.yaml", by="me")
    yield space
    space.ledger.close()
    space.database.dispose()


def plan(space: Workspace, *rows: tuple[int, str]) -> TouchPlan:
    frame = pl.DataFrame(
        [
            {"user": user, "task": f"t.{benefit}", "goal": "g", "benefit": benefit, "touchpoint": "mail_main",
             "channel": "mail", "content": "words"}
            for user, benefit in rows
        ]
    )  # fmt: skip
    planned = plan_touches(
        assignments=frame, touchpoints=[MAIL], caps=[], quiet_hours=[], consent=None, zones=None,
        default_zone=ZoneInfo("UTC"), habits=None, ledger=space.ledger, plan_date=DAY, run="r", seed=1,
    )  # fmt: skip
    return with_codes(space, planned, [GIFT, PLAIN], DAY)


def test_each_touch_of_a_pool_gets_a_code_and_the_same_when_planned_again(space: Workspace) -> None:
    first, again = (plan(space, (1, "gift"), (2, "gift"), (3, "plain")) for _ in range(2))
    codes = dict(first.touches.select("user", "code").iter_rows())
    assert codes[3] is None
    assert len({codes[1], codes[2]} - {None}) == 2
    assert first.touches.equals(again.touches)
    assert first.refusals.is_empty()


def test_at_the_end_of_the_pool_a_touch_is_refused_and_counts_no_more(space: Workspace) -> None:
    found = plan(space, *((user, "gift") for user in range(4)))
    assert found.touches.height == 2
    assert found.refusals["rule"].to_list() == ["spring", "spring"]
    assert "no code left" in found.refusals["reason"][0]
    year = datetime(2026, 12, 31, tzinfo=UTC)
    held = space.ledger.held(users=map(str, range(4)), since=datetime(2026, 1, 1, tzinfo=UTC), until=year)
    assert sorted(held["user"]) == sorted(found.touches["user"].cast(pl.String))
