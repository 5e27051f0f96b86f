from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kernel.definitions import parse
from kernel.errors import BadInput
from realtime.budget_definitions import BudgetDefinition, budgets

OPENS = datetime(2026, 3, 2, tzinfo=UTC)
CLOSES = OPENS + timedelta(days=1)
SAID: dict[str, Any] = {"kind": "budget", "name": "coupons", "at_most": 500, "worth": 2.0, "price": 0.4}


def defined(**changes: Any) -> BudgetDefinition:
    return parse(BudgetDefinition, {**SAID, **changes}, "budgets.yaml")


def test_a_day_of_it_begins_at_the_plans_price() -> None:
    said = defined(path=[1, 2, 1], at_least=20, subsidy=0.3, expected=1000)
    planned, alone = (
        budgets([said], prices, OPENS, CLOSES)[0] for prices in ({"coupons": 1.9, "mail": 3.0}, {})
    )
    assert (planned.price, alone.price) == (1.9, 0.4)
    assert (planned.opens, planned.closes, planned.at_most) == (OPENS, CLOSES, 500)
    assert (planned.path, planned.expected) == ((1, 2, 1), 1000)
    assert (planned.at_least, planned.subsidy, planned.worth) == (20, 0.3, 2.0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"at_most": -1}, "budgets.yaml: at_most = -1"),
        ({"worth": 0}, "worth = 0"),
        ({"at_least": 501, "subsidy": 1}, "at_least 501 is above at_most 500"),
        ({"at_least": 5}, "at_least 5 needs a subsidy above 0"),
        ({"path": [0, 0]}, "path is not shares"),
        ({"path": [2, -1]}, "path is not shares"),
        ({"path": []}, "path"),
        ({"expected": 0}, "expected = 0"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        defined(**changes)
