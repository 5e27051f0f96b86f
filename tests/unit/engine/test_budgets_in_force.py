"""Budgets and moments that were applied, as decisions meet them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.realtime_service import RealTimeService
from engine.settings import Settings
from engine.usecases import apply, init_workspace
from engine.wiring import Workspace, open_workspace
from realtime.api import Answer, DecisionRequest

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SAID: list[dict[str, Any]] = [
    {"kind": "budget", "name": "coupons", "at_most": 3, "worth": 0.5, "path": [1.0, 0.0]},
    {
        "kind": "moment",
        "name": "unboxing",
        "safe_default": "plain_card",
        "actions": [{"id": "coupon", "value": 9.0, "resource": "coupons"}],
    },
]


class Hands:
    """A clock that is set by hand."""

    at = NOON

    def now(self) -> datetime:
        return self.at


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def space(tmp_path: Path, hands: Hands) -> Iterator[Workspace]:
    root = tmp_path / "shop"
    init_workspace(root)
    (root / "said.yaml").write_text(yaml.safe_dump_all(SAID))
    opened = open_workspace(root)
    apply(opened, root / "said.yaml", by="tests")
    settings = Settings.model_validate({**opened.settings.model_dump(), "timezone": "UTC"})
    yield Workspace(root=root, settings=settings, clock=hands)
    opened.database.dispose()


def ask(service: RealTimeService, times: int) -> list[str]:
    answers: list[Answer] = [
        service.decide(DecisionRequest(user_id=f"u{number}", moment="unboxing")) for number in range(times)
    ]
    assert not any(each.degraded for each in answers), answers
    return [each.action for each in answers]


def test_a_budget_is_spent_once_survives_a_lost_store_and_begins_anew_each_day(
    space: Workspace, hands: Hands
) -> None:
    service = RealTimeService(space)
    assert ask(service, 2) == ["coupon"] * 2
    service.close()

    (boot,) = space.root.rglob("boot")
    boot.write_text("another start of the machine")
    service = RealTimeService(space)
    assert ask(service, 3) == ["coupon", "plain_card", "plain_card"]
    service.close()

    boot.write_text("and another, on the next day")
    hands.at = NOON + timedelta(days=1)
    service = RealTimeService(space)
    assert ask(service, 4) == ["coupon"] * 3 + ["plain_card"]
    service.close()
    space.database.dispose()
