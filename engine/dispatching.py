"""The dispatcher: takes what is due from the outbox, judges it once more, hands it over, keeps the outcome.

Any number of them may work in one workspace. A round takes as much as half a second allows, so that a pause
or a cancellation is obeyed within a second. Outcomes are committed as they become known. Killed at any
instant: what was leased goes back to the queue and is handed over again under the same key; what was being
handed to somebody who knows no keys is in doubt, and stays there until a person decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic

from engine.channels import Channels, channels_of, gateway_of
from engine.dispatch_batch import Preparing
from engine.dispatch_round import Round, tell_ledger
from engine.outbox import complete_loads
from engine.wiring import Workspace
from kernel.clock import SystemClock, micros
from kernel.errors import BadInput, GrowthError
from storage.outbox_leases import Lease
from touchpoint.api import FileDrop, Gateway, Provider

#: seconds that a round may hand over for; between signs of life; between looks at definitions
_ROUND, _BEAT, _LOOK = 0.5, 5.0, 3.0
#: seconds between looks at an outbox that had nothing
_IDLE = 0.3
#: touches in one lease at least, at first and at most; loops of one provider
_LEAST, _FIRST, _MOST, _ABREAST = 8, 64, 4096, 3
#: touches of a file at most: they are held in memory
_MOST_WHOLE = 5_000_000
#: first rest of a provider that is down and the longest, seconds
_REST, _REST_MOST = 1.0, 60.0
_log = logging.getLogger(__name__)


class Dispatcher:
    """Works until it is told to end, or until nothing waits.

    `pass_time`: for a replay, which moves its clock to the next instant instead of waiting for it.
    """

    def __init__(
        self,
        space: Workspace,
        *,
        say: Callable[[str], None] = print,
        pass_time: Callable[[int], None] | None = None,
    ) -> None:
        self._space, self._say, self._pass_time = space, say, pass_time
        self._outbox = space.outbox
        self._me = self._outbox.dispatcher()
        self._preparing = Preparing(space, space.suppressions)
        self._channels: Channels | None = None
        self._gateways: dict[str, tuple[Provider, Gateway]] = {}
        #: provider → its connections, which its loops share
        self._gates: dict[str, asyncio.Semaphore] = {}
        #: provider → (failures in a row, monotonic time until which it is left alone)
        self._rest: dict[str, tuple[int, float]] = {}
        #: provider → touches of its next lease
        self._sizes: dict[str, int] = {}
        #: loop → when it goes on (None: nothing waits); absent while it works
        self._idle: dict[tuple[str, int], int | None] = {}
        self._ended, self._woken = asyncio.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.accepted = self.settled = 0
        #: runs of which something changed
        self.runs: set[str] = set()
        #: provider → why nothing goes out through it
        self.trouble: dict[str, str] = {}

    def end(self) -> None:
        """It ends after the rounds that it is in. From any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end)

    async def run(self, *, until_empty: bool = False, once: bool = False) -> None:
        """`until_empty`: ends when nothing waits any more; `once`: when nothing is due now.

        Raises Unavailable when the outbox or the ledger does not answer: nothing was half done.
        """
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._me.join, _real_now())
        loops: dict[tuple[str, int], asyncio.Task[None]] = {}
        beaten = looked = float("-inf")
        try:
            while not self._ended.is_set():
                if monotonic() - beaten > _BEAT:
                    await asyncio.to_thread(self._me.beat, _real_now())
                    await asyncio.to_thread(complete_loads, self._space)
                    beaten = monotonic()
                if monotonic() - looked > _LOOK:
                    self._channels = await asyncio.to_thread(_read, self._space)
                    looked = monotonic()
                self._start(loops)
                for task in loops.values():
                    if task.done():
                        task.result()  # only an error ends a loop before all end
                if set(self._idle) >= set(loops):
                    await self._tell_ledger()
                    next_us = min((each for each in self._idle.values() if each is not None), default=None)
                    if once or (until_empty and next_us is None):
                        return
                    if self._pass_time is not None and next_us is not None:
                        self._pass_time(next_us)
                        self._idle.clear()
                        self._woken.set()
                await self._sleep(self._ended, 0.02)
        finally:
            self._end()
            await asyncio.gather(*loops.values(), return_exceptions=True)
            await asyncio.to_thread(self._leave)
            for _, gateway in self._gateways.values():
                await gateway.close()

    def _start(self, loops: dict[tuple[str, int], asyncio.Task[None]]) -> None:
        channels = self._channels
        if channels is None:
            return
        for name, provider in channels.providers.items():
            if channels.of(name):
                for place in range(1 if provider.type == "file" else _ABREAST):
                    key = name, place
                    if key not in loops:
                        loops[key] = asyncio.create_task(self._carry(key))

    async def _carry(self, key: tuple[str, int]) -> None:
        """Round after round of one provider."""
        while not self._ended.is_set():
            self._idle.pop(key, None)
            moved, next_us = await self._round(key[0])
            if moved:
                continue
            self._idle[key] = next_us
            self._woken.clear()
            wait = _IDLE if next_us is None else max((next_us - self._now()) / 1e6, 0.001)
            await self._sleep(self._woken, min(_IDLE, wait))

    async def _round(self, name: str) -> tuple[bool, int | None]:
        """Whether anything moved, and when there will be more."""
        channels = self._channels
        provider = None if channels is None else channels.providers.get(name)
        if channels is None or provider is None or not channels.of(name):
            return False, None
        resting = self._rest.get(name, (0, 0.0))[1] - monotonic()
        if resting > 0:
            return False, self._now() + int(resting * 1e6) + 1
        try:
            gateway = self._gateway(provider)
        except BadInput as error:
            self._note(name, str(error))
            return False, None
        lease = await self._lease(channels, provider, isinstance(gateway, FileDrop))
        if not lease.touches:
            return False, lease.next_us
        await self._hand_over(channels, provider, gateway, lease)
        return True, lease.next_us

    async def _lease(self, channels: Channels, provider: Provider, whole: bool) -> Lease:
        ahead = int(provider.ahead.total_seconds() * 1e6) if whole else 0
        found = await asyncio.to_thread(
            self._outbox.lease,
            self._me.owner,
            channels.of(provider.name),
            limit=_MOST_WHOLE if whole else self._sizes.get(provider.name, _FIRST),
            now_us=self._now() + ahead,
            limits=channels.rates,
            whole=whole,
        )
        if ahead and found.next_us is not None:
            return Lease(touches=found.touches, next_us=found.next_us - ahead, parts=found.parts)
        return found

    async def _hand_over(
        self, channels: Channels, provider: Provider, gateway: Gateway, lease: Lease
    ) -> None:
        whole = isinstance(gateway, FileDrop)
        prepared = await asyncio.to_thread(
            self._preparing.prepare, lease.touches, channels, self._space.clock.now(), whole=whole
        )
        round_ = Round(self._space, self._me.owner, channels, provider, prepared)
        await round_.settle(prepared.settled)
        if isinstance(gateway, FileDrop):
            await round_.write(gateway, lease.parts + 1)
        elif prepared.messages:
            await round_.give_back(await asyncio.to_thread(self._outbox.halted))
            begun = monotonic()
            handed = await round_.hand(gateway, begun + _ROUND, self._gates[provider.name])
            # as much as half a second takes, growing in steps
            fits = int(handed * _ROUND / max(monotonic() - begun, 1e-3))
            size = min(_MOST, 2 * self._sizes.get(provider.name, _FIRST), fits)
            self._sizes[provider.name] = max(_LEAST, gateway.together, size)
        self.accepted += round_.accepted
        self.settled += round_.settled
        self.runs.update(task.run for task in prepared.tasks.values())
        self._judge(provider.name, round_)

    def _judge(self, name: str, round_: Round) -> None:
        """A provider that failed as a whole is left alone for a while, longer each time."""
        if not round_.down:
            if round_.accepted:
                self._rest.pop(name, None)
                self.trouble.pop(name, None)
            return
        failures, until = self._rest.get(name, (0, 0.0))
        if until > monotonic():  # the loop beside this one has seen the same
            return
        wait = round_.after or min(_REST_MOST, _REST * 2.0**failures)
        self._rest[name] = (min(failures + 1, 10), monotonic() + wait)
        self._note(name, round_.why)

    def _gateway(self, provider: Provider) -> Gateway:
        known = self._gateways.get(provider.name)
        if known is None or known[0] != provider:
            known = provider, gateway_of(self._space, provider, self._say)
            self._gateways[provider.name] = known
            self._gates[provider.name] = asyncio.Semaphore(known[1].connections)
        return known[1]

    async def _tell_ledger(self) -> None:
        while owed := await asyncio.to_thread(self._outbox.owed):
            await asyncio.to_thread(tell_ledger, self._space, owed)

    async def _sleep(self, event: asyncio.Event, seconds: float) -> None:
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            return

    def _end(self) -> None:
        self._ended.set()
        self._woken.set()

    def _leave(self) -> None:
        try:
            self._me.leave(_real_now())
        except GrowthError as error:  # the next one buries it
            _log.warning("the dispatcher could not take its leave: %s", error)

    def _note(self, name: str, why: str) -> None:
        if self.trouble.get(name) != why:
            _log.warning("provider %s: %s", name, why)
        self.trouble[name] = why

    def _now(self) -> int:
        return micros(self._space.clock.now())


def deliver(space: Workspace, *, until_empty: bool = False, say: Callable[[str], None] = print) -> Dispatcher:
    """Hands over what is due, or all that waits; the dispatcher, with what it did and what troubled it."""
    complete_loads(space)
    dispatcher = Dispatcher(space, say=say)
    asyncio.run(dispatcher.run(until_empty=until_empty, once=not until_empty))
    return dispatcher


@contextmanager
def dispatching(space: Workspace) -> Iterator[None]:
    """A dispatcher beside a server, in a thread of its own; begun again when a store was away."""
    ended = Event()
    current: list[Dispatcher] = []

    def keep() -> None:
        while not ended.is_set():
            dispatcher = Dispatcher(space, say=_log.info)
            current[:] = [dispatcher]
            try:
                asyncio.run(dispatcher.run())
            except GrowthError as error:
                _log.warning("nothing is delivered just now: %s", error)
            except Exception:  # noqa: BLE001  it must not die of one bad day
                _log.exception("nothing is delivered just now")
            ended.wait(_LOOK)

    thread = Thread(target=keep, name="dispatcher", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        for each in current:
            each.end()
        thread.join(timeout=30)


def _read(space: Workspace) -> Channels:
    return channels_of(space.definitions())


def _real_now() -> int:
    """Leases are kept by the machine's clock, also where a replay has one of its own."""
    return micros(SystemClock().now())
