"""A pool of workers that together hold no more than so many bytes; work that does not fit yet waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Condition
from typing import TypeVar

Result = TypeVar("Result")


class Pool:
    """Bounded in threads and in bytes. What is bigger than the whole limit runs alone."""

    def __init__(self, workers: int, most_bytes: int) -> None:
        self._workers, self._most = workers, most_bytes
        self._used, self._running = 0, 0
        self._changed = Condition()
        #: most bytes that were ever taken at once
        self.peak = 0

    @property
    def workers(self) -> int:
        return self._workers

    @property
    def share(self) -> int:
        """Bytes that one worker may take when all of them work."""
        return max(1, self._most // self._workers)

    def each(self, work: Sequence[tuple[int, Callable[[], Result]]]) -> list[Result]:
        """(bytes that it takes, what to do) → the results, in order. The first error is raised when all
        that was begun has ended."""
        with ThreadPoolExecutor(self._workers, thread_name_prefix="selection") as pool:
            begun = [pool.submit(self._one, size, act) for size, act in work]
            return [each.result() for each in begun]

    def _one(self, size: int, act: Callable[[], Result]) -> Result:
        with self._changed:
            self._changed.wait_for(lambda: not self._running or self._used + size <= self._most)
            self._used += size
            self._running += 1
            self.peak = max(self.peak, self._used)
        try:
            return act()
        finally:
            with self._changed:
                self._used -= size
                self._running -= 1
                self._changed.notify_all()
