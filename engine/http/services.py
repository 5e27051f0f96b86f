"""What the HTTP shell needs, filled in by the wiring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from engine.audience_service import AudienceService
from engine.group_insight import GroupInsight
from kernel.clock import Clock
from realtime.api import MOMENTS, Allowed, DecisionLog, Moment, Policy, anything

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Services:
    """Every callable raises an error of `kernel.errors` for what it cannot answer."""

    policy: Policy
    log: DecisionLog
    #: resource → price of one use today, major units; empty without a plan
    prices: Callable[[], Mapping[str, float]]
    clock: Clock
    #: master seed of the draws
    seed: int
    #: how long after a decision its outcomes count
    window: timedelta
    #: a group as in its YAML → the estimate
    estimate: Callable[[Json], Json]
    #: name of a group, user id → `{member, as_of, version}` as JSON, at once; None: `prepare` the group first
    member: Callable[[str, str], bytes | None]
    #: a day → its plan
    plan: Callable[[date], Json]
    #: a day, user id → what this user got and did not get, and why
    explain: Callable[[date, str], Json]
    #: what a condition panel shows; the JSON Schema of a condition
    catalog: Callable[[], Json] = dict
    condition_schema: Callable[[], Json] = dict
    #: makes a group answerable, however long that takes
    prepare: Callable[[str], object] = lambda _: None
    #: groups, why, and fresh events; absent where nothing is published
    audiences: AudienceService | None = None
    #: profile, overlap, history and migration
    insight: GroupInsight | None = None
    #: what is not ready, by name, each with a sentence; empty when all is
    unready: Callable[[], Mapping[str, str]] = dict
    #: consent and caps: why not, or None
    allowed: Allowed = anything
    #: moments by name
    moments: Mapping[str, Moment] = field(default_factory=lambda: MOMENTS)
    #: what callers of /v1 must bear; None: nothing, for loopback only
    token: str | None = None
