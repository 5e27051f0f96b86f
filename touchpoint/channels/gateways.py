"""What a gateway for push, SMS, in-app messages or ad audiences has to do, and how a channel calls it.

An installed package offers one under the entry-point group `growth.gateways`: a callable that takes a
`Provider` and its secret (or None) and gives a `Gateway`; `Over` makes one of any of these Protocols.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from touchpoint.channels.message import Handed, Message


class PushGateway(Protocol):
    """Notifications to devices, such as FCM or APNs."""

    async def push(
        self, *, token: str, title: str, body: str, data: Mapping[str, str], key: str, user: str
    ) -> Handed:
        """`key`: the same for a repeat, which is dropped. A token that is gone: ACT_ON_IT, `bounced`.

        Outage: RETRIABLE with `down`.
        """


class SmsGateway(Protocol):
    """Text messages."""

    async def send(self, *, phone: str, text: str, key: str, user: str) -> Handed:
        """`phone` in E.164 form (+4915112345678). A number that cannot be: ACT_ON_IT, `bounced`.

        Outage: RETRIABLE with `down`.
        """


class InAppGateway(Protocol):
    """Messages that wait in the app until the user opens it."""

    async def show(self, *, user: str, title: str, body: str, data: Mapping[str, str], key: str) -> Handed:
        """A user without the app: ACT_ON_IT. Outage: RETRIABLE with `down`."""


class AudienceUpload(Protocol):
    """Custom audiences of an ad platform: hashed identifiers in, hashed identifiers out."""

    def add(self, audience: str, hashes: Sequence[str], *, key: str) -> None:
        """`hashes`: hexadecimal SHA-256 of normalised addresses. Again under the same key: nothing changes.

        Outage: raises Unavailable; nothing, or all of it, was taken.
        """

    def remove(self, audience: str, hashes: Sequence[str], *, key: str) -> None:
        """As `add`; who is not there is not missed."""


class Over:
    """A channel's gateway over a function that takes one message."""

    together = 1

    def __init__(self, one: Callable[[Message], Awaitable[Handed]], connections: int = 8) -> None:
        self._one, self.connections = one, connections

    async def deliver(self, messages: Sequence[Message]) -> Sequence[Handed]:
        return [await self._one(each) for each in messages]

    async def close(self) -> None:
        return None


def over_push(gateway: PushGateway) -> Over:
    return Over(
        lambda m: gateway.push(
            token=m.address, title=m.subject, body=m.text, data=_data(m), key=m.touch_id, user=m.user
        )
    )


def over_sms(gateway: SmsGateway) -> Over:
    return Over(lambda m: gateway.send(phone=m.address, text=m.text, key=m.touch_id, user=m.user))


def over_in_app(gateway: InAppGateway) -> Over:
    return Over(
        lambda m: gateway.show(user=m.user, title=m.subject, body=m.text, data=_data(m), key=m.touch_id)
    )


def _data(message: Message) -> dict[str, str]:
    said = {"touch_id": message.touch_id, "task": message.task, "run": message.run, "code": message.code}
    return {name: value for name, value in said.items() if value}
