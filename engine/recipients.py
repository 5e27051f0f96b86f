"""What dispatching knows of users: addresses, zones, consent and fields, read anew every minute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from engine.wiring import Workspace
from insight.api import read_fields
from kernel.errors import GrowthError, Unavailable

#: seconds for which what was read is good
_EVERY = 60.0


class Recipients:
    """Whole rows, for messages; `engine.people` keeps what caps ask for. About 200 bytes of memory a user and
    field. Raises Unavailable while the sources cannot be read: then nobody is known to consent, and nothing
    may go out."""

    def __init__(self, space: Workspace) -> None:
        self._space = space
        self._frame: pl.DataFrame | None = None
        self._places: Mapping[str, int] = {}
        self._fields: frozenset[str] = frozenset()
        self._zone: str | None = None
        self._consent: str | None = None
        self._read_at: float | None = None

    def refresh(self, fields: frozenset[str]) -> None:
        """Reads the sources when it is time, or when other fields are needed."""
        old = self._read_at is None or monotonic() - self._read_at >= _EVERY
        if not old and fields <= self._fields:
            return
        catalog = self._space.catalog
        self._zone, self._consent = catalog.field_of_role("timezone"), catalog.field_of_role("consent")
        wanted = sorted(fields | {each for each in (self._zone, self._consent) if each is not None})
        try:
            self._frame = read_fields(catalog, wanted) if wanted else None
        except GrowthError as error:
            self._read_at = None
            raise Unavailable(f"users cannot be read, so nothing is sent: {error}") from error
        users = [] if self._frame is None else self._frame["user"].cast(pl.String).to_list()
        self._places = {user: place for place, user in enumerate(users)}
        self._fields, self._read_at = fields, monotonic()

    def of(self, users: Sequence[str]) -> list[Mapping[str, Any]]:
        """Field → value, of each; empty for one whom the sources do not know."""
        if self._frame is None:
            return [{} for _ in users]
        known = [self._places.get(user) for user in users]
        rows = iter(self._frame[[place for place in known if place is not None]].to_dicts())
        return [{} if place is None else next(rows) for place in known]

    def zone(self, person: Mapping[str, Any]) -> ZoneInfo:
        """The user's own, or the workspace's. Raises KeyError (of zoneinfo) or ValueError for no zone."""
        name = None if self._zone is None else person.get(self._zone)
        return ZoneInfo(str(name)) if name is not None else self._space.settings.zone

    def consent(self, person: Mapping[str, Any]) -> bool | None:
        """None: nothing is on record for her, as when a plan is made. What is unknown there is no yes."""
        if self._consent is None or self._consent not in person:
            return None
        return person[self._consent] is True
