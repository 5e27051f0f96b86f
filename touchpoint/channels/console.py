"""Touches on the screen, for those who try things out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from touchpoint.channels.message import ACCEPTED, Handed, Message


class Console:
    """One line a touch, given to `say`."""

    together = 1
    connections = 1

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    async def deliver(self, messages: Sequence[Message]) -> Sequence[Handed]:
        for each in messages:
            words = ": ".join(part for part in (each.subject, " ".join(each.text.split())) if part)
            code = f" [{each.code}]" if each.code else ""
            self._say(f"{each.local_time}  {each.channel} to {each.address}  {words}{code}")
        return [ACCEPTED] * len(messages)

    async def close(self) -> None:
        return None
