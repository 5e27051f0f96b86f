"""A person taken out of the journal: her decisions and their outcomes go, others lose what names her.

Records keep their length, so that whoever reads goes on from where it was.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Protocol

from realtime.records import Choice, as_json, decode_decision, decode_outcome, head, replaced

#: bytes that a blank record has at least: kind and instant
_LEAST = 9


class Person(Protocol):
    """Who is to be forgotten: her ids as text, and how a value reads without her."""

    @property
    def texts(self) -> Collection[str]: ...

    def in_json(self, value: Any, key: object = "") -> Any: ...

    def in_text(self, text: str) -> str: ...


def decision_of(record: bytes, person: Person) -> str | None:
    """The decision's id when it is one of hers."""
    if head(record)[0] != b"D" or not _may_name(record, person):
        return None
    choice = decode_decision(record)
    return choice.decision_id if choice.rest["user_id"] in person.texts else None


def without(record: bytes, person: Person, hers: Collection[str]) -> bytes:
    """The record without her, as long as before. `hers`: ids of her decisions."""
    kind, _ = head(record)
    if kind == b"O":
        outcome = decode_outcome(record)
        told = (outcome.outcome_id, outcome.name)
        named = outcome.decision_id in hers or any(person.in_text(each) != each for each in told)
        named = named or any(each in person.texts for each in told)
        return _blank(record) if named else record
    if kind != b"D":
        return record
    choice = decode_decision(record)
    if choice.decision_id in hers:
        return _blank(record)
    return _redacted(record, choice, person) if _may_name(record, person) else record


def _redacted(record: bytes, choice: Choice, person: Person) -> bytes:
    context, actions = person.in_json(choice.context), person.in_json(choice.actions_as_said)
    rest = person.in_json(choice.rest)
    if len(actions) != len(choice.actions):
        return _blank(record)
    if (context, actions, rest) == (choice.context, choice.actions_as_said, choice.rest):
        return record
    # what stands for her may be longer than her id was
    shorter: dict[str, Any] = {}
    for told in (context, shorter):
        new = replaced(record, as_json(told), as_json(actions), as_json(rest))
        if new is not None:
            return new
    return _blank(record)


def _blank(record: bytes) -> bytes:
    """Says when, and nothing else."""
    return (b"X" + record[1:_LEAST]).ljust(len(record), b"\0")


def _may_name(record: bytes, person: Person) -> bool:
    """Whether her bytes are in it, as UTF-8 or as JSON escapes them."""
    return any(
        text.encode(errors="surrogatepass") in record
        or as_json(text)[1:-1] in record
        or _escaped(text) in record
        for text in person.texts
    )


def _escaped(text: str) -> bytes:
    return json.dumps(text)[1:-1].encode()
