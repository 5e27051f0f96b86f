"""Who waits for the disk shares a flush that began after it wrote."""

from __future__ import annotations

import asyncio
from threading import Event

import pytest

from kernel.errors import Unavailable
from storage.group_commit import SharedFlush


def test_whoever_comes_while_one_runs_shares_the_next() -> None:
    runs, begun, go = list[int](), Event(), Event()

    def flush() -> None:
        runs.append(1)
        begun.set()
        assert go.wait(10)

    async def story() -> tuple[int, list[None]]:
        shared = SharedFlush(flush)
        first = asyncio.ensure_future(shared.done())
        while not begun.is_set():
            await asyncio.sleep(0.001)
        later = [asyncio.ensure_future(shared.done()) for _ in range(50)]
        await asyncio.sleep(0.01)
        waiting = sum(not each.done() for each in later)
        go.set()
        await first
        return waiting, await asyncio.gather(*later)

    assert asyncio.run(story()) == (50, [None] * 50)
    assert len(runs) == 2


def test_one_after_the_other_gets_a_flush_each() -> None:
    runs = list[int]()

    async def story() -> None:
        shared = SharedFlush(lambda: runs.append(1))
        for _ in range(3):
            await shared.done()

    asyncio.run(story())
    assert len(runs) == 3


def test_a_disk_that_refuses_is_told_to_all_who_wait_and_to_nobody_after() -> None:
    full = [True]

    def flush() -> None:
        if full.pop():
            raise Unavailable("the disk is full")

    async def story() -> list[BaseException | None]:
        shared = SharedFlush(flush)
        told = await asyncio.gather(*(shared.done() for _ in range(3)), return_exceptions=True)
        full.append(False)
        await shared.done()
        return list(told)

    assert [type(each) for each in asyncio.run(story())] == [Unavailable] * 3


def test_who_stops_waiting_stops_nobody_else() -> None:
    async def story() -> None:
        go = asyncio.Event()
        loop = asyncio.get_running_loop()

        def flush() -> None:
            asyncio.run_coroutine_threadsafe(go.wait(), loop).result(10)

        shared = SharedFlush(flush)
        impatient, patient = asyncio.ensure_future(shared.done()), asyncio.ensure_future(shared.done())
        await asyncio.sleep(0.01)
        impatient.cancel()
        go.set()
        await patient
        with pytest.raises(asyncio.CancelledError):
            await impatient

    asyncio.run(story())
