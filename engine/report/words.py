"""Figures as a person reads them. What is unknown reads as a dash, never as a zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from typing import Any

from kernel.money import Money, show

UNKNOWN = "–"


def known(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def money(amount: Any, currency: str) -> str:
    """Major units; what is less than a minor unit says so instead of reading as nothing."""
    if not known(amount):
        return UNKNOWN
    said = show(amount, currency)
    if amount and said == show(0, currency):
        smallest = Money(currency=currency, minor=1)
        return f"less than {smallest}" if amount > 0 else f"a loss below {smallest}"
    return said


def count(value: Any) -> str:
    """`12,345`; a fraction keeps one digit: `12.5`."""
    if not known(value):
        return UNKNOWN
    return f"{value:,.0f}" if abs(value - round(value)) < 0.05 or abs(value) >= 1000 else f"{value:,.1f}"


def share(part: Any) -> str:
    """A part of one as a percentage; the smaller the part, the more digits."""
    if not known(part):
        return UNKNOWN
    percent = abs(part) * 100
    if 0 < percent < 0.001:
        return "below 0.001%"
    digits = 0 if percent == 0 or percent >= 10 else 1 if percent >= 1 else 2 if percent >= 0.1 else 3
    return f"{part:.{digits}%}"


def figure(value: Any) -> str:
    """A measure of unknown scale with three significant digits."""
    if not known(value):
        return UNKNOWN
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.3f}" if size >= 0.1 or not size else f"{value:.3g}"


def span(interval: Any) -> str:
    """`2.31 (1.90 to 2.75)`."""
    if not isinstance(interval, Mapping):
        return figure(interval)
    low, high = interval.get("low"), interval.get("high")
    mean = figure(interval.get("mean"))
    return f"{mean} ({figure(low)} to {figure(high)})" if known(low) and known(high) else mean


def name(value: Any) -> str:
    """A defined name without its underscores."""
    return UNKNOWN if value is None or value == "" else str(value).replace("_", " ")


def day(value: Any) -> str:
    """`12 March 2017` from an ISO date or time; anything else as it stands."""
    try:
        when = date.fromisoformat(str(value)[:10])
    except ValueError:
        return UNKNOWN if value is None else str(value)
    return f"{when.day} {when:%B %Y}"


def price(limit: Mapping[str, Any], currency: str) -> str:
    """What one more unit of a limit would bring, in a sentence."""
    worth = limit.get("price")
    if not known(worth):
        return "Its price is not known."
    if not worth:
        return "Does not bind: more of it would bring nothing today."
    unit = show(1, currency) if limit.get("money") else "one"
    of = name(limit.get("name"))
    if worth > 0:
        unit = f"One more {unit}" if limit.get("money") else "One more"
        return f"{unit} of {of} would bring {money(worth, currency)}."
    return f"The least that is asked of {of} binds: asking {unit} less would bring {money(-worth, currency)}."
