"""An online store that lost everything, told again by the journals."""

from __future__ import annotations

from collections.abc import Iterator

from realtime.answers import Answer
from realtime.decider import Spend
from realtime.ports import JournalReader, OnlineStore, Position
from realtime.records import as_json, decode_decision, decode_outcome, decode_void, head


def retell(journal: JournalReader, store: OnlineStore, since: int, spend: Spend | None = None) -> int:
    """Touches, answers under keys and ids of outcomes since an instant (microseconds since 1970): how many
    records that were. Sessions begin anew, and fresh events are known again when the next one comes. `spend`
    is told what was spent, each use by its decision."""
    told = 0
    for writer in journal.writers():
        void = {decode_void(record) for kind, record in _records(journal, writer) if kind == b"V"}
        for kind, record in _records(journal, writer):
            at = head(record)[1]
            if at < since:
                continue
            if kind == b"O":
                told += store.report(decode_outcome(record).outcome_id, at)
            elif kind == b"D":
                choice = decode_decision(record)
                rest, action = choice.rest, choice.actions[choice.chosen]
                by_policy = choice.by_policy
                channel = action.channel if by_policy else None
                if choice.decision_id in void:
                    continue
                if by_policy and spend is not None and action.resource is not None:
                    spend(action.resource, 1.0, choice.decision_id)
                if channel is None and rest["idempotency_key"] is None:
                    continue
                answer = Answer(
                    choice.decision_id, choice.moment, action.id, choice.propensity, rest["policy"],
                    choice.decided, rest["reason"], rest["degraded"],
                )  # fmt: skip
                store.admit(
                    rest["user_id"], at, key=rest["idempotency_key"], answer=as_json(answer), session=None,
                    channel=channel, rooms=(),
                )  # fmt: skip
                told += 1
    return told


def _records(journal: JournalReader, writer: str) -> Iterator[tuple[bytes, bytes]]:
    after: Position = (0, 0)
    while records := journal.read(writer, after):
        after = records[-1][0]
        yield from ((head(record)[0], record) for _, record in records)
