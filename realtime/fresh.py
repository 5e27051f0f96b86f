"""What a user did a moment ago, as features of a decision's context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from realtime.sessions import placed

#: how often an event happened within (at − window, at], as groups count; windows in microseconds
WINDOWS = {"10m": 600 * 1_000_000, "24h": 86_400 * 1_000_000}


def with_fresh(
    context: Mapping[str, Any],
    recent: Mapping[str, Sequence[int]],
    at: int,
    stage: str | None,
    step: int,
) -> dict[str, Any]:
    """The context with `event.NAME.10m` and `event.NAME.24h`, and its place in the session where `stage` is
    given. What the caller says himself stands. `at` and instants: microseconds since 1970."""
    found: dict[str, Any] = {}
    for name, instants in recent.items():
        for window, length in WINDOWS.items():
            if count := sum(at - length < each <= at for each in instants):
                found[f"event.{name}.{window}"] = count
    return {**(found if stage is None else placed(found, stage=stage, step=step)), **context}
