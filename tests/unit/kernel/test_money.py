"""Whole minor units, rounded half to even, in one currency."""

from __future__ import annotations

from decimal import Decimal

import pytest

from kernel.errors import BadInput
from kernel.money import Money, show


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        (1.005, "USD", 100),  # half to even, of what was written and not of its binary neighbour
        (1.015, "USD", 102),
        ("2.675", "USD", 268),
        (Decimal("-0.005"), "USD", 0),
        (0.1 + 0.2, "USD", 30),
        (1234.5, "JPY", 1234),
        (1235.5, "JPY", 1236),
        ("1.2345", "KWD", 1234),
        (-3, "EUR", -300),
    ],
)
def test_rounding(amount: float | Decimal | str, currency: str, minor: int) -> None:
    assert Money.of(amount, currency) == Money(currency=currency, minor=minor)


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), "-Infinity"])
def test_what_is_no_amount_is_named(amount: float | str) -> None:
    with pytest.raises(BadInput, match="is not an amount of money"):
        Money.of(amount, "USD")


def test_sums_are_exact_and_of_one_currency() -> None:
    total = Money.of(0, "USD")
    for _ in range(1000):
        total += Money.of(0.1, "USD")
    assert total == Money.of(100, "USD")
    with pytest.raises(BadInput, match="currency = 'EUR': cannot be added to USD"):
        total + Money.of(1, "EUR")


@pytest.mark.parametrize(
    ("amount", "currency", "said"),
    [
        (1234.5, "USD", "$1,234.50"),
        (-0.5, "EUR", "-€0.50"),
        (1234567, "JPY", "¥1,234,567"),
        (1.5, "KWD", "KWD 1.500"),
        (0, "CHF", "CHF 0.00"),
    ],
)
def test_money_as_a_person_reads_it(amount: float, currency: str, said: str) -> None:
    assert show(amount, currency) == said
