"""Touches as the embedded store keeps them: a run of forty bytes each per user, household or other holder.

Users and households are there by their hashes, touches by their marks (`mark_of`), channels and other labels
by numbers. Every function works inside a caller's transaction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from struct import Struct
from threading import Lock
from typing import Any, NamedTuple

from kernel.caps import Held

RESERVED, CONFIRMED, RELEASED = b"RCX"
STATES = {RESERVED: "reserved", CONFIRMED: "confirmed", RELEASED: "released"}
#: first bytes of keys: a holder's run; where a touch of a mark lies; a label by number, a number by label
RUN, PLACE, LABEL, NUMBER = b"x", b"i", b"N", b"n"
HASH = 16
_RECORD = Struct("<qQIIIIIHBB")
RECORD = _RECORD.size
_MARK, _NUMBER = Struct(">Q"), Struct(">I")
_OURS = re.compile(r"[0-9a-f]{16}")
_SECOND = 1_000_000
#: mark of what would have 0, which stands for none
_MOST = 2**64 - 1
#: released and expired ones that are remembered of a holder, the newest
_DEAD = 64


class Record(NamedTuple):
    """One touch of one holder."""

    #: when it is to be, microseconds since 1970
    at: int
    #: of its id; 0: it has none, and cannot be settled
    mark: int
    #: when it last changed, seconds since 1970
    stamp: int
    #: a reservation counts before this second only; 0: until it is released
    expires: int
    #: numbers of labels; 0: none
    plan: int
    task: int
    activity: int
    channel: int
    #: its class, as in `kernel.caps.LETTERS`; and RESERVED, CONFIRMED or RELEASED
    letter: int
    state: int

    def alive(self, now: int) -> bool:
        """Whether it counts at `now`, microseconds."""
        return self.state == CONFIRMED or (
            self.state == RESERVED and (not self.expires or self.expires * _SECOND > now)
        )


def pack(records: Iterable[Record]) -> bytes:
    return b"".join([_RECORD.pack(*each) for each in records])


def unpack(raw: bytes) -> list[Record]:
    return [Record._make(each) for each in _RECORD.iter_unpack(raw)]


def hash_of(*parts: str) -> bytes:
    """Of a user, or of an entity and an id of it."""
    text = parts[0] if len(parts) == 1 else "\0".join(parts)
    return blake2b(text.encode(errors="surrogatepass"), digest_size=HASH).digest()


def mark_of(touch_id: str) -> int:
    """64 bits of a touch's id: those of an id of sixteen hexadecimal digits, such as a plan's, itself."""
    if _OURS.fullmatch(touch_id):
        return int(touch_id, 16) or _MOST
    digest = blake2b(touch_id.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") or _MOST


def place_of(mark: int) -> bytes:
    return PLACE + _MARK.pack(mark)


class Labels:
    """Names of channels, activities, tasks, plans and runs, and their numbers; each kind by its letter.

    A number once given is never another's, so what is known is kept in memory; what a transaction gives is
    known when it is `done`.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {"": 0}
        self._names: dict[int, str] = {0: ""}
        self._lock = Lock()

    def number(self, tx: Any, kind: str, name: str | None, new: list[tuple[int, str]]) -> int:
        """In a transaction that writes; a new one is appended to `new`."""
        if name is None or (name == "" and kind != "c"):
            return 0
        label = kind + name
        found = self._numbers.get(label)
        if found is None:
            place = NUMBER + hash_of(label)
            raw = tx.get(place)
            if raw is not None:
                found = _NUMBER.unpack(raw)[0]
                self.learn([(found, label)])
            else:
                found = next((number for number, same in new if same == label), None)
            if found is None:
                found = _last(tx) + 1
                put_label(tx, found, label)
                new.append((found, label))
        return int(found)

    def known(self, kind: str, name: str | None) -> int | None:
        """Without a transaction; None: it has to be looked up, or given."""
        return self._numbers.get(kind + name) if name else 0

    def name(self, get: Any, number: int) -> str:
        found = self._names.get(number)
        if found is None:
            raw = get(LABEL + _NUMBER.pack(number))
            label = "" if raw is None else bytes(raw).decode(errors="surrogatepass")
            self.learn([(number, label)])
            found = label[1:]
        return found

    def learn(self, found: Sequence[tuple[int, str]]) -> None:
        """After the transaction is done."""
        with self._lock:
            for number, label in found:
                self._numbers[label] = number
                self._names[number] = label[1:]

    def held(self, get: Any, records: Iterable[Record], now: int, but: int = 0) -> list[Held]:
        """Those that count, without the one of a mark."""
        name = self.name
        return [
            Held(each[0], name(get, each[7]), chr(each[8]), name(get, each[6]), name(get, each[5]))
            for each in records
            if each.alive(now) and (not but or each[1] != but)
        ]


def put_label(tx: Any, number: int, label: str) -> None:
    text = label.encode(errors="surrogatepass")
    tx.put(NUMBER + hash_of(label), _NUMBER.pack(number))
    tx.put(LABEL + _NUMBER.pack(number), text)


def labels_in(tx: Any) -> list[tuple[int, str]]:
    """All of them, in order of their numbers."""
    found, cursor = [], tx.cursor()
    if cursor.set_range(LABEL):
        for key, value in cursor:
            if key[:1] != LABEL:
                break
            found.append((_NUMBER.unpack(key[1:])[0], bytes(value).decode(errors="surrogatepass")))
    return found


def _last(tx: Any) -> int:
    cursor = tx.cursor()
    there = cursor.set_range(bytes([LABEL[0] + 1]))
    if not (cursor.prev() if there else cursor.last()) or cursor.key()[:1] != LABEL:
        return 0
    return int(_NUMBER.unpack(cursor.key()[1:])[0])


def kept(records: Sequence[Record], now: int, hold: int) -> tuple[list[Record], list[Record], int]:
    """Those that are kept for `hold` after they were, or last changed, and of the dead the newest; those that
    go; and until when any is kept. Microseconds."""
    stay, go, dead = list[Record](), list[Record](), 0
    until = 0
    for each in reversed(records):
        over = max(each.at, each.stamp * _SECOND) + hold
        if not each.alive(now):
            dead += 1
        if over <= now or (dead > _DEAD and not each.alive(now)):
            go.append(each)
        else:
            stay.append(each)
            until = max(until, over)
    stay.reverse()
    return stay, go, until


def drop_places(tx: Any, holder: bytes, gone: Iterable[Record]) -> None:
    """Forgets where touches lie that this holder, their user, holds no more."""
    for each in gone:
        if each.mark:
            place = place_of(each.mark)
            raw = tx.get(place)
            if raw is not None and bytes(raw[:HASH]) == holder:
                tx.delete(place)
