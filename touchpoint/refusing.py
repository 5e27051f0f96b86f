"""Refusals in words: which rule it was, and until when, on the user's own wall."""

from __future__ import annotations

from collections.abc import Mapping
from zoneinfo import ZoneInfo

from kernel.contact import Cap
from kernel.exposure import ALREADY_SENT, Refusal


def why_refused(refusal: Refusal, caps: Mapping[str, Cap], zone: ZoneInfo) -> str:
    """One sentence. `caps`: by name."""
    if refusal.rule == ALREADY_SENT:
        return (
            "was already sent at another time; refused for ever, since a task reaches a user once a plan date"
        )
    cap = caps[refusal.rule]
    scope = _scope(cap)
    if refusal.until is None:
        return f"{cap.title} allows no {scope} at all; refused until that changes"
    until = refusal.until.astimezone(zone).isoformat(sep=" ", timespec="seconds")
    return f"{cap.title} allows {cap.at_most} {scope} {cap.span}; refused until {until}"


def _scope(cap: Cap) -> str:
    """What it counts, such as `mail touches of activity spring`."""
    said = f"{cap.channel} touches" if cap.channel else "touches"
    if cap.activity:
        said += f" of activity {cap.activity}"
    if cap.each:
        said += f" of each {cap.each}"
    return said if cap.by == "user" else f"{said} by {cap.by}"
