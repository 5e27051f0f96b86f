"""Activities as a service: what HTTP asks, and the one process of the workspace in which their clock runs."""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import IO

from engine.activities import Activities
from engine.activity_clock import ActivityClock
from engine.audience_service import AudienceService
from engine.wiring import Workspace
from kernel.errors import GrowthError, Unavailable

_log = logging.getLogger(__name__)
#: seconds between ticks; between tries to become the one that ticks
_TICK, _TRY = 0.5, 5.0


class ActivityService:
    """Start it before use; `close` ends its thread."""

    def __init__(self, workspace: Workspace, audiences: AudienceService) -> None:
        self.workspace = workspace
        self.activities = Activities(workspace, asked(audiences))
        self.clock = ActivityClock(self.activities, workspace.clock)
        self._ended, self._starting = Event(), Lock()
        self._thread: Thread | None = None
        #: why nothing is counted just now; empty when all is well
        self.trouble = ""

    def start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = Thread(target=self._keep, name="activities", daemon=True)
                self._thread.start()

    def close(self) -> None:
        self._ended.set()
        with self._starting:
            if self._thread is not None:
                self._thread.join(30)

    def _keep(self) -> None:
        lock = _lock_file(self.workspace)
        try:
            while not self._ended.is_set() and not _taken(lock):
                self._ended.wait(_TRY)
            while not self._ended.is_set():
                try:
                    busy = self.clock.tick() > 0
                    self.trouble = ""
                except GrowthError as error:
                    busy = False
                    if self.trouble != str(error):
                        _log.warning("activities do not go on: %s", error)
                    self.trouble = str(error)
                except Exception:  # noqa: BLE001  the thread must live on; the next tick tries again
                    busy = False
                    _log.exception("activities do not go on")
                    self.trouble = "something went wrong here; it is in the log"
                if not busy:
                    self._ended.wait(_TICK)
        finally:
            lock.close()


def asked(audiences: AudienceService) -> Callable[[str, str], bool]:
    """Whether a user is in a group now, fresh events included."""

    def member(group: str, user_id: str) -> bool:
        found = audiences.answer(group, user_id)
        if found is None:
            audiences.prepare(group)
            found = audiences.answer(group, user_id)
        if found is None:
            raise Unavailable(f"group {group} is being loaded; ask again")
        return bool(json.loads(found)["member"])

    return member


def _lock_file(space: Workspace) -> IO[str]:
    folder = space.root / "var"
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / "activities.lock").open("a")


def _taken(lock: IO[str]) -> bool:
    """One process at a time; the next one takes over when it ends, however it ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
