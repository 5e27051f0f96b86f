"""Connections that are open and unused, kept a short while: opening one costs more than most questions."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from time import monotonic
from typing import Any

#: seconds after which an unused connection is not trusted any more, and how many are kept in all
_SECONDS, _MOST = 20.0, 8


class Idle:
    """Unused connections by what they lead to. Whoever takes one has it alone. Safe for threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        #: oldest first: (where to, connection, when it was given back)
        self._kept: list[tuple[object, Any, float]] = []
        atexit.register(self.clear)

    def take(self, where: object, make: Callable[[], Any]) -> Any:
        """A connection to `where`: an unused one, else a new one."""
        with self._lock:
            self._drop(lambda each: monotonic() - each[2] > _SECONDS)
            for i in reversed(range(len(self._kept))):
                if self._kept[i][0] == where:
                    return self._kept.pop(i)[1]
        return make()

    def give(self, where: object, connection: Any) -> None:
        with self._lock:
            self._kept.append((where, connection, monotonic()))
            if len(self._kept) > _MOST:
                _close(self._kept.pop(0)[1])

    def clear(self, stays: Callable[[Any], bool] = lambda _: False) -> None:
        """Closes all but those to places that stay."""
        with self._lock:
            self._drop(lambda each: not stays(each[0]))

    def _drop(self, old: Callable[[tuple[object, Any, float]], bool]) -> None:
        for each in [each for each in self._kept if old(each)]:
            self._kept.remove(each)
            _close(each[1])


def _close(connection: Any) -> None:
    with suppress(Exception):  # it is of no use any more, whatever it says
        connection.close()
