"""Audiences: groups materialised at an instant, as they are published and as they cross walls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class GroupVersion:
    """One publication of a group. Count, members, `as_of` and sources belong together."""

    #: of the group
    name: str
    #: counted from 1; in force is that of the latest `as_of`, of several the highest
    version: int
    #: of the definition that decided who belongs
    fingerprint: str
    #: instant that membership is of
    as_of: datetime
    #: users who belong
    count: int
    #: users that existed then
    universe: int
    #: `source.table` → version of what was read
    sources: Mapping[str, str]
    #: BLAKE2b of the serialised Roaring bitmap, 32 hex digits, which is also its file's name
    members: str
    #: when it was worked out
    calculated_at: datetime
