"""Receipts of providers and clicks on "unsubscribe": taken once, acted on at once, kept as fresh events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.channels import secret_of
from engine.dispatch_batch import Preparing
from engine.wiring import Workspace
from kernel.clock import instant, micros
from kernel.delivery import ReceiptKind
from kernel.errors import NotFound
from storage.events import EventLog, NewEvent
from storage.outbox_receipts import NewReceipt, Taken
from touchpoint.api import Forged, Provider, Receipt, read_receipts, verify_signature

#: what the events are called that receipts become: `touch_delivered`, `touch_opened`, …
EVENT = "touch_{}"
#: who tells, where a person followed the link in a message
_LINK = "link"


class ReceiptService:
    """Every method raises Unavailable when the database does not answer: then the sender tells again."""

    def __init__(self, space: Workspace) -> None:
        self._space = space
        self._log = EventLog(space.database, space.tombstones)
        self._preparing = Preparing(space, space.suppressions)

    def receive(
        self, provider: str, body: bytes, timestamp: str | None, signature: str | None
    ) -> list[dict[str, Any]]:
        """`[{receipt_id, status, cancelled}]`, durable; status `taken` or `repeated`.

        Raises NotFound for a provider that takes no receipts, Forged, BadInput: then nothing was taken.
        """
        known = {each.name: each for each in self._space.definitions().of(Provider)}
        if provider not in known or known[provider].receipts is None:
            takes = [name for name, each in known.items() if each.receipts is not None]
            raise NotFound("provider that takes receipts", provider, takes, field="provider")
        variable = known[provider].receipts or ""
        now = self._space.clock.now()
        verify_signature(secret_of(known[provider])(variable).encode(), body, timestamp, signature, now)
        return self.take(provider, read_receipts(body, now))

    def take(self, provider: str, receipts: Sequence[Receipt]) -> list[dict[str, Any]]:
        """Receipts that are known to be genuine. A kill between the two stores is mended when they are told
        again, which whoever was not answered does."""
        told = [
            NewReceipt(
                receipt_id=each.receipt_id,
                touch_id=each.touch_id,
                kind=each.kind,
                hard=each.hard,
                occurred_us=micros(each.occurred_at),
            )
            for each in receipts
        ]
        now = self._space.clock.now()
        taken = self._space.receipts.take(provider, told, micros(now))
        self._log.append([[_event(provider, each) for each in taken]], now)
        return [
            {
                "receipt_id": each.receipt.receipt_id,
                "status": "taken" if each.new else "repeated",
                "cancelled": each.cancelled,
            }
            for each in taken
        ]

    def unsubscribe(self, token: str) -> dict[str, Any]:
        """Who has the link of a message wants no more on that channel. Raises Forged for another text."""
        touch_id = self._preparing.touch_of(token)
        if touch_id is None:
            raise Forged("is not a link from a message of ours")
        now = self._space.clock.now()
        receipt = Receipt(  # by the minute: who came back and leaves again is heard again
            receipt_id=f"{touch_id}/{now:%Y%m%d%H%M}",
            touch_id=touch_id,
            kind=ReceiptKind.UNSUBSCRIBED,
            occurred_at=now,
        )
        return self.take(_LINK, [receipt])[0]

    def check_token(self, token: str) -> None:
        """Raises Forged for what is no link of ours; changes nothing."""
        if self._preparing.touch_of(token) is None:
            raise Forged("is not a link from a message of ours")


def _event(provider: str, taken: Taken) -> NewEvent:
    receipt = taken.receipt
    said = {
        "touch": receipt.touch_id,
        "channel": taken.channel,
        "task": taken.task,
        "goal": taken.goal,
        "content": taken.content,
        "run": taken.run,
        "provider": provider,
    }
    if receipt.kind is ReceiptKind.BOUNCED:
        said["hard"] = str(receipt.hard).lower()
    return NewEvent(
        event_id=f"{provider}/{receipt.receipt_id}"[:200],
        user_id=taken.user,
        name=EVENT.format(receipt.kind),
        occurred_at=instant(receipt.occurred_us),
        lines=[said],
    )
