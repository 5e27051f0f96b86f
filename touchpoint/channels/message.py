"""What is handed to a provider, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One touch with everything that it takes to deliver it."""

    #: also the key by which a provider knows a repeat
    touch_id: str
    #: the user's own id, as text
    user: str
    #: e-mail address, phone number, token …
    address: str
    channel: str
    run: str
    task: str
    message_class: str
    #: when it was planned for; aware
    send_at: datetime
    #: the same on the user's wall, ISO
    local_time: str
    subject: str = ""
    text: str = ""
    html: str = ""
    #: coupon code
    code: str = ""
    #: address of one click that ends such messages; empty where there is none
    unsubscribe: str = ""


class Answer(StrEnum):
    ACCEPTED = "accepted"
    RETRIABLE = "retriable"  # it may work later
    ACT_ON_IT = "act_on_it"  # it never will, unless somebody changes something
    IN_DOUBT = "in_doubt"  # nobody can know whether it arrived


@dataclass(frozen=True, kw_only=True, slots=True)
class Handed:
    """What became of one message."""

    answer: Answer
    #: a sentence for a person
    reason: str = ""
    #: the provider asks to be left alone for so long, seconds
    after: float | None = None
    #: the provider's own name for it
    provider_id: str = ""
    #: the address as such was rejected for good: it is suppressed
    bounced: bool = False
    #: it was not this message's fault: the provider as a whole does not work just now
    down: bool = False


ACCEPTED = Handed(answer=Answer.ACCEPTED)


class Gateway(Protocol):
    """Delivers messages. One a dispatcher and provider; used from one thread's event loop."""

    #: most messages in one call
    together: int
    #: calls at once
    connections: int

    async def deliver(self, messages: Sequence[Message]) -> Sequence[Handed]:
        """An answer for each, in order. Raises nothing: what goes wrong is an answer.

        Outage: `RETRIABLE` with `down`; where it may have arrived already, `IN_DOUBT`.
        """

    async def close(self) -> None: ...
