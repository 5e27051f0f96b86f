"""What providers tell us of touches: the signature checked, the body read, before anything is believed."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from kernel.clock import aware
from kernel.definitions import Frozen, parse
from kernel.delivery import ReceiptKind
from kernel.errors import BadInput, GrowthError
from kernel.randomness import unit

#: receipts in one request
MOST = 1000
#: how far the sender's clock may be from ours; older requests are repeats of somebody who listened
TOLERANCE = timedelta(minutes=5)
#: a receipt may lie so far ahead, for clocks differ
AHEAD = timedelta(minutes=5)
_SIGNED = re.compile(r"v1=[0-9a-f]{64}")


def _check_text(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds characters that cannot be printed")
    return text


Id = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_check_text)]


class Receipt(Frozen):
    """One thing that happened to a touch."""

    #: given by the provider, the same when it tells again
    receipt_id: Id
    #: as it was handed over
    touch_id: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_check_text)]
    kind: ReceiptKind
    #: of a bounce: this address can never be reached
    hard: bool = False
    #: with a time zone
    occurred_at: datetime


class Forged(GrowthError):
    """The signature is missing, wrong or too old."""


def verify_signature(
    secret: bytes, body: bytes, timestamp: str | None, signature: str | None, now: datetime
) -> None:
    """As webhooks are signed: `v1=` HMAC-SHA256 of `TIMESTAMP.BODY`, in hexadecimal. Raises Forged."""
    if timestamp is None or signature is None:
        raise Forged("needs the headers growth-timestamp and growth-signature")
    if not timestamp.isdecimal() or abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        raise Forged("has a timestamp that is no Unix time within five minutes of ours")
    wanted = hmac.new(secret, f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    given = signature.strip()
    if not _SIGNED.fullmatch(given) or not hmac.compare_digest(given, f"v1={wanted}"):
        raise Forged("has a wrong signature")


def read_receipts(body: bytes, now: datetime) -> list[Receipt]:
    """One receipt or a list of them. Raises BadInput for the first that is wrong: then none counts."""
    try:
        raw: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"is not JSON: {error}", field="body") from None
    several = raw if isinstance(raw, list) else [raw]
    if not 0 < len(several) <= MOST:
        raise BadInput(f"are not 1 to {MOST:,}", field="receipts", value=len(several))
    return [_one(each, f"receipt {place + 1}", now) for place, each in enumerate(several)]


def _one(raw: object, where: str, now: datetime) -> Receipt:
    receipt = parse(Receipt, raw, where)
    at = aware(receipt.occurred_at, "occurred_at")
    if at > now + AHEAD:
        raise BadInput("lies ahead of now", where=where, field="occurred_at", value=at.isoformat())
    if receipt.hard and receipt.kind is not ReceiptKind.BOUNCED:
        raise BadInput("is for a bounce", where=where, field="hard", value=True)
    return receipt


#: what a sandbox tells of touches: kind → (share of those that arrived, minutes after it was sent)
SANDBOX_SHARES: Mapping[ReceiptKind, tuple[float, int]] = {
    ReceiptKind.OPENED: (0.30, 47),
    ReceiptKind.CLICKED: (0.06, 52),
    ReceiptKind.UNSUBSCRIBED: (0.01, 55),
}
_BOUNCING = 0.005


def sandbox_receipts(touch_id: str, sent_at: datetime, seed: int) -> list[Receipt]:
    """What a sandbox tells of a touch: the same for the same touch and seed. Each kind a share of users."""

    def drawn(kind: str) -> float:
        return unit(touch_id, f"sandbox {seed} {kind}")

    def told(kind: ReceiptKind, minutes: int, *, hard: bool = False) -> Receipt:
        return Receipt(
            receipt_id=f"{touch_id}/{kind}",
            touch_id=touch_id,
            kind=kind,
            hard=hard,
            occurred_at=sent_at + timedelta(minutes=minutes),
        )

    if drawn("bounced") < _BOUNCING:
        return [told(ReceiptKind.BOUNCED, 1, hard=True)]
    shares = SANDBOX_SHARES.items()
    happened = [told(kind, minutes) for kind, (share, minutes) in shares if drawn("fate") < share]
    return [told(ReceiptKind.DELIVERED, 1), *happened]
