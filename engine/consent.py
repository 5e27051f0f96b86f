"""Who may be touched, in memory: what the catalog's field of the role `consent` said when last read."""

from __future__ import annotations

import logging
from time import monotonic

import polars as pl

from engine.wiring import Workspace
from insight.api import read_fields
from kernel.errors import GrowthError, Unavailable
from kernel.learning import Action

#: seconds between readings of the source
_EVERY = 300.0
_UNREAD = "who has consented is not read yet"

_log = logging.getLogger(__name__)


class Consent:
    """Asked for every action with a channel, which is a touch; about 100 bytes of memory a user who consents.

    While it was never read, nobody is known to have consented, and asking raises Unavailable. When it cannot
    be read anew, what was read last stands. Where the catalog names no such field, everybody may be touched.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._space = workspace
        self._users: frozenset[str] | None = None
        self._needed: bool | None = None
        self._read_at = -_EVERY

    def refresh(self) -> None:
        """Reads the source when it is time; may take as long as that takes."""
        if monotonic() - self._read_at < _EVERY:
            return
        try:
            field = self._space.catalog.field_of_role("consent")
            if field is not None:
                frame = read_fields(self._space.catalog, [field])
                users = frame.filter(pl.col(field)).get_column("user").cast(pl.String)
                self._users = frozenset(users.to_list())
            self._needed = field is not None
            self._read_at = monotonic()
        except GrowthError as error:
            _log.warning("who has consented cannot be read: %s", error)
            self._read_at = monotonic() - 0.9 * _EVERY

    @property
    def trouble(self) -> str:
        """Why nobody can be touched; empty when those who have consented can."""
        return _UNREAD if self._needed is not False and self._users is None else ""

    def allowed(self, user_id: str, action: Action) -> str | None:
        """Why the user must not get the action, or None."""
        if action.channel is None or self._needed is False:
            return None
        if self._users is None:
            raise Unavailable(_UNREAD)
        return None if user_id in self._users else "the user has not consented"
