"""Decisions and outcomes as records of the journal.

A decision is a fixed head, then text, then three JSON documents: its context, its actions in full, and the
rest. Who only passes by reads the head; who learns, the first two; the actions of a moment are mostly the
same bytes, and are parsed once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from struct import Struct
from typing import Any, NamedTuple, overload

from pydantic_core import PydanticSerializationError, to_json

from kernel.clock import aware
from kernel.learning import Action, Decision
from realtime.choosing import NO_POLICY
from realtime.rewards import Outcome

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: kind, decided (µs since 1970), chosen position, a policy chose, propensity, then lengths in bytes of:
#: moment, id, context, actions, rest
_DECISION = Struct("<cqH?dHHIII")
#: kind, received, occurred (µs since 1970), value, then lengths in bytes of: decision id, outcome id, name
_OUTCOME = Struct("<cqqdHHH")
#: kind and instant, which every record begins with
_HEAD = Struct("<cq")
#: actions up to this many bytes are parsed once and remembered
_SHORT = 1 << 14


class Choice(NamedTuple):
    """A decision in the journal, read as far as asked for."""

    decision_id: str
    moment: str
    #: microseconds since 1970, UTC
    decided: int
    #: position of what was chosen
    chosen: int
    propensity: float
    #: false: a safe default was answered, and no policy had a say
    by_policy: bool
    context_json: bytes
    actions_json: bytes
    rest_json: bytes

    @property
    def context(self) -> dict[str, Any]:
        context: dict[str, Any] = json.loads(self.context_json)
        return context

    @property
    def actions(self) -> Sequence[Action]:
        return _actions(self.actions_json) if len(self.actions_json) <= _SHORT else _parsed(self.actions_json)

    @property
    def actions_as_said(self) -> list[dict[str, Any]]:
        """As JSON has them."""
        said: list[dict[str, Any]] = json.loads(self.actions_json)
        return said

    @property
    def rest(self) -> dict[str, Any]:
        """User, session, idempotency key, propensities, policy, prices, reason, degraded, and what else
        it was written with."""
        rest: dict[str, Any] = json.loads(self.rest_json)
        return rest

    @property
    def decision(self) -> Decision:
        rest, actions = self.rest, self.actions
        return Decision(
            decision_id=self.decision_id,
            user_id=rest["user_id"],
            moment=self.moment,
            decided_at=_EPOCH + self.decided * _MICROSECOND,
            context=self.context,
            actions=tuple(each.id for each in actions),
            propensities=tuple(rest["propensities"]),
            action=actions[self.chosen].id,
            propensity=self.propensity,
            policy=rest["policy"],
            prices=rest["prices"],
            reason=rest["reason"],
            degraded=rest["degraded"],
        )


def micros(at: datetime, field: str) -> int:
    """Microseconds since 1970, UTC. Raises BadInput for an instant without a zone."""
    return (aware(at, field) - _EPOCH) // _MICROSECOND


def encode_decision(
    decision: Decision,
    offered: Sequence[Action],
    *,
    key: str | None = None,
    session_id: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> bytes:
    """`offered`: the actions of the decision, in its order. `more`: JSON to keep beside."""
    rest = {
        **(more or {}),
        "user_id": decision.user_id,
        "session_id": session_id,
        "idempotency_key": key,
        "propensities": decision.propensities,
        "policy": decision.policy,
        "prices": decision.prices,
        "reason": decision.reason,
        "degraded": decision.degraded,
    }
    return decision_record(
        decision.decision_id,
        decision.moment,
        micros(decision.decided_at, "decided_at"),
        decision.actions.index(decision.action),
        decision.propensity,
        decision.policy != NO_POLICY,
        decision.context,
        offered,
        rest,
    )


def decision_record(
    decision_id: str,
    moment: str,
    decided: int,
    chosen: int,
    propensity: float,
    by_policy: bool,
    context: Mapping[str, Any],
    offered: Sequence[Action],
    rest: Mapping[str, Any],
) -> bytes:
    """A `Choice` as it is written: `encode_decision` for whoever has no time for the noun."""
    place, name = _utf8(moment), _utf8(decision_id)
    told, actions, others = as_json(context), as_json([vars(each) for each in offered]), as_json(rest)
    head = _DECISION.pack(
        b"D",
        decided,
        chosen,
        by_policy,
        propensity,
        len(place),
        len(name),
        len(told),
        len(actions),
        len(others),
    )
    return b"".join((head, place, name, told, actions, others))


def replaced(record: bytes, context: bytes, actions: bytes, rest: bytes) -> bytes | None:
    """A decision's record with other JSON and the same length; None when that is too long for it."""
    *fixed, place, name, _, _, _ = _DECISION.unpack_from(record)
    start = _DECISION.size + place + name
    room = len(record) - start - len(context) - len(actions)
    if room < len(rest):
        return None
    head = _DECISION.pack(*fixed, place, name, len(context), len(actions), room)
    return b"".join((head, record[_DECISION.size : start], context, actions, rest.ljust(room)))


def encode_void(decision_id: str, at: int) -> bytes:
    """That a decision in this journal was never answered: nobody learns from it. `at`: µs since 1970."""
    return _HEAD.pack(b"V", at) + _utf8(decision_id)


def decode_void(record: bytes) -> str:
    """The id of the decision."""
    return _text(record[_HEAD.size :])


def encode_outcome(outcome: Outcome) -> bytes:
    texts = [_utf8(each) for each in (outcome.decision_id, outcome.outcome_id, outcome.name)]
    head = _OUTCOME.pack(b"O", outcome.received, outcome.occurred, outcome.value, *map(len, texts))
    return b"".join((head, *texts))


def head(record: bytes) -> tuple[bytes, int]:
    """Kind (`D`ecision, `O`utcome, `V`oid, or another that says nothing) and when it was made or received."""
    kind, at = _HEAD.unpack_from(record)
    return kind, at


def moment_of(record: bytes) -> str:
    """Of a decision."""
    length = _DECISION.unpack_from(record)[5]
    return _text(record[_DECISION.size : _DECISION.size + length])


def decode_decision(record: bytes) -> Choice:
    _, decided, chosen, by_policy, propensity, *lengths = _DECISION.unpack_from(record)
    moment, name, context, actions, rest = _cut(record, _DECISION.size, lengths)
    return Choice(_text(name), _text(moment), decided, chosen, propensity, by_policy, context, actions, rest)


def decode_outcome(record: bytes) -> Outcome:
    _, received, occurred, value, *lengths = _OUTCOME.unpack_from(record)
    decision_id, outcome_id, name = _cut(record, _OUTCOME.size, lengths)
    return Outcome(_text(decision_id), _text(outcome_id), _text(name), value, occurred, received)


def _cut(record: bytes, start: int, lengths: Sequence[int]) -> list[bytes]:
    parts = []
    for length in lengths:
        parts.append(record[start : start + length])
        start += length
    return parts


def as_json(value: object) -> bytes:
    try:
        return to_json(value)
    except PydanticSerializationError:  # a lone surrogate: to be escaped
        return json.dumps(value, separators=(",", ":")).encode()


def _utf8(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogatepass")


class _Offered(Sequence[Action]):
    """Actions as JSON has them, each built when it is looked at: who learns looks at one of many."""

    __slots__ = ("_built", "_raw")

    def __init__(self, raw: list[dict[str, Any]]) -> None:
        self._raw = raw
        self._built: dict[int, Action] = {}

    def __len__(self) -> int:
        return len(self._raw)

    @overload
    def __getitem__(self, place: int) -> Action: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Action]: ...
    def __getitem__(self, place: int | slice) -> Action | Sequence[Action]:
        if isinstance(place, slice):
            return tuple(self[each] for each in range(len(self))[place])
        if place not in self._built:
            # checked when it was asked for
            self._built[place] = Action.model_construct(**self._raw[place])
        return self._built[place]


def _parsed(raw: bytes) -> Sequence[Action]:
    return _Offered(json.loads(raw))


@lru_cache(maxsize=1 << 10)
def _actions(raw: bytes) -> Sequence[Action]:
    return _parsed(raw)
