"""Group commit: requests that come while one transaction is written go together into the next.

A flush to disk costs milliseconds however much it flushes; so a hundred callers at once wait for two
flushes and not for a hundred.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Condition, Thread
from typing import Generic, TypeVar

from kernel.errors import Unavailable

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class GroupCommit(Generic[Request, Answer]):
    """One writer thread. `write` takes several requests and gives an answer, or an error, for each.

    Raises Unavailable, with nothing written, when `most` requests wait already. When `write` raises, all
    requests of that transaction get its error: none of them was written.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Request]], Sequence[Answer | Exception]],
        *,
        together: int = 256,
        most: int = 10_000,
    ) -> None:
        self._write, self._together, self._most = write, together, most
        self._waiting: deque[tuple[Request, Future[Answer]]] = deque()
        self._changed = Condition()
        self._ended = False
        self._thread = Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Future[Answer]:
        """Done when it is durable."""
        future: Future[Answer] = Future()
        with self._changed:
            if self._ended or len(self._waiting) >= self._most:
                why = "is closing" if self._ended else f"has {self._most:,} requests waiting"
                raise Unavailable(f"the log of events {why}; send it again later")
            self._waiting.append((request, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Writes what waits, then ends."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._ended:
                    self._changed.wait()
                if not self._waiting:
                    return
                some = [self._waiting.popleft() for _ in range(min(self._together, len(self._waiting)))]
            self._commit(
                [(request, future) for request, future in some if future.set_running_or_notify_cancel()]
            )

    def _commit(self, some: Sequence[tuple[Request, Future[Answer]]]) -> None:
        try:
            answers = self._write([request for request, _ in some])
        except Exception as error:  # noqa: BLE001  whatever it is, those who wait must hear of it
            for _, future in some:
                future.set_exception(error)
            return
        for (_, future), answer in zip(some, answers, strict=True):
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)


class SharedFlush:
    """Group commit for callers in an event loop, each of whom has written before it asks: who comes while a
    flush runs shares the next one, so it costs one thread's turn a flush, not one a caller."""

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush = flush
        #: the flush that begins when the one that runs is over
        self._next: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None

    async def done(self) -> None:
        """Raises what `flush` raised."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._turn())
        await asyncio.shield(self._next)  # who stops waiting does not stop the others' flush

    async def _turn(self) -> None:
        if self._running is not None:
            await asyncio.wait([self._running])
        self._running, self._next = self._next, None
        await asyncio.get_running_loop().run_in_executor(None, self._flush)
