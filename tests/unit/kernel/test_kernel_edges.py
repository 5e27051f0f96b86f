"""What the kernel lets through as a traceback."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from kernel.clock import parse_instant
from kernel.errors import BadInput
from kernel.money import Money


@pytest.mark.parametrize("amount", ["abc", "", 1e30])
def test_what_is_no_amount_is_bad_input(amount: str | float) -> None:
    with pytest.raises(BadInput):
        Money.of(amount, "USD")


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31T23:00:00-05:00"])
def test_an_instant_outside_the_calendar_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput):
        parse_instant(text, ZoneInfo("Asia/Shanghai"))
