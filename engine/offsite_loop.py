"""Audiences on ad platforms kept up to date while `growth serve` runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread

from engine.offsite import sync_one, take_out
from engine.wiring import Workspace
from kernel.errors import GrowthError
from touchpoint.api import AudienceSync

#: seconds between looks at who converted
_LOOK = 20.0
#: events may be received so long after they happened and are still seen
_LATE = timedelta(minutes=10)

_log = logging.getLogger(__name__)


class Syncing:
    """One round after the other: a whole run of each sync when it is due, else who converted goes."""

    def __init__(self, workspace: Workspace) -> None:
        self._space = workspace
        self._ran: dict[str, float] = {}

    def round(self) -> int:
        """How many syncs ran as a whole. What fails is logged, and tried again in the next round."""
        now, ran = self._space.clock.now(), 0
        for sync in self._space.definitions().of(AudienceSync):
            try:
                if now.timestamp() - self._ran.get(sync.name, float("-inf")) >= sync.seconds:
                    sync_one(self._space, sync)
                    self._ran[sync.name] = now.timestamp()
                    ran += 1
                else:
                    take_out(self._space, sync, now - _LATE)
            except GrowthError as error:
                _log.warning("audience_sync %s: %s", sync.name, error)
        return ran


@contextmanager
def syncing(workspace: Workspace) -> Iterator[None]:
    """A thread that goes round until the block ends."""
    ended = Event()

    def keep() -> None:
        rounds = Syncing(workspace)
        while not ended.is_set():
            try:
                rounds.round()
            except GrowthError as error:
                _log.warning("no audience is synced: %s", error)
            ended.wait(_LOOK)

    thread = Thread(target=keep, name="audience sync", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)
