"""Money as whole minor units of one currency: sums are exact, mixing currencies is an error."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from kernel.errors import BadInput

#: ISO 4217 currencies whose minor unit is not a hundredth
_DIGITS = {"JPY": 0, "KRW": 0, "VND": 0, "CLP": 0, "KWD": 3, "BHD": 3}
_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "CNY": "¥", "JPY": "¥"}


@dataclass(frozen=True, kw_only=True, order=True)
class Money:
    """An amount in minor units (cents)."""

    #: ISO 4217 code
    currency: str
    #: whole minor units, such as cents
    minor: int

    @classmethod
    def of(cls, amount: float | Decimal | str, currency: str) -> Money:
        """From major units (dollars), rounded half to even."""
        try:
            value = Decimal(str(amount))
        except ArithmeticError:
            value = Decimal("nan")
        if not value.is_finite() or abs(value) >= 10**15:
            raise BadInput("is not an amount of money", field="amount", value=str(amount))
        step = Decimal(1).scaleb(-_DIGITS.get(currency, 2))
        return cls(currency=currency, minor=int((value / step).quantize(Decimal(1), ROUND_HALF_EVEN)))

    def __add__(self, other: Money) -> Money:
        if other.currency != self.currency:
            raise BadInput(f"cannot be added to {self.currency}", field="currency", value=other.currency)
        return Money(currency=self.currency, minor=self.minor + other.minor)

    def __str__(self) -> str:
        digits = _DIGITS.get(self.currency, 2)
        amount = f"{Decimal(abs(self.minor)).scaleb(-digits):,.{digits}f}"
        sign = _SIGNS.get(self.currency, f"{self.currency} ")
        return f"{'-' if self.minor < 0 else ''}{sign}{amount}"


def show(amount: float, currency: str) -> str:
    """Major units as a person reads them: `$1,234.50`."""
    return str(Money.of(amount, currency))
