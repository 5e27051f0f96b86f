"""A log that an outage cannot flood: thousands of decisions a second would all say the same."""

from __future__ import annotations

import logging
from time import monotonic

#: seconds between two lines of one kind
_EVERY = 10.0


class Seldom(logging.Filter):
    """Lets a message through once in ten seconds, whatever it is about, with how many were like it since."""

    def __init__(self, every: float = _EVERY) -> None:
        super().__init__()
        self._every = every
        #: message, before its arguments → when it was last let through, and how many were kept back since
        self._said: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now, kind = monotonic(), str(record.msg)
        last, kept = self._said.get(kind, (-self._every, 0))
        if now - last < self._every:
            self._said[kind] = (last, kept + 1)
            return False
        self._said[kind] = (now, 0)
        if kept:
            record.msg = f"{kind} (and {kept:,} more like it)"
        return True
