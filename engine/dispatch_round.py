"""One lease on its way: handed over, answered, committed."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from time import monotonic

from engine.channels import Channels
from engine.dispatch_batch import Prepared
from engine.wiring import Workspace
from kernel.clock import micros
from kernel.delivery import Failure, Settled, TouchState
from kernel.errors import BadInput, GrowthError, Stale
from kernel.randomness import unit
from touchpoint.api import Answer, FileDrop, Gateway, Handed, Message, Provider

#: seconds between commits of outcomes
_COMMIT = 0.2
#: first wait of a touch after a failure and the longest, seconds
_AGAIN, _AGAIN_MOST = 2.0, 900.0
#: what the ledger is told of a touch that ended so
_CONFIRMED = (TouchState.ACCEPTED, TouchState.IN_DOUBT)  # what may have arrived counts
_log = logging.getLogger(__name__)


class Round:
    """`owner`: the dispatcher whose lease it is. Every method raises Unavailable when the outbox does not
    answer; what was handed over by then is handed over again under its key, or is in doubt."""

    def __init__(
        self, space: Workspace, owner: str, channels: Channels, provider: Provider, prepared: Prepared
    ) -> None:
        self._space, self._owner, self._channels, self._provider = space, owner, channels, provider
        self._prepared = prepared
        self._done: list[Settled] = []
        self._committed = monotonic()
        self._bounced: list[tuple[str, Message]] = []
        #: bucket → touches that drew from it and were not handed over
        self._unused: dict[str, int] = {}
        self.accepted = self.settled = 0
        #: the provider as a whole does not work
        self.down = False
        #: and asks to be left alone for so long, seconds
        self.after: float | None = None
        self.why = ""

    async def give_back(self, halted: frozenset[int]) -> None:
        """What belongs to tasks that were paused or cancelled since they were leased."""
        tasks, messages = self._prepared.tasks, self._prepared.messages
        back = [number for number, _ in messages if tasks[number].number in halted]
        if back:
            gone = set(back)
            self._prepared.messages = [each for each in messages if each[0] not in gone]
            await self.settle([Settled(number=number, state=TouchState.QUEUED) for number in back])

    async def hand(self, gateway: Gateway, until: float, gate: asyncio.Semaphore) -> int:
        """Hands over until `until`; what is left goes back to the queue. How many were handed over.

        `gate`: the gateway's connections, which its rounds share.
        """
        size, messages = gateway.together, self._prepared.messages
        waiting = deque(messages[i : i + size] for i in range(0, len(messages), size))
        handed = 0

        async def pull() -> None:
            nonlocal handed
            while waiting and not self.down and (monotonic() < until or not handed):
                some = waiting.popleft()
                if not self._provider.drops_repeats:
                    some = await self._only_mine(some)
                if some:
                    async with gate:
                        answers = await gateway.deliver([message for _, message in some])
                    self._take(some, answers)
                    handed += len(some)
                    await self._commit(now=not self._provider.drops_repeats)

        await asyncio.gather(*(pull() for _ in range(min(gateway.connections, len(waiting)))))
        back = [Settled(number=number, state=TouchState.QUEUED) for some in waiting for number, _ in some]
        await self.settle(back)
        return handed

    async def write(self, gateway: FileDrop, part: int) -> None:
        """All in one file; that it is there, and which part it is, in one transaction."""
        if not self._prepared.messages:
            return
        answers = await gateway.write([message for _, message in self._prepared.messages], part)
        self._take(self._prepared.messages, answers)
        await self._commit(now=True, parts=part if self.accepted else None)

    async def settle(self, results: Sequence[Settled]) -> None:
        """Those that do not go out now."""
        self._done += results
        for each in results:
            channel = self._prepared.tasks[each.number].channel
            for rate in self._channels.rates.get(channel, ()):
                self._unused[rate.name] = self._unused.get(rate.name, 0) + 1
        await self._commit(now=True)

    async def _only_mine(self, some: list[tuple[int, Message]]) -> list[tuple[int, Message]]:
        """From here on a kill leaves them in doubt; one whose lease went to somebody else is left out."""
        numbers = [number for number, _ in some]
        mine = await asyncio.to_thread(self._space.outbox.hand, self._owner, numbers, self._now())
        return [each for each in some if each[0] in mine]

    def _take(self, some: Sequence[tuple[int, Message]], answers: Sequence[Handed]) -> None:
        for (number, message), answer in zip(some, answers, strict=True):
            self._done.append(self._settled(number, message, answer))
            self.accepted += answer.answer is Answer.ACCEPTED
            if answer.bounced:
                self._bounced.append((self._prepared.marks[number], message))
            if answer.down:
                self.down, self.why = True, answer.reason
                self.after = max(self.after or 0.0, answer.after or 0.0) or None

    def _settled(self, number: int, message: Message, answer: Handed) -> Settled:
        mark = self._prepared.marks[number]
        if answer.answer is Answer.ACCEPTED:
            return Settled(
                number=number, state=TouchState.ACCEPTED, address=mark, provider_id=answer.provider_id
            )
        if answer.answer is Answer.IN_DOUBT:
            return Settled(
                number=number, state=TouchState.IN_DOUBT, rule="in_doubt", reason=answer.reason, address=mark
            )
        tried = self._prepared.attempts[number] + 1
        if answer.answer is Answer.ACT_ON_IT:
            rule, reason = Failure.ACT_ON_IT, answer.reason
        elif not answer.down and tried >= self._provider.attempts:
            rule, reason = Failure.RETRIABLE, f"{tried} attempts were in vain; {answer.reason}"
        else:
            wait = answer.after or _backoff(message.touch_id, tried)
            return Settled(
                number=number,
                state=TouchState.QUEUED,
                rule=Failure.RETRIABLE,
                reason=answer.reason,
                due_us=self._now() + int(wait * 1e6),
                # where the provider is down, the touch has had no attempt
                attempted=not answer.down,
            )
        return Settled(
            number=number, state=TouchState.FAILED, rule=rule, reason=reason, address=mark, attempted=True
        )

    async def _commit(self, *, now: bool, parts: int | None = None) -> None:
        if not self._done or not (now or monotonic() - self._committed > _COMMIT):
            return
        done, self._done, self._committed = self._done, [], monotonic()
        unused, self._unused = self._unused, {}
        bounced, self._bounced = self._bounced, []
        await asyncio.to_thread(self._write, done, unused, bounced, parts)
        self.settled += sum(each.state is not TouchState.QUEUED for each in done)

    def _write(
        self,
        done: Sequence[Settled],
        unused: dict[str, int],
        bounced: Sequence[tuple[str, Message]],
        parts: int | None,
    ) -> None:
        now_us = self._now()
        if bounced:
            self._space.receipts.bounced(
                self._provider.name, [(mark, each.channel, each.user) for mark, each in bounced], now_us
            )
        told = self._tell_ledger(done)
        self._space.outbox.settle(self._owner, done, now_us, parts=parts, told=told)
        if unused:
            self._space.outbox.give_tokens_back(unused)

    def _tell_ledger(self, done: Sequence[Settled]) -> bool:
        """Whether the ledger knows of all; if not, the outbox remembers that it is to be told."""
        ids = self._prepared.ids
        confirmed = [ids[each.number] for each in done if each.state in _CONFIRMED]
        released = [ids[each.number] for each in done if each.state not in (*_CONFIRMED, TouchState.QUEUED)]
        try:
            if confirmed:
                self._space.ledger.confirm(confirmed)
            if released:
                self._space.ledger.release(released)
        except GrowthError as error:
            _log.info("the ledger is told later: %s", error)
            return False
        return True

    def _now(self) -> int:
        return micros(self._space.clock.now())


def tell_ledger(space: Workspace, owed: Sequence[tuple[int, str, str]]) -> None:
    """What the ledger could not be told when it happened. Raises Unavailable: then it is told later."""
    for what, change in (("confirm", space.ledger.confirm), ("release", space.ledger.release)):
        ids = [touch_id for _, touch_id, said in owed if said == what]
        try:
            if ids:
                change(ids)
        except (Stale, BadInput):
            for touch_id in ids:
                try:
                    change([touch_id])
                except (Stale, BadInput) as error:  # it was let go of meanwhile: there is nothing to tell
                    _log.info("the ledger on touch %s: %s", touch_id, error)
    space.outbox.told([number for number, _, _ in owed])


def _backoff(touch_id: str, tried: int) -> float:
    """Seconds: doubling, and each touch at its own place in between, so that they do not come back as one."""
    longest = min(_AGAIN_MOST, _AGAIN * 2.0 ** (tried - 1))
    return longest * (0.5 + 0.5 * unit(touch_id, f"again {tried}"))
