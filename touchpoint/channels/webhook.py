"""Touches to a webhook: signed, with a key by which the receiver knows a repeat, one or many in a request.

Signature as in common use (Stripe, Standard Webhooks): HMAC-SHA256 over `TIMESTAMP.BODY`.
"""

from __future__ import annotations

import email.utils
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx

from touchpoint.channels.definitions import Provider
from touchpoint.channels.message import ACCEPTED, Answer, Handed, Message

SIGNATURE, TIMESTAMP, KEY = "growth-signature", "growth-timestamp", "idempotency-key"
#: answers after which the same may work later
_LATER = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
#: answers that speak of the receiver as a whole
_DOWN = frozenset({429, 502, 503, 504})
#: answers that say something about the address of the webhook or our key, and nothing about the message
_MISPLACED = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405, 410})


def sign(secret: bytes, timestamp: int, body: bytes) -> str:
    """`v1=` and the hexadecimal HMAC-SHA256 of `TIMESTAMP.BODY`."""
    return "v1=" + hmac.new(secret, b"%d." % timestamp + body, hashlib.sha256).hexdigest()


class Webhook:
    """POSTs JSON: one touch, or with `batch` above 1 `{"touches": […]}` answered by `{"results": […]}`."""

    def __init__(self, provider: Provider, secret: bytes, now: Callable[[], float] = time.time) -> None:
        self.together, self.connections = provider.batch, provider.connections
        self._url, self._secret, self._now = provider.url, secret, now
        limits = httpx.Limits(
            max_connections=provider.connections, max_keepalive_connections=provider.connections
        )
        self._client = httpx.AsyncClient(timeout=provider.timeout, limits=limits, follow_redirects=False)

    async def deliver(self, messages: Sequence[Message]) -> Sequence[Handed]:
        single = self.together == 1
        said: Any = as_json(messages[0]) if single else {"touches": [as_json(each) for each in messages]}
        body = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()
        at = int(self._now())
        headers = {
            "content-type": "application/json",
            TIMESTAMP: str(at),
            SIGNATURE: sign(self._secret, at, body),
            # the same messages in the same order are the same request
            KEY: messages[0].touch_id if single else _key(messages),
        }
        try:
            answer = await self._client.post(self._url, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            said_ = f"the webhook does not answer: {type(error).__name__} {error}".strip()
            return [Handed(answer=Answer.RETRIABLE, reason=said_, down=True)] * len(messages)
        if single or not answer.is_success:
            return [_judged(answer)] * len(messages)
        return _each(answer, messages)

    async def close(self) -> None:
        await self._client.aclose()


def as_json(message: Message) -> dict[str, Any]:
    """What the receiver gets of a touch; what is empty is left out."""
    said = {
        "touch_id": message.touch_id,
        "user_id": message.user,
        "address": message.address,
        "channel": message.channel,
        "run": message.run,
        "task": message.task,
        "message_class": message.message_class,
        "send_at": message.send_at.isoformat(),
        "local_time": message.local_time,
        "subject": message.subject,
        "text": message.text,
        "html": message.html,
        "code": message.code,
        "unsubscribe": message.unsubscribe,
    }
    return {name: value for name, value in said.items() if value}


def _key(messages: Sequence[Message]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for each in messages:
        digest.update(each.touch_id.encode() + b"\0")
    return digest.hexdigest()


def _judged(answer: httpx.Response) -> Handed:
    code = answer.status_code
    if answer.is_success:
        return Handed(answer=Answer.ACCEPTED, provider_id=_id(answer))
    reason = f"the webhook answered {code}: {answer.text[:200]}"
    if code in _LATER or code >= 500:
        after = retry_after(answer.headers, time.time())
        # an error of 500 may be this message's own fault, and must not hold up the others
        return Handed(answer=Answer.RETRIABLE, reason=reason, after=after, down=code in _DOWN)
    if code in _MISPLACED:
        return Handed(answer=Answer.RETRIABLE, reason=f"{reason} (see url and secret)", down=True)
    return Handed(answer=Answer.ACT_ON_IT, reason=reason)


def _id(answer: httpx.Response) -> str:
    try:
        found = answer.json() if answer.content else {}
    except ValueError:
        return ""
    return str(found.get("id", "")) if isinstance(found, dict) else ""


def _each(answer: httpx.Response, messages: Sequence[Message]) -> list[Handed]:
    """A receiver that says nothing of single touches has taken them all."""
    try:
        said = answer.json() if answer.content else {}
    except ValueError:
        said = {}
    results = said.get("results") if isinstance(said, dict) else None
    known: dict[str, Mapping[str, Any]] = {}
    for each in results if isinstance(results, list) else []:
        if isinstance(each, dict):
            known[str(each.get("touch_id"))] = each
    return [_one(known.get(message.touch_id)) for message in messages]


def _one(said: Mapping[str, Any] | None) -> Handed:
    if said is None:
        return ACCEPTED
    status, reason = str(said.get("status", "accepted")), str(said.get("reason", ""))[:200]
    if status == "accepted":
        return Handed(answer=Answer.ACCEPTED, provider_id=str(said.get("id", "")))
    if status == "retry":
        return Handed(answer=Answer.RETRIABLE, reason=reason or "the webhook asks to try later")
    return Handed(
        answer=Answer.ACT_ON_IT, reason=reason or "the webhook rejected it", bounced=status == "bounced"
    )


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait, from either form of the header (RFC 9110); at most an hour."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isdecimal():
        return min(float(text), 3600.0)
    try:
        then = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return min(max((then - datetime.fromtimestamp(now, UTC)).total_seconds(), 0.0), 3600.0)
