"""What is spent of budgets, shared by every worker that speaks to one Redis or Valkey."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from hashlib import blake2b
from typing import Any, Literal

import redis

from kernel.errors import Unavailable

#: sums and ids are kept so long after they were last touched: longer than any day is open
KEPT = timedelta(days=3)

#: sum and ids of one budget have one hash tag, so they lie on one node of a cluster
_SPEND = """
local spent = tonumber(redis.call('HGET', KEYS[1], 'spent') or '0')
if redis.call('SISMEMBER', KEYS[2], ARGV[2]) == 1 then return {'repeated', string.format('%.0f', spent)} end
if spent + tonumber(ARGV[1]) > tonumber(ARGV[3]) then return {'refused', string.format('%.0f', spent)} end
spent = redis.call('HINCRBY', KEYS[1], 'spent', ARGV[1])
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return {'spent', string.format('%.0f', spent)}
"""
_GIVE_BACK = """
if redis.call('SREM', KEYS[2], ARGV[2]) == 1 then redis.call('HINCRBY', KEYS[1], 'spent', '-' .. ARGV[1]) end
return redis.call('HGET', KEYS[1], 'spent') or '0'
"""
_SPENDING: dict[str, Literal["spent", "repeated", "refused"]] = {
    "spent": "spent",
    "repeated": "repeated",
    "refused": "refused",
}


class RedisBudgets:
    """Satisfies `realtime.pacing.Budgets`; safe for threads and processes. One round trip a call.

    The client's own timeouts bound how long an outage is waited for.
    """

    def __init__(self, client: Any, *, prefix: str = "growth") -> None:
        self._client, self._prefix = client, prefix
        self._spend = client.register_script(_SPEND)
        self._give_back = client.register_script(_GIVE_BACK)

    def spend(
        self, budget: str, amount: int, spend_id: str, at_most: int
    ) -> tuple[Literal["spent", "repeated", "refused"], int]:
        sums, ids = self._sums(budget), f"{self._sums(budget)}:ids"
        kept = int(KEPT.total_seconds())
        try:
            done, spent = self._spend(keys=[sums, ids], args=[amount, _plain(spend_id), at_most, kept])
        except (redis.RedisError, OSError) as error:
            raise Unavailable(f"the store of budgets does not answer: {error}") from error
        return _SPENDING[_text(done)], int(spent)

    def give_back(self, budget: str, amount: int, spend_id: str) -> int:
        sums, ids = self._sums(budget), f"{self._sums(budget)}:ids"
        try:
            return int(self._give_back(keys=[sums, ids], args=[amount, _plain(spend_id)]))
        except (redis.RedisError, OSError) as error:
            raise Unavailable(f"the store of budgets does not answer: {error}") from error

    def totals(self, budgets: Sequence[str], arrived: int) -> Sequence[tuple[int, int]]:
        try:
            asked = self._client.pipeline(transaction=False)
            for each in budgets:
                asked.hincrby(self._sums(each), "came", arrived)
                asked.hget(self._sums(each), "spent")
                asked.expire(self._sums(each), int(KEPT.total_seconds()))
            told = asked.execute()
        except (redis.RedisError, OSError) as error:
            raise Unavailable(f"the store of budgets does not answer: {error}") from error
        return [(int(spent or 0), int(came)) for came, spent in zip(told[::3], told[1::3], strict=True)]

    def _sums(self, budget: str) -> str:
        name = blake2b(budget.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        return f"{self._prefix}:budget:{{{name}}}"


def _text(answer: bytes | str) -> str:
    return answer.decode() if isinstance(answer, bytes) else answer


def _plain(spend_id: str) -> bytes:
    return spend_id.encode(errors="surrogatepass")
